"""What uses keys among the SQL servers of a subscription, their databases and geo-secondaries, and what restores backups with them.

One list of servers, and for each server the list of its databases; the protector and the keys are read only of a server that has an
identity, because no other reaches a vault. A server that left a version keeps it among its keys, and its own backups and restores
need it as long as its databases keep backups (docs/decisions/0101).
Sources: azure-mgmt-sql, `EncryptionProtector`, `ServerKey`, `Database`, `BackupShortTermRetentionPolicy`, `LongTermRetentionPolicy`,
`RestorableDroppedDatabase`; "Rotate the Transparent Data Encryption protector"; "Automated backups", retention of deleted databases.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES
from cmk_operator.azure.management import typed_answer
from cmk_operator.core.identifiers.arm_id import ArmId, InvalidArmIdError, parse_arm_id
from cmk_operator.core.rotation.azure_use import AzureUser, BackupUse, FoundUse
from cmk_operator.core.text.iso8601 import longest_of
from cmk_operator.providers.user_lists import Details, Found, Requests, UserList, fields, id_of, refused, text, user_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession

API_VERSION: Final = "2025-01-01"
LONGEST_POINT_IN_TIME: Final = timedelta(days=35)
"""Longest retention of point-in-time restore that Azure SQL allows; a deleted database does not show its own."""
_SYSTEM_DATABASE: Final = "master"
_CUSTOMERS: Final = "azurekeyvault"
_MICROSOFTS: Final = "servicemanaged"


@dataclass(frozen=True, slots=True)
class SqlUsers:
    """The list of servers, and what each of them shows."""

    session: AzureSession
    shown: str = "SQL servers"
    action: str = "Microsoft.Sql/servers/read"

    async def read(self, chain: IdentityChain, subscription_id: str, listed: frozenset[str], details: Details) -> FoundUse:
        """See `UserList.read`."""
        requests, found = Requests(self.session, chain, API_VERSION), Found()
        of = f"the SQL servers of subscription {subscription_id}"
        servers: list[tuple[ArmId, bool]] = []
        shown: dict[ArmId, tuple[AzureUser, ...]] = {}
        async for entry in requests.entries(f"/subscriptions/{subscription_id}/providers/Microsoft.Sql/servers"):
            reaches: list[bool] = []
            before = len(found.users)
            server = found.read(entry, of, functools.partial(_note, entry, reaches))
            if server is not None:
                servers.append((server, any(reaches)))
                shown[server] = tuple(found.users[before:])
        each = (
            details.get(server, of, functools.partial(_Server(requests, server).use, listed, reaches=reaches))
            for server, reaches in servers
        )
        parts = await asyncio.gather(*each)
        # A server's own protector says more than the list, which may be older.
        read = {user.id for part in parts for user in part.users} | {left.id for part in parts for left in part.backups}
        found.users = [user for users in shown.values() for user in users if user.id not in read]
        return FoundUse.of_all([found.use, *parts])


def _note(entry: object, reaches: list[bool], server: ArmId, properties: Mapping[str, Any]) -> tuple[AzureUser, ...]:
    """The key that the list shows for a server; notes whether the server can reach a vault at all."""
    if server.resource_type != "microsoft.sql/servers":
        raise ValueError("id")
    identity = fields(fields(entry).get("identity") or {})
    kind = text(identity.get("type")).lower()
    own = [text(properties.get(one)) for one in ("keyId", "federatedClientId", "primaryUserAssignedIdentityId")]
    reaches.append(kind not in {"", "none"} or any(own))
    used = user_of(server, own[0]) if own[0] else None
    return (used,) if used is not None else ()


@dataclass(frozen=True, slots=True)
class _Server:
    """The reads of one server. What is refused becomes a fault, and the other reads still count."""

    requests: Requests
    server: ArmId

    @property
    def _name(self) -> str:
        return f"SQL server {self.server.name}"

    async def use(self, listed: frozenset[str], *, reaches: bool) -> FoundUse:
        """What the server, its databases and its geo-secondaries use."""
        databases = Found()
        own: list[ArmId] = []
        all_databases = await self._databases(databases, own)
        parts = [databases.use, *await asyncio.gather(*(self._past_keys_of(database) for database in own))]
        if reaches:
            mine = await self._own_keys()
            parts.append(mine)
            if mine.users or mine.backups:
                parts.append(await self._secondaries(listed))
        use = FoundUse.of_all(parts)
        if not use.backups:
            return use
        retention, why = await self._retention(all_databases)
        return replace(use, backups=tuple(replace(one, retention=retention, why_unknown=why) for one in use.backups))

    async def _databases(self, found: Found, own: list[ArmId]) -> list[ArmId] | None:
        """The databases of the server, with the use of those that have a key of their own; None if they cannot be listed."""
        databases: list[ArmId] = []

        def users_in(database: ArmId, properties: Mapping[str, Any]) -> Iterator[AzureUser]:
            uri = text(properties.get("encryptionProtector"))
            used = user_of(database, uri) if uri else None
            if used is not None:
                own.append(database)
                yield used

        try:
            async for entry in self.requests.entries(f"{self.server.text}/databases"):
                database = found.read(entry, f"the databases of {self._name}", users_in)
                if database is not None and database.name.lower() != _SYSTEM_DATABASE:
                    databases.append(database)
        except EXPECTED_FAILURES as error:
            found.unlisted.append(refused(error, f"the databases of {self._name}"))
            return None
        return databases

    async def _past_keys_of(self, database: ArmId) -> FoundUse:
        """The keys that a database has left and still restores with; a list of databases does not have them."""
        what = f"the keys of database {database.shown_name}"
        try:
            with typed_answer():
                properties = fields((await self.requests.one(database.text, **{"$expand": "keys"})).get("properties"))
                now = user_of(database, text(properties.get("encryptionProtector")))
                past = [user_of(database, uri) for uri in fields(properties.get("keys") or {})]
                return FoundUse(backups=tuple(_backup(one) for one in past if one is not None and one != now))
        except EXPECTED_FAILURES as error:
            return FoundUse(unlisted=(refused(error, what),))

    async def _own_keys(self) -> FoundUse:
        """The key of the server's protector, and those that it has left."""
        try:
            now = await self._protector()
            known: list[AzureUser] = []
            async for entry in self.requests.entries(f"{self.server.text}/keys"):
                with typed_answer():
                    used = _server_key(self.server, fields(fields(entry).get("properties")))
                    known += [used] if used is not None else []
        except EXPECTED_FAILURES as error:
            return FoundUse(unlisted=(refused(error, f"the keys of {self._name}"),))
        return FoundUse((now,) if now is not None else (), tuple(_backup(one) for one in known if one != now))

    async def _protector(self) -> AzureUser | None:
        body = await self.requests.one(f"{self.server.text}/encryptionProtector/current")
        with typed_answer():
            return _server_key(self.server, fields(body.get("properties")))

    async def _secondaries(self, listed: frozenset[str]) -> FoundUse:
        """Geo-secondaries in subscriptions that are not listed; the others are in the lists."""
        try:
            partners: set[ArmId] = set()
            async for entry in self.requests.entries(f"{self.server.text}/failoverGroups"):
                with typed_answer():
                    group = fields(fields(entry).get("properties"))
                    partners |= {id_of(fields(one)) for one in _list(group.get("partnerServers"))}
            async for entry in self.requests.entries(f"{self.server.text}/replicationLinks"):
                with typed_answer():
                    link = fields(fields(entry).get("properties"))
                    partners.add(_server_of(text(link.get("partnerDatabaseId"))))
        except EXPECTED_FAILURES as error:
            return FoundUse(unlisted=(refused(error, f"the geo-secondaries of {self._name}"),))
        elsewhere = sorted((one for one in partners if one.subscription_id not in listed), key=lambda one: one.key)
        return FoundUse.of_all([await _Server(self.requests, one)._own_keys() for one in elsewhere])  # noqa: SLF001 - the same class

    async def _retention(self, databases: list[ArmId] | None) -> tuple[timedelta | None, str]:
        """The longest time for which any backup of the server is kept; or None, with why that is not known."""
        if databases is None:
            return None, f"the databases of {self._name} cannot be listed"
        longest = timedelta(0)
        try:
            async for _ in self.requests.entries(f"{self.server.text}/restorableDroppedDatabases"):
                longest = LONGEST_POINT_IN_TIME
            for database in databases:
                longest = max(longest, *await asyncio.gather(self._point_in_time(database), self._long_term(database)))
        except EXPECTED_FAILURES as error:
            return None, refused(error, f"the retention of backups of {self._name}").message
        return longest, ""

    async def _point_in_time(self, database: ArmId) -> timedelta:
        body = await self.requests.one(f"{database.text}/backupShortTermRetentionPolicies/default")
        with typed_answer():
            days = fields(body.get("properties")).get("retentionDays")
            if type(days) is not int or not 0 <= days <= LONGEST_POINT_IN_TIME.days:
                raise TypeError("retentionDays")
            return timedelta(days=days)

    async def _long_term(self, database: ArmId) -> timedelta:
        body = await self.requests.one(f"{database.text}/backupLongTermRetentionPolicies/default")
        with typed_answer():
            properties = fields(body.get("properties"))
            kept = [text(properties.get(one)) for one in ("weeklyRetention", "monthlyRetention", "yearlyRetention")]
            return max((longest_of(one) for one in kept if one), default=timedelta(0))


def _server_key(server: ArmId, properties: Mapping[str, Any]) -> AzureUser | None:
    kind = text(properties.get("serverKeyType")).lower()
    if kind == _MICROSOFTS:
        return None
    if kind != _CUSTOMERS:
        raise ValueError("serverKeyType")
    return user_of(server, text(properties.get("uri")), text(properties.get("keyVersion")))


def _backup(left: AzureUser) -> BackupUse:
    return BackupUse(left.id, left.key, left.version, None)


def _list(value: object) -> list[Any]:
    found = value if value is not None else []
    if not isinstance(found, list):
        raise TypeError("no list")
    return found


def _server_of(database_id: str) -> ArmId:
    try:
        return parse_arm_id(database_id.partition("/databases/")[0])
    except InvalidArmIdError as error:
        raise ValueError("partnerDatabaseId") from error


def make_user_lists(session: AzureSession) -> tuple[UserList, ...]:
    """The list of SQL servers, with their databases."""
    return (SqlUsers(session),)
