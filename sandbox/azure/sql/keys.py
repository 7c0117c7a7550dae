"""Microsoft.Sql/servers/keys and encryptionProtector: the keys on a server, and the one that protects it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import parsed
from sandbox.azure.arm.resources import page
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.sql.bodies import ProtectorBody, ServerKeyBody
from sandbox.azure.sql.model import AZURE_KEY_VAULT, SERVICE_MANAGED, Protection
from sandbox.azure.sql.provider import KEY, PROTECTOR, SQL
from sandbox.azure.sql.refusals import key_location, refused, same_key_material_missing
from sandbox.azure.sql.views import key_shown, protector_shown

if TYPE_CHECKING:
    from sandbox.azure.arm.gateway import ArmCall
    from sandbox.azure.sql.bodies import ProtectorProperties, ServerKeyProperties
    from sandbox.azure.sql.model import KeyLocation, Server, ServerKey
    from sandbox.azure.sql.provider import SqlProvider


class ServerKeyOperations:
    """The keys of a server; the one that Microsoft manages is always among them."""

    def __init__(self, sql: SqlProvider) -> None:
        self._sql = sql
        collection = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{SQL}/{{name}}/keys"
        one, add, kind = f"{collection}/{{key}}", sql.add, f"{SQL}/keys"
        add("GET", collection, self.list, kind=kind, action=f"{kind}/read")
        add("GET", one, self.get, kind=kind, action=f"{kind}/read")
        add("PUT", one, self.put, kind=kind, action=f"{kind}/write")
        add("DELETE", one, self.delete, kind=kind, action=f"{kind}/delete")

    async def list(self, call: ArmCall) -> Answer:
        """All keys."""
        server = self._sql.server(call)
        keys = (None, *server.keys.values())
        return page(call, keys, lambda one: key_shown(server, one), self._sql.timings.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """One key."""
        server = self._sql.server(call)
        if call["key"].lower() == SERVICE_MANAGED.lower():
            return Answer(json=key_shown(server, None))
        key = server.keys.get(call["key"].lower())
        if key is None:
            raise refused(
                404, "ServerKeyNotFound", f"The requested server key '{call['key']}' was not found on server '{server.name}'."
            )
        return Answer(json=key_shown(server, key))

    async def put(self, call: ArmCall) -> Answer:
        """Let the server know a key, if it can use it; it protects nothing yet."""
        server = self._sql.server(call)
        location = self._named(call["key"], parsed(ServerKeyBody, call.body()).properties)
        existing = server.keys.get(location.server_key_name.lower())
        if existing is not None and existing.location != location:
            raise refused(
                409,
                "ServerKeyUriAlreadyExists",
                f"The server key URI '{location.uri}' already exists on server '{server.name}'.",
            )

        async def accept() -> ServerKey:
            return await self._sql.tde.accepted(server.who, location, server.name)

        async def add() -> None:
            key = await accept()
            if existing is None:
                server.keys[key.name.lower()] = key

        await self._sql.judged_now(accept)
        return self._sql.start(call, KEY, server, add, lambda: self._shown(server, location.server_key_name))

    @staticmethod
    def _shown(server: Server, name: str) -> dict[str, Any] | None:
        key = server.keys.get(name.lower())
        return None if key is None else key_shown(server, key)

    @staticmethod
    def _named(name: str, properties: ServerKeyProperties) -> KeyLocation:
        """Vault, key and version make the name."""
        if properties.server_key_type == SERVICE_MANAGED:
            raise refused(
                400,
                "InvalidKeyUpsertRequest",
                "The create server key request does not have a uri or is for a service managed key.",
            )
        if properties.server_key_type != AZURE_KEY_VAULT:
            raise refused(
                400,
                "InvalidKeyType",
                f"The create server key request body should have 'AzureKeyVault' as type, not '{properties.server_key_type}'.",
            )
        location = key_location(properties.uri)
        if name.lower() != location.server_key_name.lower():
            raise refused(
                400,
                "InvalidKeyName",
                f"The server key name '{name}' does not match the uri '{location.uri}': it should be '{location.server_key_name}'.",
            )
        return location

    async def delete(self, call: ArmCall) -> Answer:
        """Refused while anything is protected by it; 204 if it is not there."""
        server = self._sql.server(call)
        key = server.keys.get(call["key"].lower())
        if key is None:
            return Answer(204)

        def check() -> None:
            under = {one.data_key.under for one in server.databases.values()} | {server.protection.key}
            if key in under:
                raise refused(
                    409, "AzureKeyVaultKeyInUse", f"The key '{key.location.uri}' is currently in use by server '{server.name}'."
                )

        async def remove() -> None:
            check()
            server.keys.pop(key.name.lower(), None)

        check()
        return self._sql.start(call, KEY, server, remove, lambda: None)


class ProtectorOperations:
    """The protector always exists, is always named `current`, and cannot be deleted."""

    def __init__(self, sql: SqlProvider) -> None:
        self._sql = sql
        collection = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{SQL}/{{name}}/encryptionProtector"
        one, add, kind = f"{collection}/{{protector}}", sql.add, f"{SQL}/encryptionProtector"
        add("GET", collection, self.list, kind=kind, action=f"{kind}/read")
        add("GET", one, self.get, kind=kind, action=f"{kind}/read")
        add("PUT", one, self.put, kind=kind, action=f"{kind}/write")
        add("POST", f"{one}/revalidate", self.revalidate, kind=kind, action=f"{kind}/revalidate/action")

    def _server(self, call: ArmCall) -> Server:
        server = self._sql.server(call)
        if call["protector"].lower() != "current":
            raise refused(
                400,
                "InvalidEncryptionProtectorName",
                f"The encryption protector key name '{call['protector']}' is not supported.",
            )
        return server

    async def list(self, call: ArmCall) -> Answer:
        """The only one."""
        return Answer(json={"value": [protector_shown(self._sql.server(call))]})

    async def get(self, call: ArmCall) -> Answer:
        """What protects the server."""
        return Answer(json=protector_shown(self._server(call)))

    async def put(self, call: ArmCall) -> Answer:
        """Protect every database that has no key of its own with another of the server's keys."""
        server = self._server(call)
        properties = parsed(ProtectorBody, call.body()).properties

        async def check() -> ServerKey | None:
            key = self._wanted(server, properties)
            for database in self._sql.tde.protected_by(server):
                await self._sql.tde.plain(database)
            if key is not None:
                await self._sql.tde.accepted(server.who, key.location.at(key.version), server.name)
                self._on_partners(server, key, follows=bool(properties.auto_rotation_enabled))
            return key

        async def change() -> None:
            key = await check()
            await self._sql.tde.move_server(server, key)
            auto = properties.auto_rotation_enabled
            server.protection = Protection(key, bool(server.protection.auto_rotation if auto is None else auto and key))
            self._sql.background.follow(server)

        self._wanted(server, properties)
        await self._sql.judged_now(check)
        return self._sql.start(call, PROTECTOR, server, change, lambda: protector_shown(server))

    @staticmethod
    def _wanted(server: Server, properties: ProtectorProperties) -> ServerKey | None:
        name = properties.server_key_name or ""
        if properties.server_key_type == SERVICE_MANAGED:
            if name.lower() not in {"", SERVICE_MANAGED.lower()}:
                raise refused(400, "InvalidUpsertKeyType", f"The server key '{name}' does not have the type 'ServiceManaged'.")
            return None
        if not name:
            raise refused(400, "InvalidKeyName", "The encryption protector needs the name of a server key.")
        if name.lower() == SERVICE_MANAGED.lower():
            raise refused(400, "InvalidUpsertKeyType", f"The server key '{name}' does not have the type 'AzureKeyVault'.")
        key = server.keys.get(name.lower())
        if key is None:
            raise refused(
                409,
                "ServerKeyDoesNotExists",
                f"The server key '{name}' does not exist on server '{server.name}'. Add it first.",
            )
        return key

    def _on_partners(self, server: Server, key: ServerKey, *, follows: bool) -> None:
        """A geo-secondary must know the key before its primary is protected by it."""
        for partner in self._sql.servers.partners_of(server):
            if self._sql.servers.partners_of(partner):
                raise refused(
                    400,
                    "SecurityAzureKeyVaultGeoChainError",
                    "Creating secondary of secondary (a process known as chaining) is not supported when enabling Transparent Data "
                    "Encryption using Azure Key Vault (BYOK).",
                )
            if key.thumbprint not in {one.thumbprint for one in partner.keys.values()}:
                if not any(partner in one.partners for one in self._sql.servers.groups_of(server)):
                    raise same_key_material_missing(key, partner)
                raise refused(
                    400,
                    "KeyMaterialNotFoundOnRemoteServer",
                    f"The remote server '{partner.name}' does not have the key material of the encryption protector '{key.location.uri}'. "
                    "Add the key to it first.",
                )
            if follows and not any(one.location.same_key(key.location) for one in partner.keys.values()):
                raise refused(
                    400,
                    "SameKeyUriNotFoundOnRemoteServer",
                    f"Secondary server '{partner.name}' does not have the key material from the same key vault as the primary server's "
                    f"encryption protector '{key.location.uri}' with key auto-rotation enabled.",
                )

    async def revalidate(self, call: ArmCall) -> Answer:
        """Look at the key now, and open the databases that were closed for want of it."""
        server = self._server(call)

        async def check() -> None:
            if server.protection.key is not None:
                key = server.protection.key
                await self._sql.tde.accepted(server.who, key.location.at(key.version), server.name)

        async def open_again() -> None:
            await check()
            problem: ArmRefusedError | None = None
            for database in server.databases.values():
                if database.own is not None:
                    continue
                try:
                    await self._sql.tde.revalidate(database)
                except ArmRefusedError as error:
                    problem = error
            if problem is not None:
                raise problem

        await self._sql.judged_now(check)
        return self._sql.start(call, PROTECTOR, server, open_again, lambda: protector_shown(server))
