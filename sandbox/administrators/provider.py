"""The provider's administrator: prepares the operator's identity, and owns the storage accounts."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient

from sandbox.administrators.administrator import Administrator
from sandbox.administrators.compute import ComputeAdministrator
from sandbox.administrators.identities import ProviderIdentity, Registrar
from sandbox.administrators.rest import connection
from sandbox.administrators.sql import SqlAdministrator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"
GRAPH_ROLES = {
    "Application.Read.All": "9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30",
    "Application.ReadWrite.OwnedBy": "18a4783c-866b-4cc7-a460-3d5e5662c884",
}
AUDIENCE = "api://AzureADTokenExchange"
IDENTITIES = "2024-11-30"
STORAGE = "2026-09-01"
ALIASES = "2021-10-01"
ROLES = (
    "Storage Account Contributor",
    "SQL Server Contributor",
    "Disk Encryption Set Operator for Managed Disks",
    "Virtual Machine Contributor",  # the only built-in role that may write disks
)


class ProviderAdministrator(Administrator):
    """Prepares the operator's identity, and owns the storage accounts."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__(env, "PROVIDER")
        self._blobs: dict[str, BlobServiceClient] = {}
        self.resource_group = "rg-contoso"

    @property
    def compute(self) -> ComputeAdministrator:
        """Its disks, disk encryption sets and virtual machines."""
        return ComputeAdministrator(self, self.resource_group)

    @property
    def sql(self) -> SqlAdministrator:
        """Its SQL servers."""
        return SqlAdministrator(self, self.resource_group)

    async def in_another_subscription(self, alias: str, operator_principal_id: str) -> Self:
        """The same administrator in a further subscription of the tenant, in which the operator has its roles as well."""
        body = {"properties": {"displayName": alias, "workload": "Production"}}
        made = await self.put(f"/providers/Microsoft.Subscription/aliases/{alias}", ALIASES, body)
        other = copy.copy(self)
        other.subscription_id = made["properties"]["subscriptionId"]
        for role in ROLES:
            await self.assign_role(operator_principal_id, role, other.subscription)
        return other

    async def prepare(
        self,
        *,
        issuer: str,
        service_account: str = "system:serviceaccount:cmk-operator-system:cmk-operator",
        key_service_account: str | None = None,
        resource_group: str = "rg-contoso",
        location: str = "westeurope",
    ) -> ProviderIdentity:
        """Everything the operator needs in the provider's tenant; doing it again changes nothing.

        `key_service_account`: the subject of the key service's ServiceAccount, which the same identity and application trust then.
        """
        self.resource_group = resource_group
        group = await self.create_resource_group(resource_group, location)
        identity_id = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cmk-operator"
        identity = (await self.put(identity_id, IDENTITIES, {"location": location}))["properties"]
        await self._trust_service_account(identity_id, issuer, service_account)
        application = await self._application("Contoso CMK")
        entra = f"{self.cloud.issuer}/{self.tenant_id}/v2.0"
        await self._trust(application["id"], "managed-identity", entra, identity["principalId"])
        await self._trust(application["id"], "service-account", issuer, service_account)
        if key_service_account is not None:
            await self._trust_service_account(identity_id, issuer, key_service_account, "key-service")
            await self._trust(application["id"], "key-service", issuer, key_service_account)
        for role in ROLES:
            await self.assign_role(identity["principalId"], role, self.subscription)
        await self.assign_role(identity["principalId"], "Managed Identity Operator", identity_id)
        await self.grant_graph_role(identity["principalId"], "Application.Read.All")
        return ProviderIdentity(
            application_client_id=application["appId"],
            application_name=application["displayName"],
            managed_identity_resource_id=identity_id,
            managed_identity_client_id=identity["clientId"],
            managed_identity_principal_id=identity["principalId"],
            resource_group=resource_group,
        )

    async def _trust_service_account(
        self, identity_id: str, issuer: str, service_account: str, name: str = "kubernetes"
    ) -> None:
        credential = f"{identity_id}/federatedIdentityCredentials/{name}"
        wanted = {"issuer": issuer, "subject": service_account, "audiences": [self.cloud.exchange_audience]}
        try:
            if (await self.get(credential, IDENTITIES))["properties"] == wanted:
                return
        except ResourceNotFoundError:
            pass
        await self.put(credential, IDENTITIES, {"properties": wanted})

    async def _application(self, name: str) -> dict[str, Any]:
        filtered = quote(f"displayName eq '{name}'")
        found: list[dict[str, Any]] = (await self.graph.json("GET", f"/applications?$filter={filtered}"))["value"]
        if found:
            return found[0]
        body = {"displayName": name, "signInAudience": "AzureADMultipleOrgs"}
        application = await self.graph.json("POST", "/applications", body)
        await self.graph.json("POST", "/servicePrincipals", {"appId": application["appId"]})
        return application

    async def _trust(self, application_object_id: str, name: str, issuer: str, subject: str) -> None:
        path = f"/applications/{application_object_id}/federatedIdentityCredentials"
        existing = {one["name"]: one for one in (await self.graph.json("GET", path))["value"]}
        wanted = {"issuer": issuer, "subject": subject, "audiences": [self.cloud.exchange_audience]}
        if name not in existing:
            await self.graph.json("POST", path, {"name": name, **wanted})
        elif any(existing[name][key] != value for key, value in wanted.items()):
            await self.graph.json("PATCH", f"{path}/{existing[name]['id']}", wanted)

    async def trust(self, identity: ProviderIdentity, issuer: str, service_account: str, name: str) -> None:
        """Let the managed identity trust one more ServiceAccount, as for a second operator that acts as the same identity."""
        await self._trust_service_account(identity.managed_identity_resource_id, issuer, service_account, name)

    async def prepare_registrar(
        self,
        *,
        issuer: str,
        service_account: str = "system:serviceaccount:cmk-operator-system:cmk-operator",
        resource_group: str = "rg-cmk-identities",
        location: str = "westeurope",
    ) -> Registrar:
        """What the operator needs to register identities itself, and no more (docs/identity.md)."""
        group = await self.create_resource_group(resource_group, location)
        identity_id = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cmk-registrar"
        identity = (await self.put(identity_id, IDENTITIES, {"location": location}))["properties"]
        await self._trust_service_account(identity_id, issuer, service_account)
        await self.assign_role(identity["principalId"], "Managed Identity Contributor", group)
        await self.grant_graph_role(identity["principalId"], "Application.ReadWrite.OwnedBy")
        return Registrar(identity["clientId"], identity["principalId"], group)

    async def grant_graph_role(self, principal_id: str, role: str) -> None:
        """Grant a permission on Microsoft Graph by its name; again changes nothing. It is in the tokens issued from now on."""
        path = f"/servicePrincipals/{principal_id}/appRoleAssignments"
        if any(one["appRoleId"] == GRAPH_ROLES[role] for one in (await self.graph.json("GET", path))["value"]):
            return
        graph_id = await self.principal_id(GRAPH_APP_ID)
        await self.graph.json(
            "POST", path, {"principalId": principal_id, "resourceId": graph_id, "appRoleId": GRAPH_ROLES[role]}
        )

    async def withdraw_graph_role(self, principal_id: str, role: str) -> None:
        """Take a permission on Microsoft Graph back; tokens that were issued keep it."""
        path = f"/servicePrincipals/{principal_id}/appRoleAssignments"
        for one in (await self.graph.json("GET", path))["value"]:
            if one["appRoleId"] == GRAPH_ROLES[role]:
                await self.graph.json("DELETE", f"{path}/{one['id']}")

    async def federated_credentials(self, application_client_id: str) -> list[dict[str, Any]]:
        """Whose tokens an application takes."""
        path = f"/applications(appId='{application_client_id}')/federatedIdentityCredentials"
        found: list[dict[str, Any]] = (await self.graph.json("GET", path))["value"]
        return found

    def storage_account_id(self, name: str, resource_group: str | None = None) -> str:
        """The ARM id of a storage account."""
        group = resource_group or self.resource_group
        return f"{self.subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{name}"

    async def create_storage_account(
        self,
        name: str,
        *,
        resource_group: str | None = None,
        location: str = "westeurope",
        identity: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        kind: str = "StorageV2",
        under_account_key: Sequence[str] = (),
    ) -> str:
        """An account on the platform's key; `under_account_key` names `queue` and `table` if it is to protect them. Its ARM id."""
        resource_id = self.storage_account_id(name, resource_group)
        body: dict[str, object] = {
            "location": location,
            "kind": kind,
            "sku": {"name": "Standard_LRS"},
            "tags": dict(tags or {}),
        }
        if under_account_key:
            services = {service: {"keyType": "Account", "enabled": True} for service in under_account_key}
            body["properties"] = {"encryption": {"keySource": "Microsoft.Storage", "services": services}}
        if identity is not None:
            body["identity"] = dict(identity)
        await self.put(resource_id, STORAGE, body)
        return resource_id

    async def storage_account(self, resource_id: str) -> dict[str, Any]:
        """The account as ARM shows it."""
        return await self.get(resource_id, STORAGE)

    async def create_encryption_scope(self, account_id: str, name: str, key_uri: str | None = None, **more: object) -> str:
        """An encryption scope under the platform's key, or under the key with this identifier; its ARM id."""
        properties: dict[str, object] = {"source": "Microsoft.Storage", **more}
        if key_uri is not None:
            properties |= {"source": "Microsoft.KeyVault", "keyVaultProperties": {"keyUri": key_uri}}
        scope = f"{account_id}/encryptionScopes/{name}"
        await self.put(scope, STORAGE, {"properties": properties})
        return scope

    async def delete_storage_account(self, resource_id: str) -> None:
        """With its data."""
        await self.delete(resource_id, STORAGE)

    async def _blob_client(self, account: str) -> BlobServiceClient:
        if account not in self._blobs:
            client = BlobServiceClient(
                f"https://{account}{self.cloud.blob_suffix}",
                credential=self._credential,
                retry_total=2,
                **connection(self._env),
            )
            self._blobs[account] = await self._stack.enter_async_context(client)
        return self._blobs[account]

    async def put_blob(self, account: str, container: str, name: str, data: bytes, *, scope: str | None = None) -> None:
        """Write a blob, and its container if need be. Raises azure.core.exceptions.HttpResponseError as the SDK does."""
        client = (await self._blob_client(account)).get_container_client(container)
        try:
            await client.upload_blob(name, data, overwrite=True, encryption_scope=scope)
        except ResourceNotFoundError as error:
            if getattr(error, "error_code", None) != "ContainerNotFound":
                raise
            await client.create_container()
            await client.upload_blob(name, data, overwrite=True, encryption_scope=scope)

    async def get_blob(self, account: str, container: str, name: str) -> bytes:
        """Read a blob. Raises azure.core.exceptions.HttpResponseError as the SDK does."""
        client = (await self._blob_client(account)).get_blob_client(container, name)
        content: bytes = await (await client.download_blob()).readall()
        return content

    async def delete_blob(self, account: str, container: str, name: str) -> None:
        """Delete a blob."""
        await (await self._blob_client(account)).get_blob_client(container, name).delete_blob()
