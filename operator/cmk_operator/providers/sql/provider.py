"""The providers of SQL servers and of databases.

A drift check reads one list of all servers for each subscription, and two calls for each server: the protector and the
inaccessible databases. What only a write needs (keys of the server, geo-secondaries) is read before a write.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.core.encryption.coverage import Parts
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.providers.arm import ArmProvider, started, unreadable_parts
from cmk_operator.providers.listing import Listing
from cmk_operator.providers.protocol import Applied, Plan, ResourceFacts, Started, Target
from cmk_operator.providers.sql import database, parts, server, server_plan
from cmk_operator.providers.sql.client import Readings, SqlClient
from cmk_operator.providers.sql.faults import judge_sql_failure
from cmk_operator.providers.sql.kind import SQL_DATABASE, SQL_SERVER
from cmk_operator.providers.sql.options import read_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.encryption.protection import KeyChoice
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.providers.protocol import Provider
    from cmk_operator.providers.sql.requests import SqlRequest

READS_AT_ONCE: Final = 8
GROUPS_MAX_AGE: Final = 900.0
"""Most seconds that a read of failover groups is used while nothing is to be written."""
DetailT = TypeVar("DetailT")


class _SqlProvider(ArmProvider, Generic[DetailT]):
    """What servers and databases share: how a request is sent, and who must act if it is refused."""

    def __init__(self, client: SqlClient) -> None:
        super().__init__(client.session)
        self._client = client

    @abstractmethod
    async def observe(self, chain: IdentityChain, target: Target, *, max_age: float) -> ResourceFacts[DetailT] | AzureFailure:
        """See `Provider.observe`."""

    async def apply(
        self, chain: IdentityChain, target: Target, plan: Plan[SqlRequest]
    ) -> Applied[DetailT] | Started | AzureFailure:
        """Send the request. If it is complete at once, read the target again, because the answer has only a part of it."""
        try:
            answer = await self._client.send(chain, plan.request)
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        operation = started(answer, plan.purpose)
        if operation is not None:
            return operation
        facts = await self.observe(chain, target, max_age=0.0)
        return facts if isinstance(facts, AzureFailure) else Applied(facts, answer.request_id)

    def judge(self, failure: AzureFailure, name: str) -> Fault:
        """See `judge_sql_failure`."""
        return judge_sql_failure(failure, name)


class SqlServerProvider(_SqlProvider[server.SqlServerDetail]):
    """Puts servers on a customer's key, by one long-running request after the other."""

    kind = SQL_SERVER
    has_parts = True
    read_options = staticmethod(read_options)

    def __init__(self, client: SqlClient, list_max_age: float) -> None:
        super().__init__(client)
        self._servers = Listing(client.session, client, list_max_age)
        self._protectors: Readings[server.Protector] = Readings(client.session.monotonic, server.is_readable)
        self._closed: Readings[server.Listed[server.ClosedDatabase]] = Readings(client.session.monotonic)
        self._partners: Readings[server.Listed[server.Partner]] = Readings(client.session.monotonic)

    async def observe(self, chain: IdentityChain, target: Target, *, max_age: float) -> server.Facts | AzureFailure:
        """The server, its protector and its inaccessible databases; before a write also its keys and its geo-secondaries."""
        try:
            identity = await self._servers.get(chain, target.id, max_age)
            key, sql = (chain, target.id), self._client
            groups_age = max(max_age, GROUPS_MAX_AGE) if max_age > 0 else 0.0
            protector, closed, partners = await asyncio.gather(
                self._protectors.get(key, max_age, lambda: sql.protector(chain, target.id)),
                self._closed.get(key, max_age, lambda: sql.closed_databases(chain, target.id)),
                self._partners.get(key, groups_age, lambda: self._all_partners(chain, target.id)),
            )
            facts = server.facts_of(identity, protector, closed, partners)
            if max_age <= 0:
                facts = await self._before_a_write(chain, target.id, facts)
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        recovering = self._client.recovering(chain, target.id, closed=bool(facts.detail.inaccessible))
        return replace(facts, detail=replace(facts.detail, recovering=recovering))

    async def _all_partners(self, chain: IdentityChain, server_id: ArmId) -> server.Listed[server.Partner]:
        """Read failover groups and replication links, because active geo-replication has no group."""
        grouped, linked = await asyncio.gather(self._client.partners(chain, server_id), self._client.linked(chain, server_id))
        partners = server.merged(grouped.found, linked.found)
        read = await asyncio.gather(*(self._with_protector(chain, one) for one in partners))
        return server.Listed(tuple(read), (*grouped.unread, *linked.unread))

    async def _with_protector(self, chain: IdentityChain, partner: server.Partner) -> server.Partner:
        """The partner with its own protector. A failure is a fact about it, and blocks nothing."""
        try:
            return replace(partner, protector=await self._client.protector(chain, partner.id))
        except EXPECTED_FAILURES as error:
            return replace(partner, failure=replace(failure_of(error), request_id=None, retry_after=None))

    async def read_parts(self, chain: IdentityChain, target: Target, seen: server.Facts) -> Parts | AzureFailure:
        """The server's user databases, by one list, and whether each is encrypted at all, by one read of each."""
        try:
            listed = await self._client.rows(chain, target.id)
        except EXPECTED_FAILURES as error:
            return unreadable_parts(failure_of(error), parts.DATABASES, parts.DATABASES_READ)
        rows, odd = listed.found, tuple(map(parts.unread, listed.unread))
        encrypted = await self._encrypted(chain, rows)
        if isinstance(encrypted, AzureFailure):
            refused = unreadable_parts(encrypted, parts.ENCRYPTION, parts.ENCRYPTION_READ)
            if isinstance(refused, AzureFailure):
                return refused
            found = [parts.part_of_database(row, seen.detail.primaries, encrypted=None) for row in rows]
            return Parts((*refused.found, *filter(None, found), *odd), reads=2)
        found = [
            parts.part_of_database(row, seen.detail.primaries, encrypted=on) for row, on in zip(rows, encrypted, strict=True)
        ]
        return Parts((*filter(None, found), *odd), reads=1 + len(rows))

    async def _encrypted(self, chain: IdentityChain, rows: Sequence[parts.DatabaseRow]) -> list[bool | None] | AzureFailure:
        """Whether each database is encrypted; None for one that is gone meanwhile."""
        found: list[bool | None] = []
        for start in range(0, len(rows), READS_AT_ONCE):
            answers = await asyncio.gather(*(self._is_encrypted(chain, row.id) for row in rows[start : start + READS_AT_ONCE]))
            for answer in answers:
                if isinstance(answer, AzureFailure):
                    return answer
                found.append(answer)
        return found

    async def _is_encrypted(self, chain: IdentityChain, database_id: ArmId) -> bool | AzureFailure | None:
        try:
            return await self._client.encrypted(chain, database_id)
        except EXPECTED_FAILURES as error:
            failure = failure_of(error)
            return None if failure.status == 404 else failure

    async def _before_a_write(self, chain: IdentityChain, server_id: ArmId, facts: server.Facts) -> server.Facts:
        known, secondaries = await asyncio.gather(
            self._client.known_keys(chain, server_id),
            asyncio.gather(*(self._secondary(chain, one.id) for one in facts.detail.secondaries)),
        )
        return server.with_keys(facts, known, tuple(secondaries))

    async def _secondary(self, chain: IdentityChain, server_id: ArmId) -> server.Secondary:
        """Read a geo-secondary. A failure is a fact about the primary; it blocks only requests that need the secondary."""
        try:
            identity, known = await asyncio.gather(
                self._client.read(chain, server_id), self._client.known_keys(chain, server_id)
            )
        except EXPECTED_FAILURES as error:
            return server.Secondary(server_id, failure=replace(failure_of(error), request_id=None))
        return server.Secondary(server_id, identity, known)

    def plan(self, target: Target, want: KeyChoice, seen: server.Facts) -> Plan[SqlRequest] | Fault | None:
        """See `server_plan.plan_server`."""
        return server_plan.plan_server(target, want, seen)

    def plan_revert(self, target: Target, seen: server.Facts) -> Plan[SqlRequest] | Fault | None:
        """See `server_plan.plan_server_revert`."""
        return server_plan.plan_server_revert(target, seen)


class SqlDatabaseProvider(_SqlProvider[database.SqlDatabaseDetail]):
    """Puts databases on a key of their own; one list for each server is shared by its databases."""

    kind = SQL_DATABASE
    has_parts = True

    def __init__(self, client: SqlClient) -> None:
        super().__init__(client)
        self._databases: Readings[dict[str, database.Facts]] = Readings(client.session.monotonic)

    async def observe(self, chain: IdentityChain, target: Target, *, max_age: float) -> database.Facts | AzureFailure:
        """The database, from its server's list if that is young enough; before a write also the server's protection."""
        try:
            facts = await self._read(chain, target.id, max_age)
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        if self._client.recovering(chain, target.id, closed=facts.detail.inaccessible):
            return database.recovering(facts)
        return facts

    async def _read(self, chain: IdentityChain, target: ArmId, max_age: float) -> database.Facts:
        if max_age > 0:
            server_key = target.key.rsplit("/", 2)[0]
            listed = await self._databases.get((chain, server_key), max_age, lambda: self._client.databases(chain, target))
            if target.key in listed:
                return listed[target.key]
        facts, protector = await asyncio.gather(self._client.database(chain, target), self._client.protector(chain, target))
        return database.with_server(facts, protector.protection)

    async def read_parts(self, chain: IdentityChain, target: Target, seen: database.Facts) -> Parts | AzureFailure:  # noqa: ARG002 - one read says all
        """Whether the database is encrypted at all."""
        try:
            encrypted = await self._client.encrypted(chain, target.id)
        except EXPECTED_FAILURES as error:
            return unreadable_parts(failure_of(error), parts.ENCRYPTION, parts.ENCRYPTION_READ)
        return Parts(() if encrypted else (parts.unencrypted(f"database {target.id.name}"),))

    def plan(self, target: Target, want: KeyChoice, seen: database.Facts) -> Plan[SqlRequest] | Fault | None:
        """See `database.plan_database`."""
        return database.plan_database(target, want, seen)

    def plan_revert(self, target: Target, seen: database.Facts) -> Plan[SqlRequest] | Fault | None:
        """See `database.plan_database_revert`."""
        return database.plan_database_revert(target, seen)


def make_providers(session: AzureSession, list_max_age: float) -> tuple[Provider[Any, Any], ...]:
    """Both providers, on one client."""
    client = SqlClient(session)
    return SqlServerProvider(client, list_max_age), SqlDatabaseProvider(client)
