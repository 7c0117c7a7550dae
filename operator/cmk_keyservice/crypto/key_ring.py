"""The platform's own key rings: Tink keysets whose primary key encrypts and whose every key decrypts.

The internal key ring seals EDEKs and credentials in the database. The platform key ring stands for a vault where an organization
brings no key. Each ciphertext begins with the number of its key: byte 1, then 4 bytes (Tink's prefix).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import tink
from tink import aead, core, json_proto_keyset_format, proto_keyset_format, secret_key_access
from tink.proto import tink_pb2

from cmk_keyservice.crypto.suites import XAES_TYPE_URL
from cmk_keyservice.problem import Kind, ProblemError, problem_error

_PREFIX_LENGTH: Final = 5
_TEMPLATE: Final = aead.aead_key_templates.XAES_256_GCM_192_BIT_NONCE

aead.register()


class RingName(StrEnum):
    """Which ring, as problems name it."""

    INTERNAL = "Internal"
    PLATFORM = "Platform"

    @property
    def words(self) -> str:
        """The ring in words."""
        return f"{self.value.lower()} key ring"


class KeyRing:
    """A ring that was read; nothing prints its keys."""

    def __init__(self, name: RingName, handle: Any, primary: int, key_ids: frozenset[int]) -> None:  # noqa: ANN401 - Tink
        self.name: Final = name
        self.primary_id: Final = primary
        self.key_ids: Final = key_ids
        self._aead: Final[Any] = handle.primitive(aead.Aead)

    def __repr__(self) -> str:
        return f"KeyRing({self.name.value}, primary {self.primary_id})"

    @classmethod
    def parse(cls, name: RingName, document: bytes | None) -> KeyRing:
        """Read a ring from its file's content, None if there is no file. Raises ProblemError if it cannot be used."""
        if document is None:
            raise missing(name, "its file does not exist")
        keyset = _keyset(name, document)
        enabled = {key.key_id for key in keyset.key if key.status == tink_pb2.ENABLED}
        return cls(name, _handle(keyset), keyset.primary_key_id, frozenset(enabled))

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Seal by the primary key."""
        sealed: bytes = self._aead.encrypt(plaintext, associated_data)
        return sealed

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """Open what any key of the ring sealed. Raises ProblemError: the key is not in the ring, or the value was changed."""
        try:
            plaintext: bytes = self._aead.decrypt(sealed, associated_data)
        except core.TinkError:
            key_id = key_id_of(sealed)
            if key_id is not None and key_id not in self.key_ids:
                raise missing(self.name, f"key {key_id} is not in it, only {_listed(self.key_ids)}") from None
            raise problem_error(
                Kind.INVALID,
                "StoredValueAltered",
                f"a value that the {self.name.words} sealed was changed or belongs to another row: somebody changed the database",
                "The provider must restore the row from a backup, and find out who wrote to the database.",
            ) from None
        return plaintext


def key_id_of(sealed: bytes) -> int | None:
    """The number of the key that sealed the value; None if the value has no such prefix. Source: Tink, wire format."""
    if len(sealed) < _PREFIX_LENGTH or sealed[0] != 1:
        return None
    return int.from_bytes(sealed[1:_PREFIX_LENGTH])


def missing(name: RingName, what: str) -> ProblemError:
    """The problem of a ring that is not the one that is needed."""
    return problem_error(
        Kind.UNAVAILABLE,
        f"{name.value}KeyUnavailable",
        f"the {name.words} cannot be used: {what}",
        f"The provider must restore the Secret of the {name.words}, in a version that holds this key. "
        "Do not make a new ring: without the old one nothing in the database can be read.",
    )


def new_key_ring() -> bytes:
    """A ring with one new key, as the JSON of a Tink keyset: only for a new database."""
    return _document(tink.new_keyset_handle(_TEMPLATE))


def with_new_key(name: RingName, document: bytes) -> bytes:
    """The ring with one more key, which decrypts at once and encrypts after `with_primary`: all replicas must have it first."""
    keyset = _keyset(name, document)
    taken = {key.key_id for key in keyset.key}
    while True:
        added = _proto(tink.new_keyset_handle(_TEMPLATE))
        if added.primary_key_id not in taken:
            keyset.key.extend(added.key)
            return _document(_handle(keyset))


def with_primary(name: RingName, document: bytes, key_id: int) -> bytes:
    """The ring that encrypts by this key from now on. Raises ProblemError if it is not in the ring."""
    keyset = _keyset(name, document)
    _require(name, keyset, key_id)
    keyset.primary_key_id = key_id
    return _document(_handle(keyset))


def without_key(name: RingName, document: bytes, key_id: int) -> bytes:
    """The ring without a key that nothing is sealed by any more. Raises ProblemError if it is the primary or not in it."""
    keyset = _keyset(name, document)
    _require(name, keyset, key_id)
    if keyset.primary_key_id == key_id:
        raise problem_error(
            Kind.INVALID,
            "KeyInUse",
            f"key {key_id} is the one that the {name.words} encrypts by",
            "Make another key the primary one, seal all rows again, then remove this one.",
        )
    kept = [key for key in keyset.key if key.key_id != key_id]
    return _document(_handle(tink_pb2.Keyset(primary_key_id=keyset.primary_key_id, key=kept)))


def _require(name: RingName, keyset: Any, key_id: int) -> None:  # noqa: ANN401 - Tink has no types
    ids = frozenset(key.key_id for key in keyset.key)
    if key_id not in ids:
        raise problem_error(
            Kind.INVALID,
            "NoSuchKey",
            f"key {key_id} is not in the {name.words}, only {_listed(ids)}",
            "Name one of these keys.",
        )


def _keyset(name: RingName, document: bytes) -> Any:  # noqa: ANN401 - Tink has no types
    """The keyset of a document, all of whose keys are XAES keys with Tink's prefix."""
    try:
        keyset = _proto(json_proto_keyset_format.parse(document.decode(), secret_key_access.TOKEN))
        _handle(keyset).primitive(aead.Aead).encrypt(b"", b"")
    except (core.TinkError, UnicodeDecodeError):
        raise missing(name, "its file is not a Tink keyset (JSON) with an enabled primary key") from None
    if any(key.key_data.type_url != XAES_TYPE_URL or key.output_prefix_type != tink_pb2.TINK for key in keyset.key):
        raise missing(name, "one of its keys is not an XAES-256-GCM key with Tink's prefix")
    return keyset


def _proto(handle: Any) -> Any:  # noqa: ANN401 - Tink has no types
    return tink_pb2.Keyset.FromString(proto_keyset_format.serialize(handle, secret_key_access.TOKEN))


def _handle(keyset: Any) -> Any:  # noqa: ANN401 - Tink has no types
    return proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)


def _document(handle: Any) -> bytes:  # noqa: ANN401 - Tink has no types
    return json_proto_keyset_format.serialize(handle, secret_key_access.TOKEN).encode() + b"\n"  # type: ignore[no-any-return]


def _listed(ids: frozenset[int]) -> str:
    return ", ".join(str(key_id) for key_id in sorted(ids))
