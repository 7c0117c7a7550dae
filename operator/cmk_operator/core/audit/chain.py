"""Entries of the audit record; each holds the digest of the one before, so that a change or removal is detected.

An entry is one line: the canonical JSON (RFC 8785) of an object whose `hash` is the SHA-256, in hex, of the canonical JSON of all
its other fields. `previous` is the `hash` of the entry before, 64 zeros for the first; `sequence` counts from 1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol

import rfc8785

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIGEST_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class Anchor:
    """A position in the chain: the number of an entry and its digest."""

    sequence: int
    digest: str


ORIGIN: Final = Anchor(0, "0" * _DIGEST_LENGTH)
"""The anchor before the first entry."""


class Recordable(Protocol):
    """What an entry can record."""

    def wire(self) -> dict[str, Any]:
        """The fields of the entry, without those of the chain."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it was read; `digest` is what it states, and `is_intact` checks it against the content."""

    sequence: int
    previous: str
    digest: str
    body: Mapping[str, Any]
    line: str

    @property
    def anchor(self) -> Anchor:
        """Its position in the chain."""
        return Anchor(self.sequence, self.digest)

    @property
    def is_intact(self) -> bool:
        """Whether the stated digest matches the content, and the line is its canonical form."""
        return self.line == canonical(self.body) and self.digest == _digest_of(self.body)


@dataclass(frozen=True, slots=True)
class Line:
    """One line that should be an entry, where it was found, and the sequence number implied by that place, if any."""

    text: str
    place: str
    number: int | None = None


def canonical(value: object) -> str:
    """The canonical JSON of a value. Source: RFC 8785."""
    return rfc8785.dumps(value).decode()  # type: ignore[arg-type]  # a value of JSON, checked by the library


def follow(anchor: Anchor, change: Recordable) -> Entry:
    """The entry that records a change directly after `anchor`."""
    body = change.wire() | {"sequence": anchor.sequence + 1, "previous": anchor.digest}
    body["hash"] = _digest_of(body)
    return Entry(anchor.sequence + 1, anchor.digest, body["hash"], body, canonical(body))


def parse_entry(line: str) -> Entry | None:
    """Parse an entry from its line; None if the line is not an entry."""
    try:
        body = json.loads(line)
        rfc8785.dumps(body)
    except (ValueError, RecursionError):  # the library's errors are ValueErrors too
        return None
    return entry_of(body, line)


def entry_of(body: object, line: str | None = None) -> Entry | None:
    """Parse an entry from its JSON object, as a log line holds it; None if a required field is missing."""
    if not isinstance(body, dict):
        return None
    sequence, previous, digest = body.get("sequence"), body.get("previous"), body.get("hash")
    if type(sequence) is not int or sequence < 1 or not _is_digest(previous) or not _is_digest(digest):
        return None
    return Entry(sequence, str(previous), str(digest), body, line if line is not None else canonical(body))


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == _DIGEST_LENGTH


def _digest_of(body: Mapping[str, Any]) -> str:
    return sha256(rfc8785.dumps({name: value for name, value in body.items() if name != "hash"})).hexdigest()
