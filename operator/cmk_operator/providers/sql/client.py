"""Microsoft.Sql through azure-mgmt-sql's async client: the calls that the providers need, and a cache of reads.

Every method raises what an Azure call raises, also for an answer that does not fit the SDK's models.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, assert_never

from cmk_operator.answer_gate import UnreadableError
from cmk_operator.azure.management import FirstAnswer, entries_of, typed_answer, whole
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.protocol import is_readable
from cmk_operator.providers.sql import bodies
from cmk_operator.providers.sql.database import read_database
from cmk_operator.providers.sql.parts import read_encrypted, read_rows
from cmk_operator.providers.sql.requests import (
    AddServerKey,
    RevalidateDatabase,
    RevalidateServer,
    RevertDatabase,
    SetDatabaseKey,
    SetProtector,
    SetServerIdentity,
    SetServiceManagedProtector,
    SqlRequest,
)
from cmk_operator.providers.sql.sdk import SQL
from cmk_operator.providers.sql.server import (
    Listed,
    ServerKeys,
    check_server,
    listed_of,
    read_closed,
    read_linked,
    read_partners,
    read_protector,
    read_server,
    server_keys,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence

    from azure.core.async_paging import AsyncItemPaged
    from azure.mgmt.sql.aio import SqlManagementClient

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.providers.sql.database import Facts as DatabaseFacts
    from cmk_operator.providers.sql.parts import DatabaseRow
    from cmk_operator.providers.sql.server import ClosedDatabase, Partner, Protector, ServerIdentity

FactsT = TypeVar("FactsT")
RECOVERY_SECONDS: Final = 600.0
"""Seconds that SQL gets to open databases after a revalidation, before the next one is sent."""
KEPT_SECONDS: Final = 3600.0
"""Seconds after which a read is dropped; longer than any read is used."""
_PROTECTOR: Final = "current"
"""The only protector that a server or a database has, and the only transparent data encryption of a database."""


@dataclass(slots=True)
class Readings(Generic[FactsT]):
    """A cache of reads of single resources, with the time of each; a restart may lose it.

    Old entries are dropped, so that the table shrinks with the inventory.
    """

    monotonic: Callable[[], float]
    readable: Callable[[FactsT], bool] = lambda _: True
    """Whether a read says what it must; if not, it is not kept."""
    _read: dict[Hashable, tuple[float, FactsT]] = field(default_factory=dict)

    async def get(self, key: Hashable, max_age: float, read: Callable[[], Awaitable[FactsT]]) -> FactsT:
        """The last read if it is at most `max_age` seconds old, else a new one (0: always). Raises what `read` raises.

        After an answer that cannot be read, no older one counts.
        """
        known = self._read.get(key)
        began = self.monotonic()
        if known is not None and began - known[0] <= max_age and max_age > 0:
            return known[1]
        try:
            found = await read()
        except UnreadableError:
            self._read.pop(key, None)
            raise
        self._read.pop(key, None)
        if self.readable(found):
            self._read[key] = (began, found)
        self._drop_old(began)
        return found

    def __len__(self) -> int:
        return len(self._read)

    def _drop_old(self, now: float) -> None:
        while self._read:
            key, (began, _) = next(iter(self._read.items()))
            if now - began <= KEPT_SECONDS:
                return
            del self._read[key]


@dataclass(slots=True)
class SqlClient:
    """The calls for servers and databases."""

    session: AzureSession
    _asked: dict[tuple[IdentityChain, str], float] = field(default_factory=dict)

    async def read(self, chain: IdentityChain, target: ArmId) -> ServerIdentity:
        """GET a server."""
        client = await self._of(chain, target)
        with typed_answer():
            return read_server(check_server(whole(await client.servers.get(*_server(target)))))

    async def pages(
        self, chain: IdentityChain, subscription_id: str
    ) -> AsyncIterator[Sequence[tuple[str, ServerIdentity | None]]]:
        """List all servers of a subscription, each with its id."""
        client = await self.session.management(SQL, chain, subscription_id)
        from azure.mgmt.sql.models import Server

        async for page in entries_of(client.servers.list, lambda one: read_server(check_server(Server(one)))):
            yield page

    async def protector(self, chain: IdentityChain, server: ArmId) -> Protector:
        """GET the protector of a server; `server` may also be a database of it."""
        client = await self._of(chain, server)
        with typed_answer():
            return read_protector(whole(await client.encryption_protectors.get(*_server(server), _PROTECTOR)))

    async def known_keys(self, chain: IdentityChain, server: ArmId) -> ServerKeys:
        """List the keys that were added to a server."""
        client = await self._of(chain, server)
        # The id has the name of a key; nothing else of it is read.
        listed = await _entries(client.server_keys.list_by_server, server, lambda _: None)
        return server_keys(entry_id for entry_id, _ in listed)

    async def partners(self, chain: IdentityChain, server: ArmId) -> Listed[Partner]:
        """List the servers in failover groups with this one."""
        client = await self._of(chain, server)
        from azure.mgmt.sql.models import FailoverGroup

        listed = await _entries(client.failover_groups.list_by_server, server, lambda one: read_partners(FailoverGroup(one)))
        return listed_of("failover group", listed)

    async def linked(self, chain: IdentityChain, server: ArmId) -> Listed[Partner]:
        """List the servers to or from which databases of this one are replicated, with or without a failover group."""
        client = await self._of(chain, server)
        from azure.mgmt.sql.models import ReplicationLink

        listed = await _entries(
            client.replication_links.list_by_server, server, lambda one: read_linked(server, ReplicationLink(one))
        )
        return listed_of("replication link", listed)

    async def closed_databases(self, chain: IdentityChain, server: ArmId) -> Listed[ClosedDatabase]:
        """List the databases of a server that cannot use their key."""
        client = await self._of(chain, server)
        from azure.mgmt.sql.models import Database

        listed = await _entries(client.databases.list_inaccessible_by_server, server, lambda one: read_closed(Database(one)))
        return listed_of("inaccessible database", listed)

    async def database(self, chain: IdentityChain, database: ArmId) -> DatabaseFacts:
        """GET a database."""
        client = await self._of(chain, database)
        with typed_answer():
            return read_database(whole(await client.databases.get(*_server(database), database.name)))

    async def databases(self, chain: IdentityChain, database: ArmId) -> dict[str, DatabaseFacts]:
        """List the databases of a database's server that can be read, by `ArmId.key`."""
        client = await self._of(chain, database)
        from azure.mgmt.sql.models import Database

        listed = await _entries(client.databases.list_by_server, database, lambda one: read_database(Database(one)))
        return {ArmId(one).key: facts for one, facts in listed if facts is not None and is_readable(facts)}

    async def rows(self, chain: IdentityChain, server: ArmId) -> Listed[DatabaseRow]:
        """List the user databases of a server."""
        client = await self._of(chain, server)
        from azure.mgmt.sql.models import Database

        listed = await _entries(client.databases.list_by_server, server, lambda one: Listed(read_rows([Database(one)])))
        return listed_of("database", listed)

    async def encrypted(self, chain: IdentityChain, database: ArmId) -> bool:
        """GET whether a database's transparent data encryption is on."""
        client = await self._of(chain, database)
        with typed_answer():
            found = await client.transparent_data_encryptions.get(*_server(database), database.name, _PROTECTOR)
            return read_encrypted(whole(found))

    async def send(self, chain: IdentityChain, request: SqlRequest) -> FirstAnswer[Any]:
        """Send one request and return its first answer. An operation that it starts continues without this process."""
        answer: FirstAnswer[Any] = FirstAnswer()
        call = _call(await self._of(chain, _target(request)), request, answer)
        with typed_answer():
            await call
        if isinstance(request, RevalidateServer | RevalidateDatabase):
            now = self.session.monotonic()
            self._asked = {key: at for key, at in self._asked.items() if now - at < RECOVERY_SECONDS}
            self._asked[chain, _target(request).key] = now
        return answer

    def recovering(self, chain: IdentityChain, target: ArmId, *, closed: bool) -> bool:
        """Whether SQL was recently asked to open databases that are still closed; an open target is dropped from the table."""
        asked = self._asked.get((chain, target.key))
        if not closed:
            self._asked.pop((chain, target.key), None)
            return False
        return asked is not None and self.session.monotonic() - asked < RECOVERY_SECONDS

    async def _of(self, chain: IdentityChain, target: ArmId) -> SqlManagementClient:
        return await self.session.management(SQL, chain, target.subscription_id)


def _server(target: ArmId) -> tuple[str, str]:
    """The resource group and the name of a server, or of a database's server."""
    return target.resource_group, target.shown_name.partition("/")[0]


def _target(request: SqlRequest) -> ArmId:
    return request.database if isinstance(request, SetDatabaseKey | RevalidateDatabase | RevertDatabase) else request.server


def _call(client: SqlManagementClient, request: SqlRequest, answer: FirstAnswer[Any]) -> Awaitable[object]:
    target = _target(request)
    server, database = _server(target), (*_server(target), target.name)
    match request:
        case SetServerIdentity():
            return client.servers.begin_update(*server, bodies.server_update(request), polling=answer)
        case AddServerKey():
            body = bodies.server_key(request)
            return client.server_keys.begin_create_or_update(*server, request.name, body, polling=answer)
        case SetProtector() | SetServiceManagedProtector():
            protector = bodies.protector(request)
            return client.encryption_protectors.begin_create_or_update(*server, _PROTECTOR, protector, polling=answer)
        case RevalidateServer():
            return client.encryption_protectors.begin_revalidate(*server, _PROTECTOR, polling=answer)
        case SetDatabaseKey():
            return client.databases.begin_update(*database, bodies.database_update(request), polling=answer)
        case RevalidateDatabase():
            return client.database_encryption_protectors.begin_revalidate(*database, _PROTECTOR, polling=answer)
        case RevertDatabase():
            return client.database_encryption_protectors.begin_revert(*database, _PROTECTOR, polling=answer)
        case _:
            assert_never(request)


async def _entries(
    listing: Callable[..., AsyncItemPaged[Any]], server: ArmId, read: Callable[[Mapping[str, Any]], FactsT]
) -> list[tuple[str, FactsT | None]]:
    """One list of a server; one entry that cannot be read spoils only itself."""
    return [entry async for page in entries_of(functools.partial(listing, *_server(server)), read) for entry in page]
