"""Queries of the tables `chain`, `audit` and `counter`; the room `audit` decides what an entry is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from cmk_keyservice.problem import Kind, problem_error
from cmk_keyservice.store.database import Database
from cmk_keyservice.store.tables import AUDIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

_PAGE: Final = 1000
_BEGIN: Final = text(
    "INSERT INTO chain (organization, sequence, digest) VALUES (:organization, 0, :digest) ON CONFLICT DO NOTHING"
)
_HEAD: Final = text("SELECT sequence, digest, clock_timestamp() AS now FROM chain WHERE organization = :organization")
_LOCKED_HEAD: Final = text(f"{_HEAD.text} FOR UPDATE")
_ADVANCE: Final = text("UPDATE chain SET sequence = :sequence, digest = :digest WHERE organization = :organization")
_ADD: Final = text(
    """
    INSERT INTO counter AS old (organization, minute, service, operation, data_key, items, refused)
    SELECT new.organization, date_trunc('minute', clock_timestamp()), new.service, new.operation, new.data_key, new.items, new.refused
    FROM unnest(
        CAST(:organizations AS text[]), CAST(:services AS text[]), CAST(:operations AS text[]), CAST(:data_keys AS text[]),
        CAST(:items AS bigint[]), CAST(:refused AS bigint[])
    ) AS new (organization, service, operation, data_key, items, refused)
    ON CONFLICT (organization, minute, service, operation, data_key)
        DO UPDATE SET items = old.items + excluded.items, refused = old.refused + excluded.refused
    """
)
_DUE: Final = text(
    "SELECT DISTINCT organization, minute FROM counter WHERE minute < date_trunc('minute', clock_timestamp()) ORDER BY minute"
)
_TAKE: Final = text(
    "DELETE FROM counter WHERE organization = :organization AND minute = :minute"
    " RETURNING service, operation, data_key, items, refused"
)


@dataclass(frozen=True, slots=True)
class Count:
    """How often a service did something with a data key: items that were done, and items that were refused."""

    organization: str
    service: str
    operation: str
    data_key: str
    items: int
    refused: int


@dataclass(frozen=True, slots=True)
class Head:
    """The number and digest of an organization's newest entry, and the database's clock."""

    sequence: int
    digest: str
    now: datetime


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A row of `audit`."""

    sequence: int
    entry: str
    hash: str


class Records(Database):
    """One chain for each organization: writers of it take turns by its row in `chain`."""

    async def lock_chain(self, organization: str, origin: str, *, within: AsyncConnection) -> Head:
        """The newest entry (0 and `origin` before the first), which nobody else can follow until the transaction ends."""
        row = (await within.execute(_LOCKED_HEAD, {"organization": organization})).first()
        if row is None:
            await within.execute(_BEGIN, {"organization": organization, "digest": origin})
            row = (await within.execute(_LOCKED_HEAD, {"organization": organization})).one()
        return Head(row.sequence, row.digest, row.now.astimezone(UTC))

    async def add_entries(self, organization: str, entries: Sequence[StoredEntry], *, within: AsyncConnection) -> None:
        """Insert entries that follow the newest one, and move the chain's head to the last of them.

        Raises ProblemError if the head is not that of the entries: somebody changed the database.
        """
        rows = [
            {"organization": organization, "sequence": one.sequence, "entry": one.entry, "hash": one.hash} for one in entries
        ]
        try:
            await within.execute(insert(AUDIT), rows)
        except IntegrityError:
            raise problem_error(
                Kind.INVALID,
                "RecordAltered",
                f"the record of organization {organization} has entries beyond its head: somebody changed the database",
                "The provider must export the record, verify it (kubectl cmk audit verify), restore table chain from a backup, and"
                " find out who wrote to the database.",
            ) from None  # the driver's text quotes values
        last = entries[-1]
        await within.execute(_ADVANCE, {"organization": organization, "sequence": last.sequence, "digest": last.hash})

    async def chain_head(self, organization: str) -> Head | None:
        """The newest entry; None if there is no record."""
        row = await self.row(_HEAD, organization=organization)
        return None if row is None else Head(row.sequence, row.digest, row.now.astimezone(UTC))

    async def entries(self, organization: str, *, after: int = 0) -> AsyncIterator[StoredEntry]:
        """The entries in their order, page by page, those after the sequence number `after`."""
        while True:
            page = await self.rows(
                select(AUDIT.c.sequence, AUDIT.c.entry, AUDIT.c.hash)
                .where(AUDIT.c.organization == organization, AUDIT.c.sequence > after)
                .order_by(AUDIT.c.sequence)
                .limit(_PAGE)
            )
            for row in page:
                yield StoredEntry(row.sequence, row.entry, row.hash)
            if len(page) < _PAGE:
                return
            after = page[-1].sequence

    async def count(self, counts: Sequence[Count]) -> None:
        """Add to the counters of the present minute; each (organization, service, operation, data key) at most once."""
        names = ("organization", "service", "operation", "data_key")
        values: dict[str, object] = {f"{name}s": [getattr(one, name) for one in counts] for name in names}
        values |= {"items": [one.items for one in counts], "refused": [one.refused for one in counts]}
        async with self.transaction() as connection:
            await connection.execute(_ADD, values)

    async def due_counters(self) -> list[tuple[str, datetime]]:
        """The organizations and minutes that are over and not in the record yet."""
        return [(row.organization, row.minute.astimezone(UTC)) for row in await self.rows(_DUE)]

    async def take_counters(self, organization: str, minute: datetime, *, within: AsyncConnection) -> list[Count]:
        """Remove the counters of a minute; the caller records them in the same transaction."""
        rows = await within.execute(_TAKE, {"organization": organization, "minute": minute})
        counts = [Count(organization, row.service, row.operation, row.data_key, row.items, row.refused) for row in rows]
        return sorted(counts, key=lambda one: (one.service, one.operation, one.data_key))
