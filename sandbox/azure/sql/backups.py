"""How long the backups of databases are kept, and the deleted databases that can still be restored.

Sources: Azure SQL REST, `BackupShortTermRetentionPolicies`, `LongTermRetentionPolicies` and `RestorableDroppedDatabases`, 2025-01-01;
"Automated backups in Azure SQL Database" (7 days by default, 1 to 35; a deleted database keeps its retention).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import Strict, parsed
from sandbox.azure.arm.resources import page
from sandbox.azure.clock import seven_digits
from sandbox.azure.exchange import Answer
from sandbox.azure.sql.model import DAY
from sandbox.azure.sql.provider import DATABASE, SQL
from sandbox.azure.sql.refusals import refused

if TYPE_CHECKING:
    from sandbox.azure.arm.gateway import ArmCall
    from sandbox.azure.sql.model import Database, DroppedDatabase
    from sandbox.azure.sql.provider import SqlProvider

SHORT, LONG = "backupShortTermRetentionPolicies", "backupLongTermRetentionPolicies"
MOST_DAYS = 35
_DURATION = re.compile(r"PT0S|P\d+[DWMY]")


class ShortTermProperties(Strict):
    """How many days back a point-in-time restore reaches."""

    retention_days: int | None = None
    diff_backup_interval_in_hours: int | None = None


class ShortTermBody(Strict):
    """PUT or PATCH of a short-term policy."""

    properties: ShortTermProperties
    id: str | None = None
    name: str | None = None
    type: str | None = None


class LongTermProperties(Strict):
    """How long a weekly, monthly and yearly backup is kept, in ISO 8601; PT0S: none is made."""

    weekly_retention: str | None = None
    monthly_retention: str | None = None
    yearly_retention: str | None = None
    week_of_year: int | None = None


class LongTermBody(Strict):
    """PUT of a long-term policy."""

    properties: LongTermProperties
    id: str | None = None
    name: str | None = None
    type: str | None = None


class BackupOperations:
    """The operations."""

    def __init__(self, sql: SqlProvider) -> None:
        self._sql = sql
        server = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{SQL}/{{name}}"
        one, add = f"{server}/databases/{{database}}", sql.gateway.add
        short, long = f"{SQL}/databases/{SHORT}", f"{SQL}/databases/{LONG}"
        add("GET", f"{one}/{SHORT}/default", self.short_term, kind=short, action=f"{short}/read")
        for method in ("PUT", "PATCH"):
            add(method, f"{one}/{SHORT}/default", self.set_short_term, kind=short, action=f"{short}/write")
        add("GET", f"{one}/{LONG}/default", self.long_term, kind=long, action=f"{long}/read")
        add("PUT", f"{one}/{LONG}/default", self.set_long_term, kind=long, action=f"{long}/write")
        dropped = f"{SQL}/restorableDroppedDatabases"
        add("GET", f"{server}/restorableDroppedDatabases", self.dropped, kind=dropped, action=f"{dropped}/read")

    async def short_term(self, call: ArmCall) -> Answer:
        """The policy, which every database has."""
        return Answer(json=_short_shown(self._sql.database(call)))

    async def set_short_term(self, call: ArmCall) -> Answer:
        """Change the number of days."""
        database = self._sql.database(call)
        sent = parsed(ShortTermBody, call.body()).properties
        days = sent.retention_days if sent.retention_days is not None else database.backup_days
        if not 1 <= days <= MOST_DAYS:
            raise refused(
                400,
                "InvalidBackupRetentionPeriod",
                f"The retention days of {days} is not a valid configuration. It must be 1 to 35.",
            )

        async def change() -> None:
            database.backup_days = days

        return self._sql.start(call, DATABASE, database, change, lambda: _short_shown(database))

    async def long_term(self, call: ArmCall) -> Answer:
        """The policy, which every database has; by default it keeps nothing."""
        return Answer(json=_long_shown(self._sql.database(call)))

    async def set_long_term(self, call: ArmCall) -> Answer:
        """Change what was sent."""
        database = self._sql.database(call)
        sent = parsed(LongTermBody, call.body()).properties.sent()
        for name, value in sent.items():
            if name != "weekOfYear" and not _DURATION.fullmatch(str(value)):
                raise refused(400, "LongTermRetentionPolicyInvalid", f"The value '{value}' of '{name}' is not a duration.")
        if sent.get("yearlyRetention", "PT0S") != "PT0S" and not 1 <= int(sent.get("weekOfYear") or 0) <= 52:
            raise refused(400, "LongTermRetentionPolicyInvalid", "A yearly retention needs a weekOfYear from 1 to 52.")

        async def change() -> None:
            database.long_term_backups |= sent

        return self._sql.start(call, DATABASE, database, change, lambda: _long_shown(database))

    async def dropped(self, call: ArmCall) -> Answer:
        """The deleted databases whose retention has not ended."""
        server, now = self._sql.server(call), self._sql.clock.now()
        server.dropped = [one for one in server.dropped if now < one.deleted + one.backup_days * DAY]
        return page(call, server.dropped, lambda one: _dropped_shown(server.id, one), self._sql.timings.list_page_size)


def _policy(database: Database, kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "properties": properties,
        "id": f"{database.id}/{kind}/default",
        "name": "default",
        "type": f"{SQL}/databases/{kind}",
    }


def _short_shown(database: Database) -> dict[str, Any]:
    return _policy(database, SHORT, {"retentionDays": database.backup_days, "diffBackupIntervalInHours": 12})


def _long_shown(database: Database) -> dict[str, Any]:
    nothing = {"weeklyRetention": "PT0S", "monthlyRetention": "PT0S", "yearlyRetention": "PT0S", "weekOfYear": 0}
    return _policy(database, LONG, {**nothing, **database.long_term_backups})


def _dropped_shown(server_id: str, dropped: DroppedDatabase) -> dict[str, Any]:
    name = f"{dropped.name},{int(dropped.deleted * 1e7)}"
    return {
        "location": dropped.location,
        "properties": {
            "databaseName": dropped.name,
            "creationDate": seven_digits(dropped.created),
            "deletionDate": seven_digits(dropped.deleted),
            "earliestRestoreDate": seven_digits(max(dropped.created, dropped.deleted - dropped.backup_days * DAY)),
        },
        "id": f"{server_id}/restorableDroppedDatabases/{name}",
        "name": name,
        "type": f"{SQL}/restorableDroppedDatabases",
    }
