"""The format of a ciphertext, ALE1.

```
offset  bytes  what
0       4      "ALE1"
4       1      suite: 1 is XAES-256-GCM
5       16     id of the data key (UUID, RFC 9562)
21      24     nonce
45      n      ciphertext, as long as the plaintext
45+n    16     tag
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cmk_keyservice.problem import Kind, ProblemError, problem_error

MAGIC: Final = b"ALE1"
HEADER_LENGTH: Final = 21
XAES_256_GCM: Final = 1
"""XAES-256-GCM with a random nonce of 192 bits. Source: C2SP, XAES-256-GCM."""
OVERHEAD: Final = HEADER_LENGTH + 24 + 16
"""By how many bytes a ciphertext is longer than its plaintext."""
_KNOWN: Final = MAGIC + bytes([XAES_256_GCM])


@dataclass(frozen=True, slots=True)
class Ciphertext:
    """A ciphertext that was read: `sealed` is nonce, ciphertext and tag."""

    suite: int
    data_key_id: UUID
    sealed: bytes

    def __bytes__(self) -> bytes:
        """The format's bytes."""
        return header(self.suite, self.data_key_id) + self.sealed


def header(suite: int, data_key_id: UUID) -> bytes:
    """The first 21 bytes, which the tag covers too."""
    return b"%b%c%b" % (MAGIC, suite, data_key_id.bytes)


def header_of(data: bytes) -> bytes:
    """The header of a ciphertext. Raises ProblemError if the bytes are none, or of a suite that this release does not know."""
    if len(data) < OVERHEAD or not data.startswith(_KNOWN):
        raise _not_read(data)
    return data[:HEADER_LENGTH]


def data_key_id_of(begin: bytes) -> UUID:
    """The id of the data key in a header."""
    return UUID(bytes=begin[len(_KNOWN) :])


def parse(data: bytes) -> Ciphertext:
    """Read a ciphertext. Raises ProblemError as `header_of` does."""
    begin = header_of(data)
    return Ciphertext(begin[len(MAGIC)], data_key_id_of(begin), data[HEADER_LENGTH:])


def _not_read(data: bytes) -> ProblemError:
    if len(data) < OVERHEAD or not data.startswith(MAGIC):
        return problem_error(
            Kind.INVALID,
            "NotACiphertext",
            f"these {len(data)} bytes are no ciphertext of the key service: one has at least {OVERHEAD} and begins with ALE1",
            "Send the ciphertext as it was returned, complete and decoded once.",
        )
    return problem_error(
        Kind.INVALID,
        "UnknownSuite",
        f"the ciphertext is of suite {data[len(MAGIC)]}, which this release does not know",
        "If a newer release made it, the provider must update the key service; if not, the ciphertext is damaged.",
    )
