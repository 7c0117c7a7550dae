"""The customer's administrator: consents, and owns the vault and its keys."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceExistsError
from azure.keyvault.keys import KeyRotationPolicy
from azure.keyvault.keys.aio import KeyClient

from sandbox.administrators.administrator import Administrator
from sandbox.administrators.rest import AzureRest, connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from azure.keyvault.keys import KeyVaultKey

CRYPTO_SERVICE_ENCRYPTION_USER = "Key Vault Crypto Service Encryption User"
VAULTS = "2026-02-01"
KEYS = "2025-07-01"


@dataclass(frozen=True)
class OwnRegistration:
    """An app registration of the customer's own, by its object id and its client id."""

    object_id: str
    client_id: str


class CustomerAdministrator(Administrator):
    """Consents, and owns the vault and its keys."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__(env, "CUSTOMER")
        self._keys: dict[str, KeyClient] = {}
        self._bare: dict[str, AzureRest] = {}
        self.resource_group = "rg-fabrikam-keys"

    async def consent(self, app_id: str) -> str:
        """Create the application's service principal, as `az ad sp create --id` does; its object id, new or old."""
        try:
            principal: str = (await self.graph.json("POST", "/servicePrincipals", {"appId": app_id}))["id"]
        except ResourceExistsError:
            return await self.principal_id(app_id)
        return principal

    async def consent_at(self, url: str) -> None:
        """Open a consent or sign-in page that someone handed out, and accept. Raises HttpResponseError."""
        await self.graph.send("GET", url)

    async def withdraw_consent(self, app_id: str) -> None:
        """Delete the application's service principal."""
        await self.graph.json("DELETE", f"/servicePrincipals/{await self.principal_id(app_id)}")

    async def set_application_enabled(self, app_id: str, *, enabled: bool) -> None:
        """Block or allow the application without taking the consent back."""
        await self.graph.json("PATCH", f"/servicePrincipals/{await self.principal_id(app_id)}", {"accountEnabled": enabled})

    async def demand_assignment(self, service_app_id: str, *, demanded: bool) -> None:
        """Whether Entra gives tokens for a service only to applications that are assigned to it."""
        body = {"appRoleAssignmentRequired": demanded}
        await self.graph.json("PATCH", f"/servicePrincipals/{await self.principal_id(service_app_id)}", body)

    async def register(self, display_name: str, *certificates: bytes) -> OwnRegistration:
        """A registration of the customer's own for its own tenant, with its service principal and DER certificates."""
        body = {"displayName": display_name, "keyCredentials": _key_credentials(certificates)}
        made = await self.graph.json("POST", "/applications", body)
        await self.consent(made["appId"])
        return OwnRegistration(made["id"], made["appId"])

    async def add_secret(self, registration: OwnRegistration, *, ends: datetime | None = None) -> tuple[str, str]:
        """A new client secret: its key id and its value."""
        credential = {"endDateTime": ends.isoformat()} if ends is not None else {}
        path = f"/applications/{registration.object_id}/addPassword"
        made = await self.graph.json("POST", path, {"passwordCredential": credential})
        return made["keyId"], made["secretText"]

    async def remove_secret(self, registration: OwnRegistration, key_id: str) -> None:
        """Delete a client secret."""
        await self.graph.json("POST", f"/applications/{registration.object_id}/removePassword", {"keyId": key_id})

    async def set_certificates(self, registration: OwnRegistration, *certificates: bytes) -> None:
        """Replace the certificates of a registration by these, in DER; none deletes them all."""
        body = {"keyCredentials": _key_credentials(certificates)}
        await self.graph.json("PATCH", f"/applications/{registration.object_id}", body)

    def vault_id(self, name: str) -> str:
        """The ARM id of a vault in the customer's group."""
        return f"{self.subscription}/resourceGroups/{self.resource_group}/providers/Microsoft.KeyVault/vaults/{name}"

    async def create_vault(
        self,
        name: str,
        *,
        rbac: bool = True,
        purge_protection: bool = True,
        location: str = "westeurope",
        retention_days: int = 90,
        sku: str = "standard",
    ) -> str:
        """A vault; its URI. Without RBAC the administrator gets every permission on keys by policy."""
        await self.create_resource_group(self.resource_group)
        properties: dict[str, object] = {
            "tenantId": self.tenant_id,
            "sku": {"family": "A", "name": sku},
            "enableRbacAuthorization": rbac,
            "softDeleteRetentionInDays": retention_days,
            "accessPolicies": [] if rbac else [self._policy(await self.principal_id(self.client_id), ["all"])],
        }
        if purge_protection:
            properties["enablePurgeProtection"] = True
        vault = await self.put(self.vault_id(name), VAULTS, {"location": location, "properties": properties})
        uri: str = vault["properties"]["vaultUri"]
        return uri

    async def delete_vault(self, name: str) -> None:
        """To the recoverable state."""
        await self.delete(self.vault_id(name), VAULTS)

    async def recover_vault(self, name: str, *, location: str = "westeurope") -> None:
        """Back from the recoverable state."""
        body = {"location": location, "properties": {"createMode": "recover", "tenantId": self.tenant_id}}
        await self.put(self.vault_id(name), VAULTS, body)

    def _policy(self, object_id: str, permissions: Sequence[str]) -> dict[str, object]:
        return {"tenantId": self.tenant_id, "objectId": object_id, "permissions": {"keys": list(permissions)}}

    async def set_access_policy(
        self, app_id: str, vault: str, permissions: Sequence[str] = ("get", "wrapKey", "unwrapKey")
    ) -> None:
        """Grant by access policy; with no permissions the policy is removed."""
        operation = "add" if permissions else "remove"
        if permissions:
            await self._change_policy(app_id, vault, "remove", ())
        await self._change_policy(app_id, vault, operation, permissions)

    async def _change_policy(self, app_id: str, vault: str, operation: str, permissions: Sequence[str]) -> None:
        policy = self._policy(await self.principal_id(app_id), permissions)
        await self.put(
            f"{self.vault_id(vault)}/accessPolicies/{operation}", VAULTS, {"properties": {"accessPolicies": [policy]}}
        )

    async def set_firewall(
        self,
        vault: str,
        *,
        default_action: str = "Deny",
        bypass: str = "AzureServices",
        addresses: Sequence[str] = (),
        subnets: Sequence[str] = (),
        public: bool = True,
    ) -> None:
        """The vault's network rules and whether it has public access at all."""
        rules = {
            "bypass": bypass,
            "defaultAction": default_action,
            "ipRules": [{"value": one} for one in addresses],
            "virtualNetworkRules": [{"id": one} for one in subnets],
        }
        properties = {"networkAcls": rules, "publicNetworkAccess": "Enabled" if public else "Disabled"}
        await self.patch(self.vault_id(vault), VAULTS, {"properties": properties})

    async def grant(
        self, app_id: str, vault: str, *, role: str = CRYPTO_SERVICE_ENCRYPTION_USER, key: str | None = None
    ) -> str:
        """Give the application a role on the vault, or on one key."""
        return await self.assign_role(await self.principal_id(app_id), role, self._scope(vault, key))

    async def revoke_grant(self, app_id: str, vault: str, *, key: str | None = None) -> None:
        """Take all its roles there back."""
        await self.withdraw_roles(await self.principal_id(app_id), self._scope(vault, key))

    def _scope(self, vault: str, key: str | None) -> str:
        return self.vault_id(vault) + (f"/keys/{key}" if key else "")

    async def _key_client(self, vault: str) -> KeyClient:
        if vault not in self._keys:
            client = KeyClient(f"https://{vault}{self.cloud.vault_suffix}", self._credential, **connection(self._env))
            self._keys[vault] = await self._stack.enter_async_context(client)
        return self._keys[vault]

    async def create_key(
        self, vault: str, name: str, *, key_type: str = "RSA", size: int = 2048, expires: datetime | None = None
    ) -> str:
        """A key; its id with the version."""
        client = await self._key_client(vault)
        if key_type == "RSA-HSM":
            return _id(await client.create_rsa_key(name, size=size, expires_on=expires, hardware_protected=True))
        if key_type == "EC":
            return _id(await client.create_ec_key(name, curve="P-256", expires_on=expires))
        return _id(await client.create_rsa_key(name, size=size, expires_on=expires))

    async def new_version(self, vault: str, name: str) -> str:
        """A new version by rotation; its id."""
        return _id(await (await self._key_client(vault)).rotate_key(name))

    async def disable(self, vault: str, name: str, version: str | None = None) -> None:
        """Disable a version, or the latest."""
        await self._enabled(vault, name, version, enabled=False)

    async def enable(self, vault: str, name: str, version: str | None = None) -> None:
        """Enable a version, or the latest."""
        await self._enabled(vault, name, version, enabled=True)

    async def _enabled(self, vault: str, name: str, version: str | None, *, enabled: bool) -> None:
        await (await self._key_client(vault)).update_key_properties(name, version, enabled=enabled)

    async def set_validity(
        self,
        vault: str,
        name: str,
        version: str | None = None,
        *,
        not_before: datetime | None = None,
        expires: datetime | None = None,
    ) -> None:
        """From when and until when a version may wrap; what is None stays as it is."""
        client = await self._key_client(vault)
        await client.update_key_properties(name, version, not_before=not_before, expires_on=expires)

    async def set_expiry(self, vault: str, name: str, expires: datetime | float, version: str | None = None) -> None:
        """The moment from which a version no longer wraps; a number is seconds since the epoch."""
        moment = expires if isinstance(expires, datetime) else datetime.fromtimestamp(expires, UTC)
        await self.set_validity(vault, name, version, expires=moment)

    async def set_rotation_policy(self, vault: str, name: str, *, expires_in: str) -> None:
        """The lifetime of new versions, as an ISO 8601 duration such as P90D."""
        await (await self._key_client(vault)).update_key_rotation_policy(name, KeyRotationPolicy(expires_in=expires_in))

    async def call_vault(self, vault: str, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request to a vault's data plane; unlike the SDK's methods it waits for nothing. Raises HttpResponseError."""
        if vault not in self._bare:
            client = AzureRest(
                self._credential,
                f"https://{vault}{self.cloud.vault_suffix}",
                f"https://{self.cloud.vault_suffix.removeprefix('.')}/.default",
                self._env,
            )
            self._bare[vault] = await self._stack.enter_async_context(client)
        return await self._bare[vault].json(method, f"{path}?api-version={KEYS}", body)

    async def begin_delete_key(self, vault: str, name: str) -> None:
        """As `delete_key`, without waiting until the key shows among the deleted ones."""
        await self.call_vault(vault, "DELETE", f"/keys/{name}")

    async def begin_recover_key(self, vault: str, name: str) -> None:
        """As `recover_key`, without waiting until the key is found again."""
        await self.call_vault(vault, "POST", f"/deletedkeys/{name}/recover")

    async def delete_key(self, vault: str, name: str) -> None:
        """All versions, to the recoverable state."""
        await (await self._key_client(vault)).delete_key(name)

    async def recover_key(self, vault: str, name: str) -> None:
        """All versions, back to life."""
        await (await self._key_client(vault)).recover_deleted_key(name)

    async def back_up_key(self, vault: str, name: str) -> bytes:
        """All versions, as a blob that only Key Vault reads."""
        return await (await self._key_client(vault)).backup_key(name)

    async def restore_key(self, vault: str, backup: bytes) -> str:
        """A key from its backup, under its old ids; the latest id."""
        return _id(await (await self._key_client(vault)).restore_key_backup(backup))

    async def purge_key(self, vault: str, name: str) -> None:
        """For ever."""
        await (await self._key_client(vault)).purge_deleted_key(name)


def _key_credentials(certificates: Sequence[bytes]) -> list[dict[str, str]]:
    return [{"type": "AsymmetricX509Cert", "usage": "Verify", "key": b64encode(one).decode()} for one in certificates]


def _id(key: KeyVaultKey) -> str:
    return str(key.id)
