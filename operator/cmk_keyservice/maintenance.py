"""What the provider does with the database by hand: finish a rotation of the internal key ring, and hand out a record."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cmk_keyservice.audit.journal import Journal
from cmk_keyservice.crypto.key_ring import RingName, without_key
from cmk_keyservice.problem import Kind, problem_error
from cmk_keyservice.store.sealing import check_ring, ring_keys_in_use, seal_again
from cmk_keyservice.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cmk_keyservice.crypto.key_ring import KeyRing


async def seal_all_again(url: str, ring: KeyRing) -> int:
    """Seal every row of the database by the ring's primary key; how many were not. It can be stopped and run again.

    Raises ProblemError, and changes nothing, if the ring lacks a key that the database needs.
    """
    async with _store(url) as store:
        await check_ring(store, ring)
        total = 0
        while sealed := await seal_again(store, ring):
            total += sealed
        return total


async def without_unused_key(url: str, document: bytes, key_id: int) -> bytes:
    """The internal key ring without this key. Raises ProblemError while rows of the database are sealed by it."""
    changed = without_key(RingName.INTERNAL, document, key_id)
    async with _store(url) as store:
        uses = (await ring_keys_in_use(store))[key_id]
    if uses:
        raise problem_error(
            Kind.INVALID,
            "KeyInUse",
            f"{uses} values in the database are sealed by key {key_id}",
            "Make another key the primary one (use-key), replace the Secret, run `cmk-keyservice seal-again`, then remove this one.",
        )
    return changed


async def export_record(url: str, organization: str, write: Callable[[str], object]) -> int:
    """Write an organization's record, one entry for each line; how many there are. Raises ProblemError if there is none."""
    entries = 0
    async with _store(url) as store:
        async for line in Journal(store).lines(organization):
            write(f"{line}\n")
            entries += 1
    if not entries:
        raise problem_error(
            Kind.NOT_FOUND,
            "NoRecord",
            f"there is no record of organization {organization}",
            "Name the id of an organization, `spec.organization.id` of its OrganizationKey.",
        )
    return entries


@asynccontextmanager
async def _store(url: str) -> AsyncIterator[Store]:
    store = await Store.open(url, pool_size=2)
    try:
        await store.check()
        yield store
    finally:
        await store.close()
