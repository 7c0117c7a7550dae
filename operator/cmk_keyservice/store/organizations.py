"""What the database knows of organizations: the settings observed last, how keys were reached, and what was reported."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import rfc8785
from sqlalchemy import bindparam, exists, func, select, text
from sqlalchemy.dialects.postgresql import insert

from cmk_keyservice.store.database import Database
from cmk_keyservice.store.rows import AccessRow, Fence, Fenced, Observed
from cmk_keyservice.store.tables import ACCESS, DATA_KEY, ORGANIZATION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

_AGE: Final = func.extract("epoch", func.clock_timestamp() - ACCESS.c.recorded_at)
_KNOWN: Final = select(ORGANIZATION).where(ORGANIZATION.c.id == bindparam("organization"))
_LOCKED: Final = _KNOWN.with_for_update()
_FENCE: Final = _KNOWN.with_for_update(read=True)
_REPORTED: Final = text(
    "UPDATE organization SET reported_at = date_trunc('second', clock_timestamp()) WHERE id = :organization RETURNING reported_at"
)
_RESTORED: Final = text(
    "UPDATE organization SET restored_at = clock_timestamp(), reported_at = CAST(:reported AS timestamptz) WHERE id = :organization"
    " AND (reported_at IS NULL OR reported_at < CAST(:reported AS timestamptz)) RETURNING restored_at"
)


class Organizations(Database):
    """Queries of the tables `organization` and `access`."""

    async def now(self) -> datetime:
        """The database's clock: the only one that two replicas share."""
        (found,) = await self.rows(select(func.clock_timestamp()))
        return found[0].astimezone(UTC)  # type: ignore[no-any-return]  # a timestamptz

    async def observe(self, organization: str, fence: Fence, namespace: str) -> Observed:
        """Note the accepted settings that a replica sees now, and return what is known afterwards.

        Of one uid the revision only grows; another uid is another object and replaces it, but from another namespace only while
        the organization has no data key. After the return every write under older settings is either visible or fenced.
        """
        new = insert(ORGANIZATION).values(id=organization, namespace=namespace, uid=fence.uid, revision=fence.revision)
        old, its = ORGANIZATION.c, new.excluded
        newer = (old.uid != its.uid) | (old.revision < its.revision) | (old.namespace != its.namespace)
        free = (old.namespace == its.namespace) | ~exists().where(DATA_KEY.c.organization == organization)
        statement = new.on_conflict_do_update(
            index_elements=[old.id],
            set_={"namespace": its.namespace, "uid": its.uid, "revision": its.revision},
            where=newer & free,
        )
        async with self.transaction() as connection:
            known = await _known(connection, organization)
            if known is None or known != Observed(fence, namespace):
                # The lock comes first: a statement that waits for it would not see the data key that its holder wrote.
                await connection.execute(_LOCKED, {"organization": organization})
                await connection.execute(statement)
                known = await _known(connection, organization)
        return known or Observed(fence, namespace)

    async def known(self, organization: str) -> Fence | None:
        """The accepted settings that the database knows; None if nobody has observed any."""
        row = await self.row(_KNOWN, organization=organization)
        return None if row is None else Fence(row.uid, row.revision)

    async def write_access(
        self, organization: str, fence: Fence, kid: str, access: Mapping[str, Any], credentials: bytes | None
    ) -> None:
        """Keep how `kid` is reached under these settings; of the same access only the newest credentials are kept."""
        digest = sha256(rfc8785.dumps(dict(access))).hexdigest()
        row = {"organization": organization, "uid": fence.uid, "revision": fence.revision, "kid": kid}
        new = insert(ACCESS).values(row | {"access_digest": digest, "access": dict(access), "credentials": credentials})
        statement = new.on_conflict_do_update(
            index_elements=[ACCESS.c[name] for name in ("organization", "uid", "revision", "kid", "access_digest")],
            set_={"credentials": new.excluded.credentials, "recorded_at": func.clock_timestamp()},
        )
        async with self.transaction() as connection:
            await connection.execute(statement)

    async def access_for(self, organization: str, kid: str) -> list[AccessRow]:
        """Every way in which `kid` was ever reached, the newest first."""
        rows = await self.rows(
            select(ACCESS.c.uid, ACCESS.c.revision, ACCESS.c.kid, ACCESS.c.access, ACCESS.c.credentials, _AGE.label("age"))
            .where(ACCESS.c.organization == organization, ACCESS.c.kid == kid)
            .order_by(ACCESS.c.recorded_at.desc(), ACCESS.c.id.desc())
        )
        return [AccessRow(row.uid, row.revision, row.kid, row.access, row.credentials, float(row.age)) for row in rows]

    async def note_report(self, organization: str) -> datetime | None:
        """Note that a report on the data keys leaves now; its time, for `status.dataKeys.observedAt`. None if never observed."""
        async with self.transaction() as connection:
            found = (await connection.execute(_REPORTED, {"organization": organization})).first()
        return None if found is None else found[0].astimezone(UTC)

    async def note_restore(self, organization: str, reported: datetime) -> bool:
        """Whether the database is older than a report that left it: somebody restored a backup. True once for each restore."""
        async with self.transaction() as connection:
            values = {"organization": organization, "reported": reported}
            return (await connection.execute(_RESTORED, values)).first() is not None


async def fenced(connection: AsyncConnection, organization: str, fence: Fence) -> Fenced | None:
    """Hold the organization's row until the transaction ends; what the database knows if that is not `fence`."""
    row = (await connection.execute(_FENCE, {"organization": organization})).first()
    known = None if row is None else Fence(row.uid, row.revision)
    return None if known == fence else Fenced(known)


async def _known(connection: AsyncConnection, organization: str) -> Observed | None:
    row = (await connection.execute(_KNOWN, {"organization": organization})).first()
    return None if row is None else Observed(Fence(row.uid, row.revision), row.namespace)
