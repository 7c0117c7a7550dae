"""Microsoft.Sql/servers/databases: databases under their server's protector, or under a key of their own."""

from __future__ import annotations

import re
from copy import copy
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import parsed
from sandbox.azure.arm.resources import authorize_assignment, location_of, page
from sandbox.azure.arm.subscriptions import normalized_location
from sandbox.azure.exchange import Answer
from sandbox.azure.key_vault.crypto import new_data_key
from sandbox.azure.key_vault.service_access import ServiceIdentity
from sandbox.azure.sql.bodies import OWN, READ_ONLY, DatabaseBody, DatabaseProperties, DatabaseUpdate
from sandbox.azure.sql.model import INACCESSIBLE, Database, DataKey, DroppedDatabase, Protection
from sandbox.azure.sql.provider import DATABASE, SQL
from sandbox.azure.sql.refusals import key_location, refused, same_key_material_missing
from sandbox.azure.sql.views import MASTER, database_shown, link_shown, master_shown

if TYPE_CHECKING:
    from sandbox.azure.arm.assigned_identities import IdentitySettings
    from sandbox.azure.arm.bodies import IdentityBlock
    from sandbox.azure.arm.gateway import ArmCall
    from sandbox.azure.sql.model import KeyLocation, Server, ServerKey
    from sandbox.azure.sql.provider import SqlProvider

KIND = f"{SQL}/databases"


class DatabaseOperations:
    """The operations."""

    def __init__(self, sql: SqlProvider) -> None:
        self._sql = sql
        server = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{SQL}/{{name}}"
        one, add = f"{server}/databases/{{database}}", sql.add
        add("GET", f"{server}/databases", self.list, kind=KIND, action=f"{KIND}/read")
        links = f"{SQL}/replicationLinks"
        add("GET", f"{server}/replicationLinks", self.links, kind=links, action=f"{links}/read")
        add("GET", f"{server}/inaccessibleDatabases", self.inaccessible, kind=KIND, action=f"{SQL}/inaccessibleDatabases/read")
        add("GET", one, self.get, kind=KIND, action=f"{KIND}/read")
        add("PUT", one, self.put, kind=KIND, action=f"{KIND}/write")
        add("PATCH", one, self.patch, kind=KIND, action=f"{KIND}/write")
        add("DELETE", one, self.delete, kind=KIND, action=f"{KIND}/delete")
        protector, kind = f"{one}/encryptionProtector/current", f"{KIND}/encryptionProtector"
        add("POST", f"{protector}/revalidate", self.revalidate, kind=kind, action=f"{kind}/revalidate/action")
        add("POST", f"{protector}/revert", self.revert, kind=kind, action=f"{kind}/revert/action")

    def _shown(self, database: Database, *, with_keys: bool = False) -> dict[str, Any]:
        group = next((one for one in self._sql.servers.groups_of(database.server) if database.name in one.databases), None)
        return database_shown(database, self._sql.identities, group=group, with_keys=with_keys)

    async def list(self, call: ArmCall) -> Answer:
        """Of a server, in pages, with the system database master, which every server has."""
        server = self._sql.server(call)
        databases = [None, *server.databases.values()]
        return page(call, databases, lambda one: self._listed_as(server, one), self._sql.timings.list_page_size)

    def _listed_as(self, server: Server, database: Database | None) -> dict[str, Any]:
        return self._shown(database) if database is not None else master_shown(server)

    async def inaccessible(self, call: ArmCall) -> Answer:
        """Those whose key is out of reach."""
        found = [one for one in self._sql.server(call).databases.values() if one.status == INACCESSIBLE]
        return page(call, found, self._shown, self._sql.timings.list_page_size)

    async def links(self, call: ArmCall) -> Answer:
        """Of all databases of a server that are geo-replicated, in a failover group or one by one."""
        found = self._sql.servers.links_of(self._sql.server(call))
        return page(call, found, lambda link: link_shown(*link), self._sql.timings.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """One database; its keys with `$expand=keys`."""
        if call["database"].lower() == MASTER:
            return Answer(json=master_shown(self._sql.server(call)))
        expanded = call.exchange.query.get("$expand", "").lower().startswith("keys")
        return Answer(json=self._shown(self._sql.database(call), with_keys=expanded))

    async def put(self, call: ArmCall) -> Answer:
        """Create, or change what was sent."""
        server = self._sql.server(call)
        body = parsed(DatabaseBody, call.body())
        name = call["database"]
        if not re.fullmatch(r"[^<>*%&:\\/?]{1,128}", name) or name.endswith((".", " ")) or name.lower() == MASTER:
            raise refused(400, "InvalidDatabaseName", f"The database name '{name}' is not valid.")
        location_of(call, normalized_location(body.location), server.location)
        authorize_assignment(self._sql.gateway, call, body.identity, KIND)
        existing = server.databases.get(name.lower())
        if existing is not None:
            return await self._changed(call, existing, DatabaseUpdate.model_validate(_common(body)))
        if body.properties is not None and body.properties.create_mode in {"Secondary", "OnlineSecondary"}:
            return self._replicated(call, server, name, body.properties.source_database_id or "")
        database = Database(server, name, server.location, self._sql.clock.now(), DataKey(new_data_key()))
        update = DatabaseUpdate.model_validate(_common(body))

        async def create() -> None:
            await self._apply(database, update, whole=True)
            if database.own is None:
                database.data_key = await self._sql.tde.under(
                    server.who, server.protection.key, database.data_key.plain or b"", server.name
                )
            server.databases[name.lower()] = database
            self._sql.background.watch(database)

        async def check() -> None:
            await self._judged(database, update, whole=True)

        await self._sql.judged_now(check)
        return self._sql.start(call, DATABASE, database, create, lambda: self._shown(database))

    def _replicated(self, call: ArmCall, server: Server, name: str, source_id: str) -> Answer:
        """Active geo-replication of one database, without a failover group."""
        primary = self._sql.servers.with_id(source_id.rsplit("/databases/", 1)[0])
        source = primary.databases.get(source_id.rsplit("/", 1)[-1].lower()) if primary is not None else None
        if primary is None or source is None:
            raise refused(404, "SourceDatabaseNotFound", f"The source database '{source_id}' does not exist.")
        self._sql.gateway.authorize_linked(call.caller, f"{KIND}/read", source.id, f"{KIND}/write", call.scope)
        key = primary.protection.key
        if key is not None and key.thumbprint not in {one.thumbprint for one in server.keys.values()}:
            raise same_key_material_missing(key, server)
        replica = Database(
            server,
            name,
            server.location,
            self._sql.clock.now(),
            copy(source.data_key),
            sku=dict(source.sku),
            replica_of=source,
            encrypted=source.encrypted,
        )

        async def create() -> None:
            server.databases[name.lower()] = replica
            self._sql.background.watch(replica)

        return self._sql.start(call, DATABASE, replica, create, lambda: self._shown(replica))

    async def patch(self, call: ArmCall) -> Answer:
        """Change what was sent; nothing while the database is inaccessible, but for what may mend that."""
        database = self._sql.database(call)
        body = parsed(DatabaseUpdate, call.body())
        authorize_assignment(self._sql.gateway, call, body.identity, KIND)
        return await self._changed(call, database, body)

    async def _changed(self, call: ArmCall, database: Database, body: DatabaseUpdate) -> Answer:
        if database.status == INACCESSIBLE:
            raise refused(
                409,
                "DatabaseInaccessible",
                f"The database '{database.name}' on server '{database.server.name}' is inaccessible: its key cannot be reached.",
            )

        whole = call.exchange.method == "PUT"

        async def check() -> None:
            await self._judged(database, body, whole=whole)

        async def change() -> None:
            await self._apply(database, body, whole=whole)

        await self._sql.judged_now(check)
        return self._sql.start(call, DATABASE, database, change, lambda: self._shown(database))

    async def _judged(
        self, database: Database, body: DatabaseUpdate, *, whole: bool
    ) -> tuple[IdentitySettings, str | None, ServerKey | None]:
        """Identity, client and key as they would become. Raises ArmRefusedError."""
        properties = body.properties or DatabaseProperties()
        identity, client = self._identified(database, body.identity, properties, whole=whole)
        own = database.own.key if database.own else None
        location = self._wanted(properties) or (own.location.at(own.version) if own else None)
        if location is None:
            return identity, client, None
        if not identity.user_assigned:
            raise refused(
                401,
                "AzureKeyVaultNoServerIdentity",
                f"The identity is not correctly configured on database '{database.name}': a user assigned identity is needed.",
            )
        who = ServiceIdentity(database.server.tenant_id, identity.user_assigned[0], None, client)
        return identity, client, await self._sql.tde.accepted(who, location, database.server.name)

    def _identified(
        self, database: Database, block: IdentityBlock | None, properties: DatabaseProperties, *, whole: bool
    ) -> tuple[IdentitySettings, str | None]:
        identity = database.identity
        if block is not None:
            if block.type.lower() not in {"userassigned", "none"}:
                raise refused(
                    400, "InvalidDatabaseIdentity", "A database takes user assigned identities only, not a system assigned one."
                )
            identity = self._sql.identities.changed(database.id, database.server.tenant_id, identity, block, whole=whole)
            if len(identity.user_assigned) > 1:
                raise refused(400, "InvalidDatabaseIdentity", "A database takes one user assigned identity.")
        client = database.federated_client_id
        if "federated_client_id" in properties.model_fields_set:
            client = properties.federated_client_id or None
        return identity, client

    @staticmethod
    def _wanted(properties: DatabaseProperties) -> KeyLocation | None:
        for uri, value in (properties.keys or {}).items():
            if value is not None:
                key_location(uri)
        if "encryption_protector" not in properties.model_fields_set:
            return None
        return key_location(properties.encryption_protector)

    async def _apply(self, database: Database, body: DatabaseUpdate, *, whole: bool) -> None:
        properties = body.properties or DatabaseProperties()
        identity, client, key = await self._judged(database, body, whole=whole)
        if key is not None and (database.own is None or database.own.key is None or database.own.key.name != key.name):
            who = ServiceIdentity(database.server.tenant_id, identity.user_assigned[0], None, client)
            await self._sql.tde.move([database], who, key, database.server.name)
        database.identity, database.federated_client_id = identity, client
        auto = properties.encryption_protector_auto_rotation
        if key is not None:
            before = database.own.auto_rotation if database.own else False
            kept = database.own.key if database.own and database.own.key and database.own.key.name == key.name else key
            database.own = Protection(kept, before if auto is None else auto)
            database.keys[kept.name.lower()] = kept
            self._sql.background.follow(database)
        for uri, value in (properties.keys or {}).items():
            await self._listed(database, key_location(uri), wanted=value is not None)
        sent = properties.sent()
        database.settings |= {name: value for name, value in sent.items() if name not in OWN | READ_ONLY}
        database.tags = body.tags if body.tags is not None else database.tags
        if body.sku is not None:
            database.sku = body.sku.sent()

    async def _listed(self, database: Database, location: KeyLocation, *, wanted: bool) -> None:
        """The further keys, for reading older backups."""
        name = location.server_key_name.lower()
        if not wanted:
            if database.own and database.own.key and database.own.key.name.lower() == name:
                raise refused(
                    409, "AzureKeyVaultKeyInUse", f"The key '{location.uri}' is currently in use by '{database.name}'."
                )
            database.keys.pop(name, None)
        elif name not in database.keys:
            database.keys[name] = await self._sql.tde.accepted(database.who, location, database.server.name)

    async def delete(self, call: ArmCall) -> Answer:
        """Also an inaccessible one; 204 if it was not there."""
        server = self._sql.server(call)
        database = server.databases.get(call["database"].lower())
        if database is None:
            return Answer(204)

        async def remove() -> None:
            server.databases.pop(database.name.lower(), None)
            gone = DroppedDatabase(
                database.name, database.location, database.created, self._sql.clock.now(), database.backup_days
            )
            server.dropped.append(gone)

        return self._sql.start(call, DATABASE, database, remove, lambda: None)

    async def revalidate(self, call: ArmCall) -> Answer:
        """Look at the database's own key now, and open it."""
        database = self._sql.database(call)

        async def open_again() -> None:
            await self._sql.tde.revalidate(database)

        async def check() -> None:
            await self._sql.tde.plain(database)

        await self._sql.judged_now(check)
        return self._sql.start(call, DATABASE, database, open_again, lambda: self._shown(database))

    async def revert(self, call: ArmCall) -> Answer:
        """Back under the server's protector; only if that is Microsoft's key."""
        database = self._sql.database(call)
        if database.own is None:
            raise refused(400, "InvalidDatabaseEncryptionProtector", f"The database '{database.name}' has no key of its own.")
        if database.server.protection.key is not None:
            raise refused(
                409,
                "InvalidDatabaseEncryptionProtector",
                f"The database '{database.name}' cannot be reverted to the server level because server '{database.server.name}' is protected "
                "by a customer-managed key.",
            )

        async def change() -> None:
            database.data_key = DataKey(await self._sql.tde.plain(database))
            database.own = None
            database.keys.clear()

        async def check() -> None:
            await self._sql.tde.plain(database)

        await self._sql.judged_now(check)
        return self._sql.start(call, DATABASE, database, change, lambda: self._shown(database))


def _common(body: DatabaseBody) -> dict[str, Any]:
    """What a PUT has in common with a PATCH."""
    return {name: value for name, value in body.sent().items() if name in {"tags", "sku", "identity", "properties"}}
