"""Keys through Resource Manager (Microsoft.KeyVault/vaults/keys): made once, never changed, with no role on the vault's data.

https://learn.microsoft.com/rest/api/keyvault/keyvault/keys/create-if-not-exist
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from pydantic import Field

from sandbox.azure.arm.bodies import Strict, Tags, parsed
from sandbox.azure.arm.identities import not_found
from sandbox.azure.arm.vaults import refuse_in_failover
from sandbox.azure.errors import ArmRefusedError, VaultRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.key_vault.data_plane import ALL_RSA_OPERATIONS
from sandbox.azure.key_vault.keys import checked_rotation_policy
from sandbox.azure.key_vault.model import KeyVersion, new_version_id

if TYPE_CHECKING:
    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.clock import Clock
    from sandbox.azure.key_vault.crypto import KeyFactory
    from sandbox.azure.key_vault.keys import Keys
    from sandbox.azure.key_vault.model import Key, Vault, Vaults

VAULTS = "Microsoft.KeyVault/vaults"
KIND = f"{VAULTS}/keys"


class Attributes(Strict):
    """Times are whole seconds since the epoch."""

    enabled: bool | None = None
    nbf: int | None = None
    exp: int | None = None
    exportable: bool | None = None


class Trigger(Strict):
    """When, as an ISO 8601 duration."""

    time_after_create: str | None = None
    time_before_expiry: str | None = None


class Action(Strict):
    """What."""

    type: Literal["rotate", "notify", "Rotate", "Notify"]


class LifetimeAction(Strict):
    """One action of a rotation policy."""

    action: Action
    trigger: Trigger


class PolicyAttributes(Strict):
    """The life of each new version."""

    expiry_time: str | None = None


class RotationPolicy(Strict):
    """As the data plane's, in Resource Manager's spelling."""

    attributes: PolicyAttributes | None = None
    lifetime_actions: list[LifetimeAction] | None = None


class KeyProperties(Strict):
    """What may be said of a new key; elliptic curves are not simulated here."""

    attributes: Attributes | None = None
    kty: Literal["RSA", "RSA-HSM"]
    key_ops: list[Literal["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey", "import", "release"]] | None = None
    key_size: int | None = None
    rotation_policy: RotationPolicy | None = None
    release_policy: dict[str, Any] | None = Field(None, alias="release_policy")


class KeyBody(Strict):
    """PUT of a key."""

    properties: KeyProperties
    tags: Tags | None = None


def shown(vault: Vault, key: Key) -> dict[str, Any]:
    """As ARM answers: never any key material."""
    latest = key.latest
    attributes: dict[str, Any] = {"enabled": latest.enabled}
    if latest.not_before is not None:
        attributes["nbf"] = latest.not_before
    if latest.expires is not None:
        attributes["exp"] = latest.expires
    attributes |= {
        "created": int(latest.created),
        "updated": int(latest.updated),
        "recoveryLevel": vault.recovery_level,
        "exportable": False,
    }
    properties: dict[str, Any] = {
        "attributes": attributes,
        "kty": latest.key_type,
        "keyOps": latest.operations,
        "keyUri": vault.key_id(key.name),
        "keyUriWithVersion": vault.key_id(key.name, latest.version),
    }
    size = getattr(latest.private, "key_size", None)
    if latest.key_type.startswith("RSA"):
        properties["keySize"] = size
    if key.rotation_policy is not None:
        actions = [
            {**one, "action": {"type": str(one["action"]["type"]).lower()}} for one in key.rotation_policy["lifetimeActions"]
        ]
        properties["rotationPolicy"] = {"attributes": key.rotation_policy["attributes"], "lifetimeActions": actions}
    return {
        "id": f"{vault.id}/keys/{key.name}",
        "name": key.name,
        "type": KIND,
        "location": vault.location,
        "tags": latest.tags,
        "properties": properties,
    }


class VaultKeyOperations:
    """The operations."""

    def __init__(self, gateway: Gateway, vaults: Vaults, keys: Keys, factory: KeyFactory, clock: Clock) -> None:
        self._gateway = gateway
        self._vaults = vaults
        self._keys = keys
        self._factory = factory
        self._clock = clock
        collection = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{VAULTS}/{{vault}}/keys"
        gateway.add("GET", collection, self.list, kind=KIND, action=f"{KIND}/read")
        gateway.add("GET", f"{collection}/{{name}}", self.get, kind=KIND, action=f"{KIND}/read")
        gateway.add("PUT", f"{collection}/{{name}}", self.create_if_absent, kind=KIND, action=f"{KIND}/write")

    def _vault(self, call: ArmCall) -> Vault:
        group = self._gateway.subscriptions[call["subscription"]].group(call["group"])
        vault = self._vaults.live(call["vault"])
        wanted = f"/subscriptions/{call['subscription']}/resourceGroups/{group.name}/providers/{VAULTS}/{call['vault']}"
        if vault is None or vault.id.lower() != wanted.lower():
            raise not_found(VAULTS, call["vault"], call["group"])
        return vault

    async def list(self, call: ArmCall) -> Answer:
        """All keys of a vault."""
        vault = self._vault(call)
        return Answer(json={"value": [shown(vault, key) for key in vault.keys.values()]})

    async def get(self, call: ArmCall) -> Answer:
        """One key, as of its latest version."""
        vault = self._vault(call)
        key = vault.keys.get(call["name"].lower())
        if key is None:
            raise not_found(KIND, f"{vault.name}/{call['name']}", call["group"])
        return Answer(json=shown(vault, key))

    async def create_if_absent(self, call: ArmCall) -> Answer:
        """The first version of a new key; a key that exists is given back as it is, whatever was sent."""
        vault, name = self._vault(call), call["name"]
        body = parsed(KeyBody, call.body())
        if not re.fullmatch("[0-9A-Za-z-]{1,127}", name):
            raise ArmRefusedError(400, "BadRequest", f"The key name '{name}' is invalid.")
        existing = vault.keys.get(name.lower())
        if existing is not None:
            return Answer(json=shown(vault, existing))
        refuse_in_failover(vault, "KeyCreate")
        try:
            key = await self._created(vault, name, body)
        except VaultRefusedError as error:
            _refuse_as_resource_manager(error)
        return Answer(json=shown(vault, key))

    async def _created(self, vault: Vault, name: str, body: KeyBody) -> Key:
        wanted = body.properties
        size = wanted.key_size or 2048
        if size not in {2048, 3072, 4096}:
            raise VaultRefusedError(400, "BadParameter", "Invalid key size")
        if wanted.kty == "RSA-HSM" and vault.sku["name"].lower() != "premium":
            raise VaultRefusedError(403, "Forbidden", "HSM-protected keys require a premium vault.", inner="ForbiddenBySku")
        sent = wanted.rotation_policy.model_dump(by_alias=True, exclude_none=True) if wanted.rotation_policy else None
        policy = checked_rotation_policy(vault.key_id(name), sent, self._clock.now()) if sent is not None else None
        self._keys.may_create(vault, name)
        self._keys.throttle_creation(vault, wanted.kty)
        private = await self._factory.rsa(size)
        self._keys.may_create(vault, name)
        given, now = wanted.attributes, self._clock.now()
        expires = given.exp if given else None
        version = KeyVersion(
            version=new_version_id(),
            key_type=wanted.kty,
            private=private,
            operations=list(wanted.key_ops or ALL_RSA_OPERATIONS),
            enabled=given.enabled if given and given.enabled is not None else True,
            not_before=given.nbf if given else None,
            expires=expires,
            created=now,
            updated=now,
            tags=body.tags or {},
        )
        key = self._keys.add_version(vault, name, version)
        key.rotation_policy = policy
        if expires is None:
            version.expires = self._keys.expiry_by_policy(key)
        return key


def _refuse_as_resource_manager(error: VaultRefusedError) -> NoReturn:
    code = {409: "Conflict", 429: "TooManyRequests", 403: "Forbidden"}.get(error.status, "BadRequest")
    raise ArmRefusedError(error.status, code, error.message, headers=error.headers) from error
