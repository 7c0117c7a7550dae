"""Which keys of the internal ring the database needs, and sealing its values again by the primary one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from cmk_keyservice.crypto.context import credentials_context
from cmk_keyservice.crypto.edek import open_edek, seal_edek
from cmk_keyservice.crypto.key_ring import key_id_of, missing

if TYPE_CHECKING:
    from cmk_keyservice.crypto.key_ring import KeyRing
    from cmk_keyservice.store.store import Store

_IN_USE: Final = text(
    """
    SELECT sealed, count(*) AS uses FROM (
        SELECT substring(edek FROM 1 FOR 5) AS sealed FROM data_key
        UNION ALL SELECT substring(previous_edek FROM 1 FOR 5) FROM data_key WHERE previous_edek IS NOT NULL
        UNION ALL SELECT substring(credentials FROM 1 FOR 5) FROM access WHERE credentials IS NOT NULL
    ) AS values GROUP BY sealed
    """
)
_DATA_KEYS: Final = text(
    """
    SELECT id, organization, epoch, kid, edek, previous_kid, previous_edek FROM data_key
    WHERE substring(edek FROM 1 FOR 5) <> :prefix OR substring(previous_edek FROM 1 FOR 5) <> :prefix
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)
_RESEAL_DATA_KEY: Final = text(
    "UPDATE data_key SET edek = :edek, previous_edek = :previous_edek, row_version = row_version + 1 WHERE id = :id"
)
_CREDENTIALS: Final = text(
    """
    SELECT id, organization, uid, revision, kid, credentials FROM access
    WHERE substring(credentials FROM 1 FOR 5) <> :prefix ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)
_RESEAL_CREDENTIALS: Final = text("UPDATE access SET credentials = :credentials WHERE id = :id")


async def ring_keys_in_use(store: Store) -> Counter[int | None]:
    """How many values each key of the internal ring seals, by its number; None counts values that no ring sealed."""
    found: Counter[int | None] = Counter()
    for row in await store.rows(_IN_USE):
        found[key_id_of(bytes(row.sealed))] += row.uses
    return found


async def check_ring(store: Store, ring: KeyRing) -> None:
    """Raises ProblemError unless the ring holds every key that the database is sealed by: asked before anything is served."""
    needed = {key_id for key_id in await ring_keys_in_use(store) if key_id is not None}
    absent = sorted(needed - ring.key_ids)
    if absent:
        held = ", ".join(str(key_id) for key_id in sorted(ring.key_ids))
        wanted = ", ".join(str(key_id) for key_id in absent)
        raise missing(ring.name, f"the database is sealed by key {wanted}, the ring holds only {held}")


async def seal_again(store: Store, ring: KeyRing, *, limit: int = 500) -> int:
    """Seal up to `limit` rows of each table by the ring's primary key; how many were, 0 when none is left.

    No vault is asked, and no kid changes. Raises ProblemError at a value that the ring does not open, and changes none then.
    """
    values = {"prefix": b"\x01" + ring.primary_id.to_bytes(4), "limit": limit}
    async with store.transaction(patience=12) as connection:
        data_keys = [
            {
                "id": row.id,
                "edek": _sealed_again(ring, row, row.kid, row.edek),
                "previous_edek": None
                if row.previous_edek is None
                else _sealed_again(ring, row, row.previous_kid, row.previous_edek),
            }
            for row in await connection.execute(_DATA_KEYS, values)
        ]
        if data_keys:
            await connection.execute(_RESEAL_DATA_KEY, data_keys)
        credentials = []
        for row in await connection.execute(_CREDENTIALS, values):
            context = credentials_context(row.organization, row.uid, row.revision, row.kid)
            credentials.append({"id": row.id, "credentials": ring.encrypt(ring.decrypt(row.credentials, context), context)})
        if credentials:
            await connection.execute(_RESEAL_CREDENTIALS, credentials)
    return len(data_keys) + len(credentials)


def _sealed_again(ring: KeyRing, row: object, kid: str, edek: bytes) -> bytes:
    owner = (row.organization, row.id, kid, row.epoch)  # type: ignore[attr-defined]  # a row of `_DATA_KEYS`
    return seal_edek(ring, open_edek(ring, edek, *owner), *owner)
