"""The provider's SQL servers, their databases and their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.administrators.administrator import Administrator
    from sandbox.administrators.identities import ProviderIdentity

SQL = "2025-01-01"
PASSWORD = "Not-a-Secret-0f-Anything"  # noqa: S105 - no simulated server has a door for it


class SqlAdministrator:
    """What an administrator does with Microsoft.Sql, in one resource group unless another is named."""

    def __init__(self, administrator: Administrator, resource_group: str) -> None:
        self._administrator = administrator
        self._resource_group = resource_group

    def server_id(self, name: str, resource_group: str | None = None) -> str:
        """The ARM id of a server."""
        group = resource_group or self._resource_group
        return f"{self._administrator.subscription}/resourceGroups/{group}/providers/Microsoft.Sql/servers/{name}"

    async def put(self, resource_id: str, body: object) -> dict[str, Any]:
        """PUT anything of Microsoft.Sql and wait for its end."""
        return await self._administrator.put(resource_id, SQL, body)

    async def patch(self, resource_id: str, body: object) -> dict[str, Any]:
        """PATCH anything of Microsoft.Sql and wait for its end."""
        return await self._administrator.patch(resource_id, SQL, body)

    async def get(self, resource_id: str) -> dict[str, Any]:
        """Anything of Microsoft.Sql as ARM shows it."""
        return await self._administrator.get(resource_id, SQL)

    async def delete(self, resource_id: str) -> None:
        """A server with its databases, a database, a key or a failover group."""
        await self._administrator.delete(resource_id, SQL)

    async def create_server(
        self,
        name: str,
        *,
        resource_group: str | None = None,
        location: str = "westeurope",
        identity: Mapping[str, object] | None = None,
        **properties: object,
    ) -> str:
        """A server on a Microsoft-managed key unless the properties say otherwise; its ARM id."""
        resource_id = self.server_id(name, resource_group)
        administrator = {"administratorLogin": "contoso", "administratorLoginPassword": PASSWORD}
        body: dict[str, object] = {"location": location, "properties": {**administrator, **properties}}
        if identity is not None:
            body["identity"] = dict(identity)
        await self.put(resource_id, body)
        return resource_id

    async def create_database(self, server_id: str, name: str, *, location: str = "westeurope", **body: object) -> str:
        """A database; its ARM id."""
        resource_id = f"{server_id}/databases/{name}"
        await self.put(resource_id, {"location": location, **body})
        return resource_id

    async def set_encryption(self, database_id: str, *, on: bool) -> None:
        """Switch a database's transparent data encryption on or off."""
        body = {"properties": {"state": "Enabled" if on else "Disabled"}}
        await self.put(f"{database_id}/transparentDataEncryption/current", body)

    async def replicate_database(self, database_id: str, server_id: str, *, location: str) -> str:
        """Active geo-replication of one database to another server; the secondary's ARM id."""
        replica = f"{server_id}/databases/{database_id.rsplit('/', 1)[-1]}"
        properties = {"createMode": "Secondary", "sourceDatabaseId": database_id}
        await self.put(replica, {"location": location, "properties": properties})
        return replica

    async def create_failover_group(self, primary_id: str, name: str, secondary_id: str, databases: Sequence[str] = ()) -> str:
        """A failover group with geo-secondaries of the databases (ARM ids) on the other server; its ARM id."""
        resource_id = f"{primary_id}/failoverGroups/{name}"
        properties = {
            "readWriteEndpoint": {"failoverPolicy": "Manual"},
            "partnerServers": [{"id": secondary_id}],
            "databases": list(databases),
        }
        await self.put(resource_id, {"properties": properties})
        return resource_id

    async def protector(self, server_id: str) -> dict[str, Any]:
        """What protects a server: the properties of its encryption protector."""
        found: dict[str, Any] = (await self.get(f"{server_id}/encryptionProtector/current"))["properties"]
        return found

    async def keys(self, server_id: str) -> list[str]:
        """The names of the keys that a server knows."""
        return [str(one["name"]) for one in (await self.get(f"{server_id}/keys"))["value"]]

    async def status(self, server_id: str, database: str) -> str:
        """`Online`, or `Inaccessible` while the database's key cannot be reached."""
        found: str = (await self.get(f"{server_id}/databases/{database}"))["properties"]["status"]
        return found

    async def keep_backups(self, database_id: str, days: int, **long_term: object) -> None:
        """How many days back a database can be restored, and its long-term retention, such as `weeklyRetention="P4W"`."""
        await self.put(f"{database_id}/backupShortTermRetentionPolicies/default", {"properties": {"retentionDays": days}})
        if long_term:
            await self.put(f"{database_id}/backupLongTermRetentionPolicies/default", {"properties": long_term})

    async def add_key(self, server_id: str, uri: str) -> str:
        """Let a server know a key of a vault (a key identifier); the name that the server gives it."""
        vault, _, rest = uri.removeprefix("https://").partition(".")
        name = "_".join((vault, *rest.split("/keys/")[1].split("/")))
        await self.put(f"{server_id}/keys/{name}", {"properties": {"serverKeyType": "AzureKeyVault", "uri": uri}})
        return name

    async def set_protector(self, server_id: str, uri: str | None, *, auto_rotation: bool = False) -> None:
        """Protect a server with a key of a vault, which it is told of first, or with Microsoft's (None)."""
        properties: dict[str, object] = {"serverKeyType": "ServiceManaged"}
        if uri is not None:
            name = await self.add_key(server_id, uri)
            properties = {"serverKeyType": "AzureKeyVault", "serverKeyName": name, "autoRotationEnabled": auto_rotation}
        await self.put(f"{server_id}/encryptionProtector/current", {"properties": properties})

    async def set_identity(self, server_id: str, identity: ProviderIdentity) -> None:
        """Who the server is on its way to a customer's vault."""
        assigned = {"type": "UserAssigned", "userAssignedIdentities": {identity.managed_identity_resource_id: {}}}
        properties = {
            "primaryUserAssignedIdentityId": identity.managed_identity_resource_id,
            "federatedClientId": identity.application_client_id,
        }
        await self.patch(server_id, {"identity": assigned, "properties": properties})
