"""Queries of the table `data_key`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert

from cmk_keyservice.store.database import Database
from cmk_keyservice.store.organizations import fenced
from cmk_keyservice.store.rows import DataKeyRow, Fenced, KidCount, NewDataKey, Rewrapped, Write
from cmk_keyservice.store.tables import DATA_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from cmk_keyservice.store.rows import Fence

_COLUMNS: Final = (
    *DATA_KEY.c,
    func.extract("epoch", func.clock_timestamp() - DATA_KEY.c.created_at).label("age"),
)
_ROWS: Final = select(*_COLUMNS)
_BY_ID: Final = _ROWS.where(DATA_KEY.c.id == bindparam("data_key"))
_EPOCHS: Final = _ROWS.where(*(DATA_KEY.c[name] == bindparam(name) for name in ("organization", "service", "purpose")))
_NEWEST: Final = _EPOCHS.order_by(DATA_KEY.c.epoch.desc()).limit(1)
_OF_EPOCH: Final = _EPOCHS.where(DATA_KEY.c.epoch == bindparam("epoch"))
_COMPARE_AND_SET: Final = text(
    """
    UPDATE data_key SET
        previous_kid = data_key.kid, previous_algorithm = data_key.algorithm, previous_edek = data_key.edek,
        kid = new.kid, algorithm = new.algorithm, edek = new.edek, row_version = data_key.row_version + 1,
        state = CASE WHEN new.retires THEN 'Retired' ELSE data_key.state END
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:row_versions AS integer[]), CAST(:kids AS text[]), CAST(:algorithms AS text[]),
        CAST(:edeks AS bytea[]), CAST(:retires AS boolean[])
    ) AS new (id, row_version, kid, algorithm, edek, retires)
    WHERE data_key.id = new.id AND data_key.row_version = new.row_version AND data_key.organization = :organization
    RETURNING data_key.id
    """
)
_BY_KID: Final = text(
    """
    SELECT kid, sum(current)::bigint AS data_keys, sum(previous)::bigint AS previous FROM (
        SELECT kid, 1 AS current, 0 AS previous FROM data_key WHERE organization = :organization
        UNION ALL
        SELECT previous_kid, 0, 1 FROM data_key WHERE organization = :organization AND previous_kid IS NOT NULL
    ) AS uses GROUP BY kid ORDER BY kid
    """
)
_DROP_PREVIOUS: Final = text(
    "UPDATE data_key SET previous_kid = NULL, previous_algorithm = NULL, previous_edek = NULL"
    " WHERE organization = :organization AND previous_kid = :kid"
)


class DataKeys(Database):
    """The wrapped data keys: one winner for each epoch, and no write under settings that are not in force."""

    async def first_or_existing(
        self, new: NewDataKey, fence: Fence, *, within: AsyncConnection | None = None
    ) -> DataKeyRow | Fenced:
        """Insert a data key unless its epoch has one already; the row that is there afterwards, whoever wrote it."""
        statement = insert(DATA_KEY).values(asdict(new))
        keys = ("organization", "service", "purpose", "epoch")
        statement = statement.on_conflict_do_nothing(index_elements=[DATA_KEY.c[name] for name in keys])
        existing = _ROWS.where(*(DATA_KEY.c[name] == getattr(new, name) for name in keys))
        async with self.transaction(within) as connection:
            stopped = await fenced(connection, new.organization, fence)
            if stopped is not None:
                return stopped
            await connection.execute(statement)
            return _row((await connection.execute(existing)).one())

    async def data_key(self, id_: UUID) -> DataKeyRow | None:
        """The data key with this id, of whichever organization: the caller compares it."""
        return _row_or_none(await self.row(_BY_ID, data_key=id_))

    async def newest(self, organization: str, service: str, purpose: str) -> DataKeyRow | None:
        """The data key of the newest epoch."""
        return _row_or_none(await self.row(_NEWEST, organization=organization, service=service, purpose=purpose))

    async def of_epoch(self, organization: str, service: str, purpose: str, epoch: int) -> DataKeyRow | None:
        """The data key of one epoch."""
        return _row_or_none(await self.row(_OF_EPOCH, organization=organization, service=service, purpose=purpose, epoch=epoch))

    async def compare_and_set(
        self, organization: str, new: Rewrapped, fence: Fence, *, within: AsyncConnection | None = None
    ) -> Write:
        """Replace kid, algorithm and EDEK of a row together, if its version is still the one that was read."""
        written = await self.compare_and_set_all(organization, [new], fence, within=within)
        if isinstance(written, Fenced):
            return Write.FENCED
        return Write.WRITTEN if new.id in written else Write.STALE

    async def compare_and_set_all(
        self, organization: str, new: Sequence[Rewrapped], fence: Fence, *, within: AsyncConnection | None = None
    ) -> frozenset[UUID] | Fenced:
        """The same for many rows in one transaction; the ids that were written."""
        values: dict[str, object] = {
            "organization": organization,
            "ids": [one.id for one in new],
            "row_versions": [one.row_version for one in new],
            "kids": [one.kid for one in new],
            "algorithms": [one.algorithm for one in new],
            "edeks": [one.edek for one in new],
            "retires": [one.retires for one in new],
        }
        async with self.transaction(within) as connection:
            stopped = await fenced(connection, organization, fence)
            if stopped is not None:
                return stopped
            return frozenset((await connection.execute(_COMPARE_AND_SET, values)).scalars())

    @asynccontextmanager
    async def rewrap_batch(self, organization: str, accepted_kid: str, limit: int) -> AsyncIterator[RewrapBatch]:
        """Rows that are not wrapped by `accepted_kid`, locked until the block ends; another replica gets others meanwhile.

        Write them by `compare_and_set_all(…, within=batch.connection)`: the block commits them, an exception in it none.
        """
        queue = _ROWS.where(DATA_KEY.c.organization == organization, DATA_KEY.c.kid != accepted_kid)
        queue = queue.order_by(DATA_KEY.c.id).limit(limit).with_for_update(skip_locked=True)
        async with self.transaction(patience=12) as connection:
            rows = [_row(row) for row in await connection.execute(queue)]
            yield RewrapBatch(rows, connection)

    async def by_kid(self, organization: str) -> list[KidCount]:
        """How many rows each key version wraps, or is kept by as the previous one."""
        rows = await self.rows(_BY_KID, organization=organization)
        return [KidCount(row.kid, row.data_keys, row.previous) for row in rows]

    async def drop_previous(self, organization: str, kid: str) -> int:
        """Forget the previous wraps by `kid`; how many there were."""
        async with self.transaction() as connection:
            return (await connection.execute(_DROP_PREVIOUS, {"organization": organization, "kid": kid})).rowcount


@dataclass(frozen=True, slots=True)
class RewrapBatch:
    """Locked rows, and the connection whose transaction holds the locks."""

    rows: Sequence[DataKeyRow]
    connection: AsyncConnection


def _row(row: Row[tuple[object, ...]]) -> DataKeyRow:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    return DataKeyRow(**values | {"age": float(values["age"])})


def _row_or_none(row: Row[tuple[object, ...]] | None) -> DataKeyRow | None:
    return None if row is None else _row(row)
