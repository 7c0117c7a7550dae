"""The keys API at `https://<vault>.vault.azure.net`."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.azure.errors import VaultMediaTypeRefusedError, VaultRefusedError
from sandbox.azure.exchange import NOT_CACHED, Answer, Exchange, Router
from sandbox.azure.key_vault import crypto
from sandbox.azure.key_vault.access import CLIENT_ADDRESS
from sandbox.azure.key_vault.bodies import (
    Attributes,
    CreateKey,
    Operation,
    RestoreKey,
    RotationPolicy,
    UpdateKey,
    Verify,
    parsed,
)
from sandbox.azure.key_vault.keys import checked_rotation_policy
from sandbox.azure.key_vault.model import Key, KeyVersion, Vault, new_version_id

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.key_vault.access import VaultAccess, VaultCaller
    from sandbox.azure.key_vault.crypto import KeyFactory
    from sandbox.azure.key_vault.keys import Keys
    from sandbox.azure.key_vault.model import Vaults

API_VERSIONS = frozenset(
    {"7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "7.6-preview.2", "2025-06-01-preview", "2025-07-01", "2026-03-01-preview"}
)
WRITES = {
    "create": "KeyCreate",
    "update": "KeyUpdate",
    "delete": "KeyDelete",
    "recover": "KeyRecover",
    "purge": "KeyPurge",
    "rotate": "KeyRotate",
    "restore": "KeyRestore",
    "setrotationpolicy": "KeyRotationPolicySet",
}
"""What a vault in failover refuses, by the name that its refusal gives (the words are in MSEndpointMgr/CloudLAPS#70)."""
SERVICE_VERSION = "1.9.3347.1"
ALL_RSA_OPERATIONS = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]


def _bytes(text: str) -> bytes:
    """RFC 7515: the URL alphabet, without padding, and no last character that stands for fewer than eight bits."""
    if not re.fullmatch("[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise crypto.bad_parameter("The value is not base64url.")
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _text(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def attributes(vault: Vault, version: KeyVersion) -> dict[str, Any]:
    """`attributes` of a key, with the recovery level that tells of purge protection."""
    shown: dict[str, Any] = {"enabled": version.enabled}
    if version.not_before is not None:
        shown["nbf"] = version.not_before
    if version.expires is not None:
        shown["exp"] = version.expires
    size = getattr(version.private, "key_size", None)
    shown |= {
        "key_size": size,
        "created": int(version.created),
        "updated": int(version.updated),
        "recoveryLevel": vault.recovery_level,
        "recoverableDays": vault.retention_days,
        "exportable": False,
        "hsmPlatform": "2" if version.key_type.endswith("-HSM") else "0",
    }
    return shown


def bundle(vault: Vault, key: Key, version: KeyVersion) -> dict[str, Any]:
    """A key as it is given back."""
    jwk = {
        "kid": vault.key_id(key.name, version.version),
        "kty": version.key_type,
        "key_ops": version.operations,
        **version.public_jwk(),
    }
    return {"key": jwk, "attributes": attributes(vault, version)} | ({"tags": version.tags} if version.tags else {})


def _item(vault: Vault, kid: str, version: KeyVersion) -> dict[str, Any]:
    """A key or version as lists show it."""
    return {"kid": kid, "attributes": attributes(vault, version)} | ({"tags": version.tags} if version.tags else {})


def read_only(operation: str) -> str:
    """What a vault in failover says of a write."""
    return f'Operation "{operation}" is unavailable: the service is currently in a read-only state.'


def _skip_token(position: int, turn: int) -> str:
    token = {"NextMarker": f"2!{position}!{turn}", "TargetLocation": 0}
    return urlsafe_b64encode(json.dumps(token).encode()).rstrip(b"=").decode()


def _skipped(token: str) -> tuple[int, int]:
    """Where the page begins, and how many pages were before it. Raises VaultRefusedError 400."""
    try:
        _, position, turn = json.loads(_bytes(token))["NextMarker"].split("!")
        return int(position), int(turn)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise crypto.bad_parameter("The $skiptoken is not one that this vault gave.") from error


def deleted_bundle(vault: Vault, key: Key) -> dict[str, Any]:
    """A deleted key as it is given back."""
    return {
        "recoveryId": f"https://{vault.host}/deletedkeys/{key.name}",
        "deletedDate": int(key.deleted or 0),
        "scheduledPurgeDate": int(key.purge_at or 0),
        **bundle(vault, key, key.latest),
    }


def _check_media_type(exchange: Exchange) -> None:
    """Raises VaultMediaTypeRefusedError 415 for a body that is not declared to be JSON (words: Azure/azure-sdk-for-rust#1146)."""
    if not exchange.body or exchange.media_type in {"application/json", "text/json"}:
        return
    message = (
        "The request contains an entity body but no Content-Type header. The inferred media type 'application/octet-stream' is"
    )
    if exchange.media_type:
        message = f"The request entity's media type '{exchange.media_type}' is"
    raise VaultMediaTypeRefusedError(415, "UnsupportedMediaType", f"{message} not supported for this resource.")


def _check_validity(version: KeyVersion, attributes: Attributes | None, sent: set[str]) -> None:
    """Of a version after an update: it expires after it becomes valid. Raises VaultRefusedError 400."""
    begins = attributes.nbf if attributes and "nbf" in sent else version.not_before
    ends = attributes.exp if attributes and "exp" in sent else version.expires
    if sent & {"nbf", "exp"} and begins is not None and ends is not None and ends <= begins:
        raise crypto.bad_parameter("Property has invalid value\r\n")


class VaultDataPlane:
    """Serves every vault; the host says which."""

    def __init__(self, vaults: Vaults, keys: Keys, access: VaultAccess, factory: KeyFactory, clock: Clock) -> None:
        self._vaults = vaults
        self._keys = keys
        self._access = access
        self._factory = factory
        self._clock = clock
        self.router = Router()
        add = self.router.add
        add("GET", "/keys", self.list_keys)
        add("POST", "/keys/{name}/create", self.create)
        add("POST", "/keys/restore", self.restore)
        add("POST", "/keys/{name}/rotate", self.rotate)
        add("POST", "/keys/{name}/backup", self.backup)
        add("GET", "/keys/{name}/rotationpolicy", self.get_policy)
        add("PUT", "/keys/{name}/rotationpolicy", self.put_policy)
        add("GET", "/keys/{name}/versions", self.versions)
        add("GET", "/keys/{name}", self.get)
        add("GET", "/keys/{name}/{version}", self.get)
        add("PATCH", "/keys/{name}", self.update)
        add("PATCH", "/keys/{name}/{version}", self.update)
        add("DELETE", "/keys/{name}", self.delete)
        for verb, operation in (
            ("wrapkey", "wrapKey"),
            ("unwrapkey", "unwrapKey"),
            ("encrypt", "encrypt"),
            ("decrypt", "decrypt"),
            ("sign", "sign"),
            ("verify", "verify"),
        ):
            handler = self._operation(operation)
            add("POST", f"/keys/{{name}}/{verb}", handler)
            add("POST", f"/keys/{{name}}/{{version}}/{verb}", handler)
        add("GET", "/deletedkeys", self.list_deleted)
        add("GET", "/deletedkeys/{name}", self.get_deleted)
        add("POST", "/deletedkeys/{name}/recover", self.recover)
        add("DELETE", "/deletedkeys/{name}", self.purge)

    async def serve(self, exchange: Exchange) -> Answer:
        """Find the operation and run it. Raises VaultRefusedError."""
        # SDKs send `/keys/NAME//wrapkey` and `/keys/NAME/` where they name no version.
        exchange = replace(exchange, path=re.sub("/{2,}", "/", exchange.path))
        found = self.router.find(exchange)
        vault, _ = self._admitted(exchange)
        _check_media_type(exchange)
        version = exchange.query.get("api-version", "")
        if version not in API_VERSIONS:
            raise crypto.bad_parameter(
                f"The specified version ({version}) is not recognized. Consider using the latest supported version (2025-07-01)."
            )
        if found is None and (methods := self.router.methods(exchange.path)):
            raise VaultRefusedError(405, "MethodNotAllowed", "HTTP method not supported", headers={"Allow": ", ".join(methods)})
        if found is None:
            raise VaultRefusedError(404, "NotFound", f"Resource not found: {exchange.path} in {vault.name}")
        return await found[0](found[1])

    def headers(self, exchange: Exchange, now: float) -> dict[str, str]:
        """What Key Vault adds to every response, refusals included: the vault's own region."""
        del now
        vault = self._vaults.live(exchange.host.split(".")[0])
        region = {"x-ms-keyvault-region": vault.location} if vault else {}
        return {
            **NOT_CACHED,
            "Strict-Transport-Security": "max-age=31536000;includeSubDomains",
            "x-ms-keyvault-network-info": f"conn_type=Ipv4;addr={CLIENT_ADDRESS};act_addr_fam=InterNetwork;",
            **region,
            "x-ms-keyvault-service-version": SERVICE_VERSION,
            **exchange.notes.headers,
        }

    def _admitted(self, exchange: Exchange) -> tuple[Vault, VaultCaller]:
        vault = self._vaults.serving(exchange.host.split(".")[0], self._keys.recovered_before())
        if vault is None:
            raise VaultRefusedError(404, "VaultNotFound", f"The vault {exchange.host} was not found.")
        caller = replace(self._access.caller(vault, exchange.bearer()), notes=exchange.notes)
        exchange.notes.principal, exchange.notes.application = caller.claims.object_id, caller.claims.app_id
        return vault, caller

    def _permitted(self, exchange: Exchange, operation: str, *, at_key: bool = True) -> Vault:
        vault, caller = self._admitted(exchange)
        self._access.check(vault, caller, operation, exchange.parameters.get("name") if at_key else None)
        if vault.failed_over and operation in WRITES:
            raise VaultRefusedError(503, "ServiceUnavailable", read_only(WRITES[operation]))
        return vault

    async def list_keys(self, exchange: Exchange) -> Answer:
        """All keys, without material and versions; the attributes and tags are those of the latest version."""
        vault = self._permitted(exchange, "list", at_key=False)
        self._keys.throttle(vault, 1)
        items = [_item(vault, vault.key_id(key.name), key.latest) for key in self._keys.listed(vault)]
        return self._page(exchange, vault, items)

    async def versions(self, exchange: Exchange) -> Answer:
        """All versions of a key, in no order that means anything."""
        vault = self._permitted(exchange, "list")
        self._keys.throttle(vault, 1)
        key = vault.keys.get(exchange["name"].lower())
        versions = sorted(key.versions.values(), key=lambda one: one.version) if key else []
        items = [_item(vault, vault.key_id(key.name, one.version), one) for one in versions] if key else []
        return self._page(exchange, vault, items)

    @staticmethod
    def _page(exchange: Exchange, vault: Vault, items: list[dict[str, Any]]) -> Answer:
        """One page. As in recordings of Key Vault, the link names the port, and a page that is full says that more may come.

        Among full pages there are empty ones and shorter ones.
        """
        size = exchange.query.get("maxresults", "25")
        if not size.isdigit() or not 1 <= int(size) <= 25:
            raise crypto.bad_parameter("maxresults must be between 1 and 25.")
        start, turn = _skipped(exchange.query["$skiptoken"]) if "$skiptoken" in exchange.query else (0, 0)
        sizes = (int(size), 0, max(1, int(size) // 2))
        end = start + sizes[turn % len(sizes)]
        link = None
        if end <= len(items):
            version, token = exchange.query["api-version"], _skip_token(end, turn + 1)
            link = f"https://{vault.host}:443{exchange.path}?api-version={version}&$skiptoken={token}&maxresults={size}"
        return Answer(json={"value": items[start:end], "nextLink": link})

    async def get(self, exchange: Exchange) -> Answer:
        """A version or the latest; a disabled key is shown as such."""
        vault, caller = self._admitted(exchange)
        key, version = self._keys.get(vault, caller, exchange["name"], exchange.parameters.get("version", ""))
        return Answer(json=bundle(vault, key, version))

    async def create(self, exchange: Exchange) -> Answer:
        """A new key or a new version."""
        vault = self._permitted(exchange, "create")
        body, name = parsed(CreateKey, exchange), exchange["name"]
        if not re.fullmatch(r"[0-9A-Za-z-]{1,127}", name):
            raise crypto.bad_parameter(f"The request URI contains an invalid name: {name}")
        self._keys.may_create(vault, name)
        self._keys.throttle_creation(vault, body.kty)
        private: rsa.RSAPrivateKey | Any
        if body.kty in {"RSA", "RSA-HSM"}:
            size = body.key_size or 2048
            if size not in {2048, 3072, 4096} or body.crv:
                raise crypto.bad_parameter("Invalid key size")
            private, operations = await self._factory.rsa(size), ALL_RSA_OPERATIONS
        elif body.kty in {"EC", "EC-HSM"}:
            if body.public_exponent or body.key_size not in {None, crypto.CURVES[body.crv or "P-256"].key_size}:
                raise crypto.bad_parameter("Invalid key size")
            private, operations = crypto.new_ec(body.crv or "P-256"), ["sign", "verify"]
        else:
            raise crypto.bad_parameter("oct keys are only supported by Managed HSM.")
        if body.kty.endswith("-HSM") and vault.sku["name"].lower() != "premium":
            raise VaultRefusedError(403, "Forbidden", "HSM-protected keys require a premium vault.", inner="ForbiddenBySku")
        given = body.attributes
        now = self._clock.now()
        version = KeyVersion(
            version=new_version_id(),
            key_type=body.kty,
            private=private,
            operations=list(body.key_ops or operations),
            enabled=given.enabled if given and given.enabled is not None else True,
            not_before=given.nbf if given else None,
            expires=given.exp if given else None,
            created=now,
            updated=now,
            tags=body.tags or {},
        )
        self._keys.may_create(vault, name)
        return Answer(json=bundle(vault, self._keys.add_version(vault, name, version), version))

    async def update(self, exchange: Exchange) -> Answer:
        """Attributes, operations and tags of a version."""
        vault = self._permitted(exchange, "update")
        body = parsed(UpdateKey, exchange)
        key, version = self._keys.find(vault, exchange["name"], exchange.parameters.get("version", ""))
        if body.key_ops is not None:
            version.operations = list(body.key_ops)
        if body.tags is not None:
            version.tags = body.tags
        sent = body.attributes.model_fields_set if body.attributes else set()
        _check_validity(version, body.attributes, sent)
        if body.attributes and body.attributes.enabled is not None:
            version.enabled = body.attributes.enabled
        if body.attributes and "nbf" in sent:
            version.not_before = body.attributes.nbf
        if body.attributes and "exp" in sent:
            version.expires = body.attributes.exp
        version.updated = self._clock.now()
        return Answer(json=bundle(vault, key, version))

    def _operation(self, operation: str) -> Any:  # noqa: ANN401 - a handler; its full type is inferred at the call
        async def handler(exchange: Exchange) -> Answer:
            vault, caller = self._admitted(exchange)
            name, wanted = exchange["name"], exchange.parameters.get("version", "")
            if operation == "verify":
                question = parsed(Verify, exchange)
                version = self._keys.use(vault, caller, operation, name, wanted)
                return Answer(
                    json={
                        "value": crypto.verify(version.private, question.alg, _bytes(question.digest), _bytes(question.value))
                    }
                )
            body = parsed(Operation, exchange)
            value = _bytes(body.value)
            version = self._keys.use(vault, caller, operation, name, wanted)
            run = {"sign": crypto.sign, "wrapKey": crypto.encrypt, "encrypt": crypto.encrypt}.get(operation, crypto.decrypt)
            result = run(version.private, body.alg, value)
            return Answer(json={"kid": vault.key_id(name, version.version), "value": _text(result)})

        return handler

    async def rotate(self, exchange: Exchange) -> Answer:
        """A new version like the latest."""
        vault = self._permitted(exchange, "rotate")
        key, latest = self._keys.find(vault, exchange["name"])
        self._keys.throttle_creation(vault, latest.key_type)
        private = await self._factory.rsa(latest.private.key_size) if isinstance(latest.private, rsa.RSAPrivateKey) else None
        return Answer(json=bundle(vault, key, self._keys.rotated(vault, key, private)))

    async def get_policy(self, exchange: Exchange) -> Answer:
        """The rotation policy, or the default that only notifies."""
        vault = self._permitted(exchange, "getrotationpolicy")
        key, _ = self._keys.find(vault, exchange["name"])
        return Answer(json=key.rotation_policy or self._default_policy(vault, key))

    @staticmethod
    def _default_policy(vault: Vault, key: Key) -> dict[str, Any]:
        notify = {"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}
        return {
            "id": f"{vault.key_id(key.name)}/rotationpolicy",
            "lifetimeActions": [notify],
            "attributes": {"expiryTime": None},
        }

    async def put_policy(self, exchange: Exchange) -> Answer:
        """Rotation no sooner than 7 days after creation or before expiry."""
        vault = self._permitted(exchange, "setrotationpolicy")
        key, _ = self._keys.find(vault, exchange["name"])
        policy = parsed(RotationPolicy, exchange).model_dump(by_alias=True, exclude_none=True)
        key.rotation_policy = checked_rotation_policy(vault.key_id(key.name), policy, self._clock.now())
        return Answer(json=key.rotation_policy)

    async def delete(self, exchange: Exchange) -> Answer:
        """To the recoverable state, all versions."""
        vault = self._permitted(exchange, "delete")
        return Answer(json=deleted_bundle(vault, self._keys.delete(vault, exchange["name"])))

    async def list_deleted(self, exchange: Exchange) -> Answer:
        """All deleted keys."""
        vault = self._permitted(exchange, "list", at_key=False)
        items = []
        for key in self._keys.listed_deleted(vault):
            full = deleted_bundle(vault, key)
            items.append({"kid": vault.key_id(key.name)} | {name: value for name, value in full.items() if name != "key"})
        return self._page(exchange, vault, items)

    async def get_deleted(self, exchange: Exchange) -> Answer:
        """One deleted key."""
        vault, caller = self._admitted(exchange)
        return Answer(json=deleted_bundle(vault, self._keys.get_deleted(vault, caller, exchange["name"])))

    async def recover(self, exchange: Exchange) -> Answer:
        """Back to life."""
        vault = self._permitted(exchange, "recover")
        key = self._keys.recover(vault, exchange["name"])
        return Answer(json=bundle(vault, key, key.latest))

    async def backup(self, exchange: Exchange) -> Answer:
        """All versions, sealed."""
        vault = self._permitted(exchange, "backup")
        return Answer(json={"value": _text(self._keys.backup(vault, exchange["name"]))})

    async def restore(self, exchange: Exchange) -> Answer:
        """A backed-up key with its old ids."""
        vault = self._permitted(exchange, "restore", at_key=False)
        key = self._keys.restore(vault, _bytes(parsed(RestoreKey, exchange).value))
        return Answer(json=bundle(vault, key, key.latest))

    async def purge(self, exchange: Exchange) -> Answer:
        """For ever."""
        vault = self._permitted(exchange, "purge")
        self._keys.purge(vault, exchange["name"])
        return Answer(204)
