"""Microsoft.Sql/servers/failoverGroups: enough of them for geo-secondaries of databases."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from sandbox.azure.arm.bodies import parsed
from sandbox.azure.arm.identities import not_found
from sandbox.azure.arm.resources import page
from sandbox.azure.exchange import Answer
from sandbox.azure.sql.bodies import FailoverGroupBody
from sandbox.azure.sql.model import Database, FailoverGroup
from sandbox.azure.sql.provider import FAILOVER_GROUP, SQL
from sandbox.azure.sql.refusals import refused
from sandbox.azure.sql.views import failover_group_shown

if TYPE_CHECKING:
    from sandbox.azure.arm.gateway import ArmCall
    from sandbox.azure.sql.bodies import FailoverGroupProperties
    from sandbox.azure.sql.model import Server
    from sandbox.azure.sql.provider import SqlProvider

KIND = f"{SQL}/failoverGroups"


class FailoverGroupOperations:
    """Create, read and delete; no failover."""

    def __init__(self, sql: SqlProvider) -> None:
        self._sql = sql
        collection = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{SQL}/{{name}}/failoverGroups"
        one, add = f"{collection}/{{failover}}", sql.add
        add("GET", collection, self.listed, kind=KIND, action=f"{KIND}/read")
        add("GET", one, self.get, kind=KIND, action=f"{KIND}/read")
        add("PUT", one, self.put, kind=KIND, action=f"{KIND}/write")
        add("DELETE", one, self.delete, kind=KIND, action=f"{KIND}/delete")

    def _find(self, server: Server, name: str) -> FailoverGroup | None:
        return next((one for one in self._sql.servers.groups_of(server) if one.name.lower() == name.lower()), None)

    async def listed(self, call: ArmCall) -> Answer:
        """Those that the server is in, on either side."""
        server = self._sql.server(call)
        groups = list(self._sql.servers.groups_of(server))
        return page(call, groups, lambda one: failover_group_shown(one, server), self._sql.timings.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """One group."""
        server = self._sql.server(call)
        group = self._find(server, call["failover"])
        if group is None:
            raise not_found(KIND, f"{server.name}/{call['failover']}", call["group"])
        return Answer(json=failover_group_shown(group, server))

    async def put(self, call: ArmCall) -> Answer:
        """Make the server a primary; its databases get geo-secondaries on the partners."""
        server = self._sql.server(call)
        body = parsed(FailoverGroupBody, call.body())
        properties = body.properties
        existing = self._find(server, call["failover"])
        if existing is not None and existing.primary is not server:
            raise refused(
                409, "FailoverGroupNotPrimary", f"The server '{server.name}' is not the primary of the failover group."
            )
        partners = [self._partner(call, server, one.id) for one in properties.partner_servers]
        if not partners:
            raise refused(400, "FailoverGroupNoPartnerServer", "A failover group needs a partner server.")
        databases = self._databases(server, properties)
        self._known(server, partners)
        group = existing or FailoverGroup(
            call["failover"],
            server,
            partners,
            [],
            properties.read_write_endpoint.sent(),
            (properties.read_only_endpoint.sent() if properties.read_only_endpoint else {"failoverPolicy": "Disabled"}),
        )

        async def change() -> None:
            self._known(server, partners)
            group.partners, group.databases = partners, [one.name for one in databases]
            group.tags = body.tags if body.tags is not None else group.tags
            if group not in self._sql.servers.groups:
                self._sql.servers.groups.append(group)
            for partner in partners:
                for one in databases:
                    self._replicate(one, partner)

        return self._sql.start(call, FAILOVER_GROUP, server, change, lambda: failover_group_shown(group, server))

    def _partner(self, call: ArmCall, server: Server, partner_id: str) -> Server:
        partner = self._sql.servers.with_id(partner_id)
        if partner is None:
            raise refused(404, "FailoverGroupPartnerServerNotFound", f"The partner server '{partner_id}' was not found.")
        if partner.location == server.location:
            raise refused(
                400,
                "InvalidFailoverGroupRegion",
                "Servers specified in a failover group must reside in different regions.",
            )
        self._sql.gateway.authorize_linked(call.caller, f"{SQL}/write", partner.id, f"{KIND}/write", call.scope)
        return partner

    @staticmethod
    def _databases(server: Server, properties: FailoverGroupProperties) -> list[Database]:
        found: list[Database] = []
        for one in properties.databases or ():
            database = server.databases.get(one.rsplit("/", 1)[-1].lower())
            if database is None or database.id.lower() != one.lower():
                raise refused(404, "DatabaseDoesNotExist", f"The database '{one}' does not exist.")
            found.append(database)
        return found

    def _known(self, server: Server, partners: list[Server]) -> None:
        """What protects the primary must be known on the other side."""
        key = server.protection.key
        for partner in partners:
            if key is not None and key.thumbprint not in {one.thumbprint for one in partner.keys.values()}:
                raise refused(
                    400,
                    "KeyMaterialNotFoundOnRemoteServer",
                    f"The remote server '{partner.name}' does not have the key material of the encryption protector '{key.location.uri}'. "
                    "Add the key to it first.",
                )

    def _replicate(self, database: Database, partner: Server) -> None:
        if database.name.lower() in partner.databases:
            return
        replica = Database(
            partner,
            database.name,
            partner.location,
            self._sql.clock.now(),
            copy(database.data_key),
            sku=dict(database.sku),
            replica_of=database,
            encrypted=database.encrypted,
        )
        partner.databases[database.name.lower()] = replica
        self._sql.background.watch(replica)

    async def delete(self, call: ArmCall) -> Answer:
        """The group alone: the secondaries become databases of their own."""
        server = self._sql.server(call)
        group = self._find(server, call["failover"])
        if group is None:
            return Answer(204)

        async def remove() -> None:
            if group in self._sql.servers.groups:
                self._sql.servers.groups.remove(group)
            for partner in group.partners:
                for one in partner.databases.values():
                    one.replica_of = None

        return self._sql.start(call, FAILOVER_GROUP, server, remove, lambda: None)
