"""What a key in a vault wraps: a data key and the digest of its context, because RSA-OAEP in Key Vault binds no context itself."""

from __future__ import annotations

from hmac import compare_digest
from typing import Final

from cmk_keyservice.crypto.suites import KEY_LENGTH
from cmk_keyservice.problem import Kind, problem_error

DIGEST_LENGTH: Final = 32
PAYLOAD_LENGTH: Final = KEY_LENGTH + DIGEST_LENGTH
"""64 bytes: below the 190 that RSA-OAEP-256 with 2048 bits can wrap. Source: RFC 8017, section 7.1.1."""


def pack(material: bytes, context_digest: bytes) -> bytes:
    """The 64 bytes to wrap; `context_digest` is of `context.data_key_digest`."""
    if len(material) != KEY_LENGTH or len(context_digest) != DIGEST_LENGTH:
        raise ValueError("a data key and a digest have 32 bytes each")
    return material + context_digest


def unpack(payload: bytes, context_digest: bytes) -> bytes:
    """The data key. Raises ProblemError if the payload was made for another context, such as another organization's row."""
    if len(payload) != PAYLOAD_LENGTH or not compare_digest(payload[KEY_LENGTH:], context_digest):
        raise problem_error(
            Kind.INVALID,
            "DataKeyAltered",
            "the wrapped key belongs to another data key than its row says: somebody changed the database",
            "The provider must restore the row of this data key from a backup, and find out who wrote to the database.",
        )
    return payload[:KEY_LENGTH]
