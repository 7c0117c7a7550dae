"""Signatures by the Standard Webhooks specification, made with its own library."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from standardwebhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_PREFIX: Final = "whsec_"
_LEAST_BYTES: Final = 24
_MOST_BYTES: Final = 64


class UnusableSecretError(ValueError):
    """A text is not a Standard Webhooks signing secret. The message says what one looks like, and contains nothing of the text."""


class Signer:
    """Signs bodies with one secret."""

    def __init__(self, secret: bytes) -> None:
        """Accept `whsec_` and base64, as the specification defines; raise `UnusableSecretError` for anything else."""
        try:
            text = secret.decode("ascii").strip()
            key = base64.b64decode(text.removeprefix(_PREFIX), validate=True) if text.startswith(_PREFIX) else b""
        except (UnicodeDecodeError, binascii.Error):
            key = b""
        if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
            raise UnusableSecretError(
                f"a signing secret is {_PREFIX} followed by {_LEAST_BYTES} to {_MOST_BYTES} bytes in base64, such as "
                f"{_PREFIX}$(openssl rand -base64 32)"
            )
        self._webhook = Webhook(key)

    def headers(self, event_id: str, at: datetime, body: str) -> Mapping[str, str]:
        """The three headers of one message; `at` is when it is sent, in UTC.

        Source: Standard Webhooks, "Signature scheme".
        """
        return {
            "webhook-id": event_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._webhook.sign(event_id, at, body),
        }
