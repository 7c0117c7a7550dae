"""The bodies of requests and answers. The OpenAPI document is made from these types, and requests are read by them.

A field of bytes is base64 (RFC 4648 section 4, with padding). Names are camelCase on the wire.
"""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations at run time

from msgspec import Meta, Struct

from cmk_keyservice.problem import Kind  # noqa: TC001 - msgspec reads the annotations at run time

MOST_ITEMS: Final = 250
MOST_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of a request's body."""
LARGEST_PLAINTEXT: Final = 1024 * 1024
LARGEST_CIPHERTEXT: Final = LARGEST_PLAINTEXT + 64
LARGEST_VALUE: Final = 64 * 1024
_BASE64: Final[dict[str, Any]] = {"pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"}
"""`contentEncoding` binds no validator (JSON Schema 2020-12, "Validation", section 8.3): the pattern does."""
_WORD: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$(?!\n)"
"""Python lets `$` match before a last line end; the lookahead does not, there and in ECMAScript."""
ORGANIZATION: Final = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"

Plaintext = Annotated[bytes, Meta(max_length=LARGEST_PLAINTEXT, extra_json_schema=_BASE64)]
Ciphertext = Annotated[bytes, Meta(min_length=1, max_length=LARGEST_CIPHERTEXT, extra_json_schema=_BASE64)]
Value = Annotated[bytes, Meta(max_length=LARGEST_VALUE, extra_json_schema=_BASE64)]
ShortKey = Annotated[bytes, Meta(min_length=16, max_length=64, extra_json_schema=_BASE64)]
Base64 = Annotated[bytes, Meta(extra_json_schema=_BASE64)]
Purpose = Annotated[
    str, Meta(pattern=_WORD, max_length=63, description="What the data is for, such as `orders`. One data key for each.")
]
Field = Annotated[str, Meta(pattern=_WORD, max_length=63, description="The field that is searched, such as `email`.")]
Service = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$(?!\n)",
        max_length=317,
        description="Whose data it is, as `namespace/name` of a ServiceAccount: the caller's, unless named. Another one than "
        "the caller's needs the verb `share`.",
    ),
]
Context = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=63)], Annotated[str, Meta(max_length=1024)]],
    Meta(
        max_length=16, description="What the ciphertext belongs to, such as table, column and record. It is bound, not stored."
    ),
]
Reference = Annotated[str, Meta(max_length=128, description="The caller's own mark of an item, given back as it is.")]


class Body(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True, gc=False):
    """What a request may hold; a field that nobody knows is refused. Bodies hold no cycles, so the collector need not look."""


class Result(Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True, gc=False):
    """What an answer holds; a field without a value is left out."""


class Encrypt(Body, frozen=True):
    """One plaintext to encrypt."""

    plaintext: Plaintext
    purpose: Purpose
    context: Context = {}
    service: Service | None = None
    reference: Reference | None = None


class Encrypted(Result, frozen=True):
    """A ciphertext, with the id of its data key, which it also carries."""

    ciphertext: Base64
    data_key_id: UUID
    reference: Reference | None = None


class Decrypt(Body, frozen=True):
    """One ciphertext to decrypt, with the context that it was encrypted with."""

    ciphertext: Ciphertext
    context: Context = {}
    service: Service | None = None
    reference: Reference | None = None


class Decrypted(Result, frozen=True):
    """A plaintext."""

    plaintext: Base64
    reference: Reference | None = None


class Reencrypt(Body, frozen=True):
    """One ciphertext to bring under the newest data key of its purpose, or into another context. No plaintext leaves."""

    ciphertext: Ciphertext
    context: Context = {}
    new_context: Context | None = None
    service: Service | None = None
    reference: Reference | None = None


class Reencrypted(Result, frozen=True):
    """The ciphertext to store now; `changed` is false if it is the one that was sent."""

    ciphertext: Base64
    data_key_id: UUID
    changed: bool
    reference: Reference | None = None


class Index(Body, frozen=True):
    """One value of a field to index. Equal values have equal indexes, within organization, service, purpose and field."""

    value: Value
    field: Field
    purpose: Purpose
    service: Service | None = None
    reference: Reference | None = None


class Indexed(Result, frozen=True):
    """A keyed index (HMAC-SHA256), to store beside the ciphertext and to search for. It does not change with the epoch."""

    index: Base64
    reference: Reference | None = None


class Wrap(Body, frozen=True):
    """One key of the caller's own to wrap, of 16 to 64 bytes."""

    key: ShortKey
    purpose: Purpose
    context: Context = {}
    service: Service | None = None
    reference: Reference | None = None


class Wrapped(Result, frozen=True):
    """The wrapped key, for the caller to store."""

    wrapped_key: Base64
    data_key_id: UUID
    reference: Reference | None = None


class Unwrap(Body, frozen=True):
    """One wrapped key, with the context that it was wrapped with."""

    wrapped_key: Ciphertext
    context: Context = {}
    service: Service | None = None
    reference: Reference | None = None


class Unwrapped(Result, frozen=True):
    """The caller's own key again."""

    key: Base64
    reference: Reference | None = None


class Rewrap(Body, frozen=True):
    """One wrapped key to bring under the newest data key of its purpose. The key itself does not leave."""

    wrapped_key: Ciphertext
    context: Context = {}
    service: Service | None = None
    reference: Reference | None = None


class Rewrapped(Result, frozen=True):
    """The wrapped key to store now; `changed` is false if it is the one that was sent."""

    wrapped_key: Base64
    data_key_id: UUID
    changed: bool
    reference: Reference | None = None


class GenerateDataKey(Body, frozen=True):
    """Ask for a data key that the caller encrypts with by itself."""

    purpose: Purpose
    service: Service | None = None


class UnwrapDataKey(Body, frozen=True):
    """Ask for the data key of a ciphertext that the caller decrypts by itself."""

    service: Service | None = None


class LeasedDataKey(Result, frozen=True):
    """A data key in the clear, which the caller must forget after `leaseSeconds`, counted from when it sent the request."""

    data_key_id: UUID
    key: Base64
    suite: int
    service: str
    purpose: str
    epoch: int
    lease_seconds: float


class ProblemBody(
    Struct, frozen=True, omit_defaults=True, rename={"kind": "class", "retry_after": "retryAfter"}, kw_only=True, gc=False
):
    """A problem (RFC 9457). `class` decides what the caller does next; `code` is one stable word; `remedy` says who must act."""

    type: str
    title: str
    status: int
    detail: str
    kind: Kind
    code: str
    remedy: str
    retryable: bool
    retry_after: float | None = None


class Refused(Result, frozen=True):
    """What stands in the place of a result in a batch: the problem of this item alone."""

    problem: ProblemBody
    reference: Reference | None = None
