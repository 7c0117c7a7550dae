"""The provider's Snowflake administrator: opens accounts, and runs SQL in them with a key pair."""

from __future__ import annotations

import hashlib
import ssl
import time
import uuid
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.administrators.control import SandboxControl

TOKEN_SECONDS = 300


@dataclass(frozen=True)
class SnowflakeError(Exception):
    """Snowflake's answer to a statement that it refused, with its HTTP status."""

    status: int
    code: str
    message: str


def new_key() -> rsa.RSAPrivateKey:
    """A key pair to sign in with."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key: rsa.RSAPrivateKey, passphrase: str | None = None) -> str:
    """PKCS #8, as Snowflake's documentation makes it with openssl."""
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def public_pem(key: rsa.RSAPrivateKey) -> str:
    """What ALTER USER … SET RSA_PUBLIC_KEY takes, with its header."""
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def signed_token(key: rsa.RSAPrivateKey, account: str, user: str, **changes: object) -> str:
    """The token of key-pair authentication; `changes` replace claims."""
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    subject = f"{account.partition('.')[0]}.{user}".upper()
    digest = b64encode(hashlib.sha256(public).digest()).decode()
    now = int(time.time())
    claims = {"iss": f"{subject}.SHA256:{digest}", "sub": subject, "iat": now, "exp": now + TOKEN_SECONDS, **changes}
    return jwt.encode(claims, key, algorithm="RS256")


class SnowflakeAdministrator:
    """One key pair for all accounts that it opened; user ADMIN in each."""

    user = "ADMIN"

    def __init__(self, env: Mapping[str, str], control: SandboxControl) -> None:
        self._env = env
        self._control = control
        self.key = new_key()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=self._env["SSL_CERT_FILE"]))
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))
        return self

    async def __aexit__(self, *unused: object) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def open_account(
        self, name: str, *users: str, edition: str = "BUSINESS_CRITICAL", rows: list[list[str]] | None = None
    ) -> dict[str, Any]:
        """An account with a table ORDERS; ADMIN and the named users sign in with `key`, as ACCOUNTADMIN if they ask for it."""
        about = {"public_keys": [public_pem(self.key)]}
        return await self._control.set_snowflake_account(
            name, edition=edition, users=dict.fromkeys((self.user, *users), about), tables={"ORDERS": rows or [["one order"]]}
        )

    async def send(self, account: str, body: Mapping[str, object], **options: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401 - as said below
        """POST a statement; status and answer. Options: `token`, `query` (of the URL), `headers`."""
        if self._session is None:
            raise RuntimeError("use it as an async context manager")
        token = options.get("token") or signed_token(self.key, account, self.user)
        headers = {
            "Authorization": f"Bearer {token}",
            "X-Snowflake-Authorization-Token-Type": "KEYPAIR_JWT",
            "Accept": "application/json",
            **(options.get("headers") or {}),
        }
        url = f"https://{account.lower()}.snowflakecomputing.com/api/v2/statements"
        async with self._session.request(
            options.get("method", "POST"),
            url + options.get("path", ""),
            json=body or None,
            params=options.get("query"),
            headers=headers,
            proxy=self._env["HTTPS_PROXY"],
        ) as response:
            return response.status, await response.json(content_type=None)

    async def run(self, account: str, statement: str, *, role: str = "ACCOUNTADMIN") -> list[list[str]]:
        """The rows of a statement. Raises SnowflakeError."""
        query = {"requestId": str(uuid.uuid4())}
        status, answer = await self.send(account, {"statement": statement, "role": role}, query=query)
        if status != 200:
            raise SnowflakeError(status, answer["code"], answer["message"])
        rows: list[list[str]] = answer["data"]
        return rows

    async def ask(self, account: str, call: str) -> str:
        """The one value of `SELECT <call>`. Raises SnowflakeError."""
        ((value,),) = await self.run(account, f"SELECT {call}")
        return value

    async def read(self, account: str, table: str = "ORDERS") -> list[list[str]]:
        """All rows of a table. Raises SnowflakeError."""
        return await self.run(account, f"SELECT * FROM {table}")  # noqa: S608 - the sandbox's own tables
