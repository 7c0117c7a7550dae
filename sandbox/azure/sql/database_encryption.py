"""Microsoft.Sql/servers/databases/transparentDataEncryption: whether a database is encrypted at all.

https://learn.microsoft.com/azure/azure-sql/database/transparent-data-encryption-tde-overview
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import parsed
from sandbox.azure.arm.resources import page
from sandbox.azure.exchange import Answer
from sandbox.azure.sql.bodies import TransparentDataEncryptionBody
from sandbox.azure.sql.model import INACCESSIBLE
from sandbox.azure.sql.provider import DATABASE, SQL
from sandbox.azure.sql.refusals import refused
from sandbox.azure.sql.views import MASTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.azure.arm.gateway import ArmCall
    from sandbox.azure.sql.model import Database
    from sandbox.azure.sql.provider import SqlProvider

KIND = f"{SQL}/databases/transparentDataEncryption"
CURRENT = "current"


class DatabaseEncryptionOperations:
    """The operations on a database's transparent data encryption."""

    def __init__(self, sql: SqlProvider) -> None:
        self._sql = sql
        database = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{SQL}/{{name}}/databases/{{database}}"
        many, add = f"{database}/transparentDataEncryption", sql.add
        add("GET", many, self.list, kind=KIND, action=f"{KIND}/read")
        add("GET", f"{many}/{{encryption}}", self.get, kind=KIND, action=f"{KIND}/read")
        add("PUT", f"{many}/{{encryption}}", self.put, kind=KIND, action=f"{KIND}/write")

    def _shown(self, database_id: str, *, encrypted: bool) -> dict[str, Any]:
        properties = {"state": "Enabled" if encrypted else "Disabled", "scanState": "None"}
        return {
            "id": f"{database_id}/transparentDataEncryption/{CURRENT}",
            "name": CURRENT,
            "type": KIND,
            "properties": properties,
        }

    def _read(self, call: ArmCall) -> dict[str, Any]:
        if call["database"].lower() == MASTER:
            return self._shown(f"{self._sql.server(call).id}/databases/{MASTER}", encrypted=False)
        database = self._sql.database(call)
        return self._shown(database.id, encrypted=database.encrypted)

    @staticmethod
    def _named(call: ArmCall) -> None:
        if call["encryption"].lower() != CURRENT:
            raise refused(
                400, "InvalidTransparentDataEncryptionName", "The transparent data encryption name must be 'current'."
            )

    async def list(self, call: ArmCall) -> Answer:
        """The one that a database has."""
        return page(call, [self._read(call)], lambda one: one, self._sql.timings.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """Whether it is on."""
        self._named(call)
        return Answer(json=self._read(call))

    async def put(self, call: ArmCall) -> Answer:
        """Switch it on or off. A replica follows its primary; master is never encrypted."""
        self._named(call)
        wanted = parsed(TransparentDataEncryptionBody, call.body()).properties.state == "Enabled"
        if call["database"].lower() == MASTER:
            raise refused(
                400, "UnsupportedOperationOnMaster", "Transparent data encryption cannot be set on the database 'master'."
            )
        database = self._sql.database(call)
        if database.replica_of is not None:
            raise refused(
                409,
                "UnSupportedReplicationRole",
                f"The operation cannot be performed on database '{database.name}' because it is a geo-replication secondary.",
            )
        if database.status == INACCESSIBLE:
            raise refused(409, "DatabaseInaccessible", f"The database '{database.name}' is inaccessible.")

        async def change() -> None:
            for one in (database, *self._replicas(database)):
                one.encrypted = wanted

        return self._sql.start(call, DATABASE, database, change, lambda: self._read(call))

    def _replicas(self, database: Database) -> Iterator[Database]:
        links = self._sql.servers.links_of(database.server)
        return (other for one, other in links if one is database and other.replica_of is database)
