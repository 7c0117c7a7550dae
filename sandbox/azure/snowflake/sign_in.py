"""Key-pair authentication: the JSON Web Token is verified as Snowflake does, and every fault of it is 390144.

https://docs.snowflake.com/en/developer-guide/sql-api/authenticating: RS256; `iss` is ACCOUNT.USER.SHA256:fingerprint, `sub` is
ACCOUNT.USER, in upper case; `exp` at most an hour after `iat`.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jwt
from cryptography.hazmat.primitives import serialization

from sandbox.azure.snowflake.errors import invalid_token, not_signed_in

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

    from sandbox.azure.snowflake.model import Account, User

LONGEST_SECONDS = 3600
_SKEW_SECONDS = 60


@dataclass(frozen=True)
class Session:
    """Who speaks, in which role."""

    account: Account
    user: User
    role: str

    def may(self, *privileges: str) -> bool:
        """Whether the role has one of these privileges on the account."""
        return bool(self.account.roles.get(self.role, frozenset()) & set(privileges))


def fingerprint(key: rsa.RSAPublicKey) -> str:
    """`SHA256:` and the digest of the public key (DER), in base64."""
    public = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "SHA256:" + b64encode(hashlib.sha256(public).digest()).decode()


def user_of(account: Account, token: str) -> User:
    """The user whose key signed the token. Raises SnowflakeRefusedError 401."""
    if account.suspended:
        raise not_signed_in(
            "390913", "Your account is suspended. Contact your Snowflake account administrator or Snowflake Support."
        )
    try:
        issuer = str(jwt.decode(token, options={"verify_signature": False}).get("iss", ""))
    except jwt.PyJWTError as error:
        raise invalid_token() from error
    for name in (account.name, account.locator):
        for user in account.users.values():
            subject = f"{name}.{user.name}".upper()
            for key in user.public_keys:
                if issuer == f"{subject}.{fingerprint(key)}":
                    _verified(token, key, subject)
                    return _admitted(user)
    raise invalid_token()


def _verified(token: str, key: rsa.RSAPublicKey, subject: str) -> None:
    try:
        claims = jwt.decode(
            token, key, algorithms=["RS256"], leeway=_SKEW_SECONDS, options={"require": ["iss", "sub", "iat", "exp"]}
        )
    except jwt.PyJWTError as error:
        raise invalid_token() from error
    if claims["sub"] != subject or claims["exp"] - claims["iat"] > LONGEST_SECONDS:
        raise invalid_token()


def _admitted(user: User) -> User:
    if user.disabled:
        raise not_signed_in("390101", "User access disabled. Contact your local system administrator.")
    if user.locked:
        raise not_signed_in(
            "390102",
            "Your user account has been temporarily locked due to too many failed attempts. Try again after 15 minutes or contact "
            "your account administrator for assistance.",
        )
    return user


def session(account: Account, user: User, role: str | None) -> Session:
    """A session in the wanted or the user's default role. Raises SnowflakeRefusedError 401."""
    wanted = (role or user.default_role).upper()
    if wanted not in user.roles:
        raise not_signed_in(
            "390186",
            f"Role '{wanted}' specified in the connect string is not granted to this user. Contact your local system administrator, or "
            "attempt to login with another role, e.g. PUBLIC.",
        )
    return Session(account, user, wanted)
