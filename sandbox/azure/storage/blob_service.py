"""The blob service at `https://<account>.blob.core.windows.net`: Entra tokens only, real envelope encryption."""

from __future__ import annotations

import os
import re
import uuid
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sandbox.azure.clock import http_date
from sandbox.azure.endpoints import here
from sandbox.azure.entra.tokens import STORAGE_AUDIENCES, Claims, TokenInvalidError
from sandbox.azure.errors import BlobRefusedError
from sandbox.azure.exchange import Answer, Exchange, Router
from sandbox.azure.key_vault.service_access import KeyUnreachableError
from sandbox.azure.storage.key_protection import CODES
from sandbox.azure.storage.model import Blob, Container, StorageAccount

if TYPE_CHECKING:
    from sandbox.azure.arm.authorization import Authorization
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.tokens import Tokens
    from sandbox.azure.storage.key_protection import KeyProtection
    from sandbox.azure.storage.model import StorageAccounts

CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"
OLDEST_VERSION = "2017-11-09"  # the first that takes Entra tokens
LARGEST_BODY = 64 * 1024 * 1024
KEY_MESSAGES = {
    "KeyVaultAccessTokenCannotBeAcquired": "The key vault access token cannot be acquired from Entra using this resource's identity.",
    "KeyVaultEncryptionKeyNotFound": "The key vault key is not found to unwrap the encryption key.",
    "KeyVaultVaultNotFound": "The key vault is not found for encryption.",
}


def refused(status: int, code: str, message: str) -> BlobRefusedError:
    """One of the common REST errors."""
    return BlobRefusedError(status, code, message)


class BlobService:
    """Containers and block blobs of every account; the host says which account."""

    def __init__(
        self,
        *,
        accounts: StorageAccounts,
        tokens: Tokens,
        authorization: Authorization,
        protection: KeyProtection,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._authorization = authorization
        self._protection = protection
        self._clock = clock
        self.router = Router()
        add = self.router.add
        add("PUT", "/{container}", self.create_container)
        add("DELETE", "/{container}", self.delete_container)
        add("GET", "/{container}", self.get_container)
        add("HEAD", "/{container}", self.get_container)
        add("PUT", "/{container}/{blob:path}", self.put_blob)
        add("GET", "/{container}/{blob:path}", self.get_blob)
        add("HEAD", "/{container}/{blob:path}", self.get_blob)
        add("DELETE", "/{container}/{blob:path}", self.delete_blob)

    async def serve(self, exchange: Exchange) -> Answer:
        """Find the operation and run it. Raises BlobRefusedError."""
        found = self.router.find(exchange)
        if found is None:
            raise refused(400, "InvalidUri", "The requested URI does not represent any resource on the server.")
        version = exchange.headers.get("x-ms-version", "")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", version) or version < OLDEST_VERSION:
            raise refused(400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.")
        handler, matched = found
        answer = await handler(matched)
        headers = {"x-ms-version": version, "Server": "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0", **answer.headers}
        return Answer(answer.status, answer.json, answer.content, answer.media_type, headers)

    def _admitted(self, exchange: Exchange, action: str, *, data: bool) -> StorageAccount:
        account = self._accounts.find(exchange.host.split(".")[0])
        if account is None:
            raise refused(404, "ResourceNotFound", "The specified resource does not exist.")
        claims = self._caller(exchange, account)
        exchange.notes.principal, exchange.notes.application = claims.object_id, claims.app_id
        scope = f"{account.id}/blobServices/default/containers/{exchange['container']}"
        if not self._authorization.allows(claims.object_id, action, scope, data=data):
            raise refused(
                403,
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation using this permission.",
            )
        if str(account.settings.get("publicNetworkAccess", "Enabled")) != "Enabled":
            raise refused(403, "AuthorizationFailure", "This request is not authorized to perform this operation.")
        return account

    def _caller(self, exchange: Exchange, account: StorageAccount) -> Claims:
        challenge = (
            f"Bearer authorization_uri={here().authority}/{account.tenant_id}/oauth2/authorize "
            "resource_id=https://storage.azure.com"
        )
        token = exchange.bearer()
        if token is None:
            raise BlobRefusedError(
                401,
                "NoAuthenticationInformation",
                "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
                headers={"WWW-Authenticate": challenge},
            )
        unauthenticated = BlobRefusedError(
            401,
            "InvalidAuthenticationInfo",
            "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the "
            "signature.",
            headers={"WWW-Authenticate": challenge},
        )
        try:
            claims = self._tokens.verify(token, STORAGE_AUDIENCES | {f"https://{account.host}"})
        except TokenInvalidError as error:
            raise unauthenticated from error
        if claims.tenant_id != account.tenant_id:
            raise unauthenticated
        return claims

    async def _data_key(self, account: StorageAccount) -> bytes:
        try:
            return await self._protection.data_key(account)
        except KeyUnreachableError as error:
            code = CODES[error.barrier]
            raise refused(403, code, KEY_MESSAGES[code]) from error

    async def _key_of(self, account: StorageAccount, scope_name: str | None) -> bytes:
        """The data key of an encryption scope, or the account's. The codes for scopes are not documented."""
        if scope_name is None:
            return await self._data_key(account)
        scope = account.scopes.get(scope_name)
        if scope is None:
            raise refused(404, "EncryptionScopeNotFound", "The specified encryption scope does not exist.")
        if scope.state != "Enabled":
            raise refused(403, "EncryptionScopeDisabled", "The specified encryption scope is disabled.")
        try:
            return await self._protection.unwrapped_scope(account, scope)
        except KeyUnreachableError as error:
            code = CODES[error.barrier]
            raise refused(403, code, KEY_MESSAGES[code]) from error

    @staticmethod
    def _container(account: StorageAccount, name: str) -> Container:
        container = account.containers.get(name)
        if container is None:
            raise refused(404, "ContainerNotFound", "The specified container does not exist.")
        return container

    def _container_operation(self, exchange: Exchange) -> None:
        if exchange.query.get("restype") != "container" or exchange.query.get("comp") not in {None, "list", "metadata"}:
            raise refused(
                400,
                "InvalidQueryParameterValue",
                "Value for one of the query parameters specified in the request URI is invalid.",
            )

    async def create_container(self, exchange: Exchange) -> Answer:
        """PUT ?restype=container."""
        self._container_operation(exchange)
        account = self._admitted(exchange, f"{CONTAINERS}/write", data=False)
        if exchange.headers.get("x-ms-default-encryption-scope"):
            raise refused(501, "NotImplemented", "A default encryption scope of a container is not simulated.")
        await self._data_key(account)
        name = exchange["container"]
        if not re.fullmatch(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", name):
            raise refused(400, "InvalidResourceName", "The specifed resource name contains invalid characters.")
        if name in account.containers:
            raise refused(409, "ContainerAlreadyExists", "The specified container already exists.")
        container = Container(name, _etag(), self._clock.now(), _metadata(exchange))
        account.containers[name] = container
        return Answer(201, headers={"ETag": container.etag, "Last-Modified": http_date(container.modified)})

    async def delete_container(self, exchange: Exchange) -> Answer:
        """DELETE ?restype=container, with its blobs."""
        self._container_operation(exchange)
        account = self._admitted(exchange, f"{CONTAINERS}/delete", data=False)
        await self._data_key(account)
        self._container(account, exchange["container"])
        del account.containers[exchange["container"]]
        return Answer(202)

    async def get_container(self, exchange: Exchange) -> Answer:
        """Properties, or with comp=list the names of the blobs."""
        self._container_operation(exchange)
        listing = exchange.query.get("comp") == "list"
        action = f"{CONTAINERS}/blobs/read" if listing else f"{CONTAINERS}/read"
        account = self._admitted(exchange, action, data=listing)
        await self._data_key(account)
        container = self._container(account, exchange["container"])
        if not listing:
            metadata = {f"x-ms-meta-{name}": value for name, value in container.metadata.items()}
            headers = {
                "ETag": container.etag,
                "Last-Modified": http_date(container.modified),
                "x-ms-lease-state": "available",
                **metadata,
            }
            return Answer(200, content=b"", media_type="application/xml", headers=headers)
        return Answer(200, content=_listing(account, container, exchange).encode(), media_type="application/xml")

    async def put_blob(self, exchange: Exchange) -> Answer:
        """Put Blob, of block blobs up to 64 MiB in one request."""
        if exchange.query.get("comp"):
            raise refused(
                400, "UnsupportedQueryParameter", "One of the query parameters specified in the request URI is not supported."
            )
        account = self._admitted(exchange, f"{CONTAINERS}/blobs/write", data=True)
        if exchange.headers.get("x-ms-blob-type") != "BlockBlob":
            raise refused(400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.")
        if len(exchange.body) > LARGEST_BODY:
            raise refused(
                413, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit."
            )
        scope = exchange.headers.get("x-ms-encryption-scope")
        key = await self._key_of(account, scope)
        container = self._container(account, exchange["container"])
        name, now = exchange["blob"], self._clock.now()
        existing = container.blobs.get(name)
        if existing is not None and exchange.headers.get("if-none-match") == "*":
            raise refused(409, "BlobAlreadyExists", "The specified blob already exists.")
        if exchange.headers.get("if-match") not in {None, "*", existing.etag if existing else ""}:
            raise refused(412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
        nonce = os.urandom(12)
        blob = Blob(
            nonce=nonce,
            sealed=AESGCM(key).encrypt(nonce, exchange.body, _bound_to(account, container, name)),
            size=len(exchange.body),
            content_type=exchange.headers.get("x-ms-blob-content-type", "application/octet-stream"),
            etag=_etag(),
            created=existing.created if existing else now,
            modified=now,
            metadata=_metadata(exchange),
            scope=scope,
        )
        container.blobs[name] = blob
        headers = {"ETag": blob.etag, "Last-Modified": http_date(now), "x-ms-request-server-encrypted": "true"}
        if scope is not None:
            headers["x-ms-encryption-scope"] = scope
        return Answer(201, headers=headers)

    def _blob(self, container: Container, name: str) -> Blob:
        blob = container.blobs.get(name)
        if blob is None:
            raise refused(404, "BlobNotFound", "The specified blob does not exist.")
        return blob

    async def get_blob(self, exchange: Exchange) -> Answer:
        """The content, whole or a range; HEAD the properties. Both need the key."""
        account = self._admitted(exchange, f"{CONTAINERS}/blobs/read", data=True)
        container = self._container(account, exchange["container"])
        blob = self._blob(container, exchange["blob"])
        key = await self._key_of(account, blob.scope)
        content = AESGCM(key).decrypt(blob.nonce, blob.sealed, _bound_to(account, container, exchange["blob"]))
        headers = {
            "ETag": blob.etag,
            "Last-Modified": http_date(blob.modified),
            "x-ms-creation-time": http_date(blob.created),
            "x-ms-blob-type": "BlockBlob",
            "x-ms-lease-status": "unlocked",
            "x-ms-lease-state": "available",
            "x-ms-server-encrypted": "true",
            "Accept-Ranges": "bytes",
            **{f"x-ms-meta-{name}": value for name, value in blob.metadata.items()},
            **({"x-ms-encryption-scope": blob.scope} if blob.scope is not None else {}),
        }
        if exchange.method == "HEAD":
            return Answer(200, content=b"", media_type=blob.content_type, headers={**headers, "Content-Length": str(blob.size)})
        wanted = exchange.headers.get("x-ms-range") or exchange.headers.get("range")
        if wanted is None:
            return Answer(200, content=content, media_type=blob.content_type, headers=headers)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
        if match is None or int(match.group(1)) >= blob.size:
            raise refused(416, "InvalidRange", "The range specified is invalid for the current size of the resource.")
        start, end = int(match.group(1)), min(int(match.group(2) or blob.size - 1), blob.size - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{blob.size}"
        return Answer(206, content=content[start : end + 1], media_type=blob.content_type, headers=headers)

    async def delete_blob(self, exchange: Exchange) -> Answer:
        """Gone."""
        account = self._admitted(exchange, f"{CONTAINERS}/blobs/delete", data=True)
        await self._data_key(account)
        container = self._container(account, exchange["container"])
        self._blob(container, exchange["blob"])
        del container.blobs[exchange["blob"]]
        return Answer(202, headers={"x-ms-delete-type-permanent": "true"})


def _bound_to(account: StorageAccount, container: Container, name: str) -> bytes:
    return f"{account.id.lower()}\0{container.name}\0{name}".encode()


def _etag() -> str:
    return f'"0x{uuid.uuid4().hex[:15].upper()}"'


def _metadata(exchange: Exchange) -> dict[str, str]:
    return {name.removeprefix("x-ms-meta-"): value for name, value in exchange.headers.items() if name.startswith("x-ms-meta-")}


def _listing(account: StorageAccount, container: Container, exchange: Exchange) -> str:
    prefix = exchange.query.get("prefix", "")
    blobs = "".join(
        f"<Blob><Name>{escape(name)}</Name><Properties><Creation-Time>{http_date(blob.created)}</Creation-Time>"
        f"<Last-Modified>{http_date(blob.modified)}</Last-Modified><Etag>{blob.etag.strip(chr(34))}</Etag>"
        f"<Content-Length>{blob.size}</Content-Length><Content-Type>{escape(blob.content_type)}</Content-Type>"
        "<BlobType>BlockBlob</BlobType><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>"
        "<ServerEncrypted>true</ServerEncrypted></Properties></Blob>"
        for name, blob in sorted(container.blobs.items())
        if name.startswith(prefix)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://{account.host}/" '
        f'ContainerName="{container.name}"><Prefix>{escape(prefix)}</Prefix><Blobs>{blobs}</Blobs><NextMarker /></EnumerationResults>'
    )
