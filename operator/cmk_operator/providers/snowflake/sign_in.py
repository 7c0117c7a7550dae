"""Key-pair authentication: a short-lived token signed with the user's private key, which is never sent itself.

Source: Snowflake, "Authenticating to the server" of the SQL API.
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Final, Self

import jwt
from azure.core.credentials import AccessToken
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from cmk_operator.providers.snowflake.target import SnowflakeTarget

TOKEN_LIFETIME: Final = 3300
"""Seconds; Snowflake refuses tokens that are valid for longer than an hour."""


class PrivateKeyUnusableError(ValueError):
    """The Secret has no RSA private key in PEM, or its passphrase is missing or wrong."""


def load_private_key(target: SnowflakeTarget) -> rsa.RSAPrivateKey:
    """The private key from the Secret. Raises `PrivateKeyUnusableError`, whose message quotes nothing of the key."""
    try:
        key = serialization.load_pem_private_key(target.private_key, target.private_key_passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise PrivateKeyUnusableError("no private key in PEM that this passphrase decrypts") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise PrivateKeyUnusableError("the private key is not of type RSA")
    return key


class KeyPairCredential:
    """Signs tokens for one user of one account."""

    def __init__(self, target: SnowflakeTarget) -> None:
        self._key = load_private_key(target)
        public = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        # The region of an account locator is not part of the name.
        self._subject = f"{target.id.text.partition('.')[0]}.{target.user}".upper()
        self._fingerprint = b64encode(hashlib.sha256(public).digest()).decode()

    async def get_token(self, *scopes: str, **_: object) -> AccessToken:  # noqa: ARG002 - azure-core's protocol
        """A token for the SQL API."""
        now = int(time.time())
        claims = {
            "iss": f"{self._subject}.SHA256:{self._fingerprint}",
            "sub": self._subject,
            "iat": now,
            "exp": now + TOKEN_LIFETIME,
        }
        return AccessToken(jwt.encode(claims, self._key, algorithm="RS256"), now + TOKEN_LIFETIME)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
