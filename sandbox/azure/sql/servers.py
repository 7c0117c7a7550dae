"""Microsoft.Sql/servers: the server itself, and the identity with which it accesses a vault."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import NameAvailability, parsed
from sandbox.azure.arm.resources import authorize_assignment, location_of, page, resource_id, serve
from sandbox.azure.arm.subscriptions import normalized_location
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.sql.administrators import administrators_shown, check_changed, login_of_new
from sandbox.azure.sql.bodies import ServerBody, ServerProperties, ServerUpdate
from sandbox.azure.sql.model import Protection, Server
from sandbox.azure.sql.provider import SERVER, SQL
from sandbox.azure.sql.refusals import key_location, refused
from sandbox.azure.sql.views import server_shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.azure.arm.bodies import IdentityBlock
    from sandbox.azure.arm.gateway import ArmCall
    from sandbox.azure.sql.model import KeyLocation, ServerKey
    from sandbox.azure.sql.provider import SqlProvider

KEPT = frozenset(
    {"minimalTlsVersion", "publicNetworkAccess", "restrictOutboundNetworkAccess", "isIPv6Enabled", "retentionDays"}
)
NO_CLIENT = "00000000-0000-0000-0000-000000000000"
"""Takes the federated client away."""


class ServerOperations:
    """The operations."""

    def __init__(self, sql: SqlProvider) -> None:
        self._sql = sql
        subscription = "/subscriptions/{subscription}"
        serve(sql, SQL, self)
        add = sql.add
        check = "Microsoft.Sql/checkNameAvailability"
        add("POST", f"{subscription}/providers/{check}", self.available, kind=check, action=f"{check}/action")

    def _shown(self, server: Server) -> dict[str, Any]:
        return server_shown(server, self._sql.identities)

    def _shown_if_there(self, server: Server) -> Callable[[], dict[str, Any] | None]:
        return lambda: self._shown(server) if self._sql.servers.with_id(server.id) is server else None

    async def list(self, call: ArmCall) -> Answer:
        """Of a subscription or a group, in pages."""
        return page(call, self._sql.servers.under(call.scope), self._shown, self._sql.timings.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """One server, whether its key can be reached or not."""
        return Answer(json=self._shown(self._sql.server(call)))

    async def put(self, call: ArmCall) -> Answer:
        """Create, or change what was sent."""
        body = parsed(ServerBody, call.body())
        place, name = resource_id(self._sql.gateway, call, SQL), call["name"]
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
            raise refused(
                400, "InvalidServerName", f"'{name}' is not a valid name: lower-case letters, digits and hyphens, at most 63."
            )
        existing = self._sql.servers.find(name)
        if existing is not None and existing.id.lower() != place.lower():
            raise refused(400, "NameAlreadyExists", f"The name '{name}' already exists. Choose a different name.")
        location = location_of(call, normalized_location(body.location), existing.location if existing else None)
        authorize_assignment(self._sql.gateway, call, body.identity, SQL)
        properties = body.properties or ServerProperties()
        if existing is not None:
            return await self._changed(call, existing, body.identity, properties, body.tags)
        tenant_id, login = call.caller.tenant_id, login_of_new(properties)
        server = Server(place, name, location, tenant_id, self._sql.clock.now(), login)
        if (administrators := administrators_shown(properties, tenant_id)) is not None:
            server.settings["administrators"] = administrators
        self._identify(server, body.identity, properties, whole=True)
        wanted = properties.key_id

        async def check() -> ServerKey | None:
            return await self._key(server, wanted) if wanted else None

        async def create() -> None:
            key = await check()
            self._set(server, properties, body.tags)
            if key is not None:
                server.keys[key.name.lower()] = key
                server.protection = Protection(key)
            self._sql.servers.add(server)

        await self._sql.judged_now(check)
        return self._sql.start(call, SERVER, server, create, self._shown_if_there(server))

    async def _key(self, server: Server, uri: str) -> ServerKey:
        """`keyId`: only a user-assigned identity can have access to a key before the server exists."""
        location = key_location(uri)
        if server.primary_identity is None:
            raise refused(
                401,
                "AzureKeyVaultNoServerIdentity",
                f"The server identity is not correctly configured on server '{server.name}'. A primary user assigned identity is needed.",
            )
        return await self._reached(server, location)

    async def _reached(self, server: Server, location: KeyLocation) -> ServerKey:
        """As the primary identity, which has a code of its own where it lacks permissions. Raises ArmRefusedError."""
        try:
            return await self._sql.tde.accepted(server.who, location, server.name)
        except ArmRefusedError as error:
            if error.code != "AzureKeyVaultMissingPermissions" or server.primary_identity is None:
                raise
            raise refused(
                400,
                "UmiMissingAkvPermissions",
                f"The PrimaryUserAssignedIdentityId provided by the user '{server.primary_identity}' does not have access to the KeyId "
                f"provided '{location.uri}'.",
            ) from error

    def _identify(self, server: Server, identity: IdentityBlock | None, properties: ServerProperties, *, whole: bool) -> None:
        """Identity, primary identity and federated client: who goes to the vault."""
        if identity is not None:
            server.identity = self._sql.identities.changed(server.id, server.tenant_id, server.identity, identity, whole=whole)
        sent = properties.model_fields_set
        if "primary_user_assigned_identity_id" in sent:
            server.primary_identity = properties.primary_user_assigned_identity_id or None
        if "federated_client_id" in sent:
            client = properties.federated_client_id
            server.federated_client_id = None if client in {None, "", NO_CLIENT} else client
        if server.primary_identity is None and server.identity.user_assigned and not server.identity.system_principal:
            raise refused(
                400,
                "InvalidPrimaryUserAssignedIdentity",
                "A primary user assigned identity is required when the identity type is UserAssigned.",
            )
        if server.primary_identity is not None and not server.identity.has(server.primary_identity):
            raise refused(
                400,
                "InvalidPrimaryUserAssignedIdentity",
                f"The primary user assigned identity '{server.primary_identity}' is not one of the identities of the server.",
            )
        if server.federated_client_id and server.primary_identity is None:
            raise refused(
                400, "InvalidFederatedClientId", "A federated client needs a primary user assigned identity on the server."
            )

    def _set(self, server: Server, properties: ServerProperties, tags: dict[str, str] | None) -> None:
        server.settings |= {name: value for name, value in properties.sent().items() if name in KEPT and value is not None}
        server.tags = tags if tags is not None else server.tags

    async def patch(self, call: ArmCall) -> Answer:
        """Change what was sent."""
        server = self._sql.server(call)
        body = parsed(ServerUpdate, call.body())
        authorize_assignment(self._sql.gateway, call, body.identity, SQL)
        return await self._changed(call, server, body.identity, body.properties or ServerProperties(), body.tags)

    async def _changed(
        self,
        call: ArmCall,
        server: Server,
        identity: IdentityBlock | None,
        properties: ServerProperties,
        tags: dict[str, str] | None,
    ) -> Answer:
        """A server on a customer's key must reach it as whom it becomes, or nothing changes."""
        check_changed(server.administrator_login, properties)
        before = (server.identity, server.primary_identity, server.federated_client_id)

        def identify() -> None:
            self._identify(server, identity, properties, whole=call.exchange.method == "PUT")

        def restore() -> None:
            server.identity, server.primary_identity, server.federated_client_id = before

        async def check() -> ServerKey | None:
            current = server.protection.key
            if properties.key_id and (current is None or key_location(properties.key_id) != current.location):
                return await self._key(server, properties.key_id)
            if current is not None:
                await self._reached(server, current.location.at(current.version))
            return None

        async def change() -> None:
            identify()
            try:
                key = await check()
            except BaseException:
                restore()
                raise
            if key is not None:
                await self._sql.tde.move_server(server, key)
                server.keys[key.name.lower()] = key
                server.protection = Protection(key, server.protection.auto_rotation)
                self._sql.background.follow(server)
            self._set(server, properties, tags)

        try:
            identify()
            await self._sql.judged_now(check)
        finally:
            restore()
        return self._sql.start(call, SERVER, server, change, self._shown_if_there(server))

    async def delete(self, call: ArmCall) -> Answer:
        """Gone with its databases; 204 if it was not there."""
        server = self._sql.servers.with_id(resource_id(self._sql.gateway, call, SQL))
        if server is None:
            return Answer(204)

        async def remove() -> None:
            self._sql.servers.remove(server)
            server.databases.clear()

        return self._sql.start(call, SERVER, server, remove, lambda: None)

    async def available(self, call: ArmCall) -> Answer:
        """Whether the name is free."""
        name = parsed(NameAvailability, call.body()).name
        if self._sql.servers.find(name) is None:
            return Answer(json={"name": name, "available": True})
        message = f"Specified server name '{name}' is already used."
        return Answer(json={"name": name, "available": False, "reason": "AlreadyExists", "message": message})
