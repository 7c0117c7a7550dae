"""Contexts: what a ciphertext or a wrapped key is bound to, as bytes that no other context has.

A context is a list of pairs of a name and a value: the number of pairs, then for each text its length and its UTF-8. Numbers have
4 bytes, the most significant first. Two different lists never have the same bytes, and none is the beginning of another's. A list
without the lengths would not do: ("ab", "c") and ("a", "bc") would be one context.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cmk_keyservice.problem import Kind, problem_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

_LONGEST: Final = 2**32 - 1


def encode(pairs: Sequence[tuple[str, str]]) -> bytes:
    """The bytes of a context; the order of the pairs counts. Raises ProblemError if a text is not Unicode or too long."""
    parts = [_number(len(pairs))]
    try:
        for name, value in pairs:
            first, second = name.encode(), value.encode()
            parts += (_SHORT[len(first)], first, _SHORT[len(second)], second)
    except (IndexError, UnicodeEncodeError):
        parts = [_number(len(pairs)), *(part for pair in pairs for text in pair for part in _parts(text))]
    return b"".join(parts)


def common_context(organization: str, service: str, purpose: str) -> bytes:
    """The beginning of `data_context` that all data of a purpose has in common."""
    return encode([("context", "data"), ("organization", organization), ("service", service), ("purpose", purpose)])


def data_context(organization: str, service: str, purpose: str, context: Mapping[str, str]) -> bytes:
    """What the ciphertext of a service's data is bound to; the order of the caller's `context` does not count."""
    return common_context(organization, service, purpose) + own_context(context)


def own_context(context: Mapping[str, str]) -> bytes:
    """The end of `data_context`: what the caller gives with one item."""
    return encode(sorted(context.items()))


def data_key_context(organization: str, data_key: UUID, service: str, purpose: str, epoch: int, suite: int) -> bytes:
    """What the wrap of a data key is bound to."""
    return encode(
        [
            ("context", "data key"),
            ("organization", organization),
            ("data key", str(data_key)),
            ("service", service),
            ("purpose", purpose),
            ("epoch", str(epoch)),
            ("suite", str(suite)),
        ]
    )


def data_key_digest(organization: str, data_key: UUID, service: str, purpose: str, epoch: int, suite: int) -> bytes:
    """The SHA-256 of `data_key_context`: 32 bytes, wrapped together with the data key."""
    return sha256(data_key_context(organization, data_key, service, purpose, epoch, suite)).digest()


def edek_context(organization: str, data_key: UUID, kid: str, epoch: int) -> bytes:
    """What the seal of an EDEK by the internal key ring is bound to."""
    pairs = [("organization", organization), ("data key", str(data_key)), ("kid", kid), ("epoch", str(epoch))]
    return encode([("context", "EDEK"), *pairs])


def credentials_context(organization: str, uid: str, revision: int, kid: str) -> bytes:
    """What the seal of an organization's credentials by the internal key ring is bound to."""
    pairs = [("organization", organization), ("uid", uid), ("revision", str(revision)), ("kid", kid)]
    return encode([("context", "credentials"), *pairs])


def index_context(field: str) -> bytes:
    """What the key of a field's index is derived for."""
    return encode([("context", "index"), ("field", field)])


def _number(number: int) -> bytes:
    return number.to_bytes(4)


_SHORT: Final = tuple(map(_number, range(256)))
"""The lengths that nearly every text has, encoded once: this is done for each item of a batch."""


def _parts(text: str) -> tuple[bytes, bytes]:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise problem_error(
            Kind.INVALID, "TextNotUnicode", "a text of the context is not valid Unicode", "Send text without lone surrogates."
        ) from None
    if len(encoded) > _LONGEST:
        raise problem_error(Kind.INVALID, "TextTooLong", "a text of the context has 4 GiB or more", "Send a shorter context.")
    return _number(len(encoded)), encoded
