"""Data keys for callers: from memory while access is proven, else unwrapped once for all who wait."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from msgspec import structs

from cmk_keyservice.keys.admission import fence_of
from cmk_keyservice.keys.cache import Held
from cmk_keyservice.keys.data_key import DataKey, Lease
from cmk_keyservice.keys.epochs import NewestKey, new_epoch
from cmk_keyservice.keys.flights import Flights
from cmk_keyservice.keys.problems import (
    being_confirmed,
    not_accepted,
    old_version_unavailable,
    settings_changing,
    unknown_data_key,
    unknown_organization,
)
from cmk_keyservice.keys.recorded import created, key_used
from cmk_keyservice.keys.standing import lease_seconds
from cmk_keyservice.keys.wrapping import shared
from cmk_keyservice.problem import Kind, Problem, ProblemError
from cmk_keyservice.store.rows import Fence, Fenced
from cmk_keyservice.vaults.accepted import PLATFORM_KEY
from cmk_keyservice.vaults.answers import NotDone
from cmk_keyservice.vaults.organizations import UnreadableOrganizationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from cmk_keyservice.audit.journal import Journal
    from cmk_keyservice.keys.access import Access, Known
    from cmk_keyservice.keys.cache import Cache
    from cmk_keyservice.keys.limits import Limits
    from cmk_keyservice.keys.wrapping import Wrapping
    from cmk_keyservice.store.rows import DataKeyRow
    from cmk_keyservice.store.store import Store
    from cmk_keyservice.vaults.accepted import Accepted, Organization
    from cmk_keyservice.vaults.organizations import Organizations

EARLIEST: Final = 0.75
"""The least share of its time after which a data key in memory is unwrapped again."""
NEWEST_FOR: Final = 10.0
"""Seconds for which the newest epoch is known without a look at the database, which may have been restored meanwhile."""
STALE_FOR: Final = 50.0
"""Further seconds for which it is taken while the database is asked, so that a slow database delays no caller."""
TRIES: Final = 4
"""Attempts while settings or a row change under way."""
PATIENCE: Final = 20.0
"""Seconds that callers wait for the budget of a vault."""
READS_AT_ONCE: Final = 6
"""Rows that are read at the same time, so that many misses leave connections of the pool to others."""
_LOG: Final = logging.getLogger(__name__)

Place = tuple[str, str, str]
"""Organization, service and purpose."""


class DataKeys:
    """The data keys of all organizations. `clock` counts seconds."""

    def __init__(
        self,
        organizations: Organizations,
        access: Access,
        cache: Cache,
        wrapping: Wrapping,
        store: Store,
        journal: Journal,
        *,
        clock: Callable[[], float],
        limits: Limits,
    ) -> None:
        self._organizations = organizations
        self._access = access
        self._cache = cache
        self._wrapping = wrapping
        self._store = store
        self._journal = journal
        self._clock = clock
        self._epoch_days = limits.epoch_days
        self._held_for = limits.held_for
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._loads: Flights[tuple[str, UUID], Held | Problem] = Flights()
        self._newest: dict[Place, tuple[UUID, float]] = {}
        self._finds: Flights[Place, UUID | Problem] = Flights()
        self._doubts: dict[tuple[str, str], float] = {}
        """When an older key version of an organization refused first, by its `kid`."""

    def __len__(self) -> int:
        """The number of data keys in memory."""
        return len(self._cache)

    async def current(self, organization: str, service: str, purpose: str) -> DataKey:
        """The data key for new data of a service and purpose; made if there is none, or if the newest is too old.

        Raises `ProblemError` if the organization's key does not admit us.
        """
        found = self._organization(organization)
        known = await self._access.require(found)
        place = (organization, service, purpose)
        newest = self._newest.get(place)
        now = self._clock()
        if newest is None or now >= newest[1] + STALE_FOR:
            return (await self._held(found, known, await self._find(found, place))).data_key
        if now >= newest[1]:
            self._finds.start(place, lambda: self._find_or_mint(found, place))
        return (await self._held(found, known, newest[0])).data_key

    async def first(self, organization: str, service: str, purpose: str) -> DataKey:
        """The data key of the first epoch for ever, for what must come out equal, such as keyed indexes."""
        found = self._organization(organization)
        known = await self._access.require(found)
        row = await self._store.of_epoch(organization, service, purpose, 1)
        if row is None:
            await self._find(found, (organization, service, purpose))
            row = await self._store.of_epoch(organization, service, purpose, 1)
        if row is None:
            raise ProblemError(settings_changing())
        return (await self._held(found, known, row.id)).data_key

    async def by_id(self, organization: str, data_key_id: UUID) -> DataKey:
        """The data key with which something was encrypted. Raises `ProblemError` if it may not be used, or is not there."""
        found = self._organization(organization)
        known = await self._access.require(found)
        return (await self._held(found, known, data_key_id)).data_key

    async def lease(
        self,
        organization: str,
        service: str,
        purpose: str,
        data_key_id: UUID | None = None,
        seconds: float | None = None,
    ) -> Lease:
        """A data key for a caller that uses it by itself, for at most `seconds`; a known one, or the current one.

        A known one must be of that service; whether another may share it is the caller's question.
        """
        if data_key_id is None:
            data_key = await self.current(organization, service, purpose)
        else:
            data_key = await self.by_id(organization, data_key_id)
        known = self._access.of(self._organization(organization))
        granted = lease_seconds(known.bounds, self._clock(), data_key.expires, seconds) if known is not None else 0.0
        if granted <= 0:
            raise ProblemError(not_accepted(self._organization(organization)))
        return Lease(data_key, granted)

    def in_force(self, data_key: DataKey) -> bool:
        """Whether what was just done with a data key may still leave this process: it may have been stopped meanwhile."""
        found = self._organizations.find(data_key.organization)
        known = self._access.of(found) if found is not None else None
        return known is not None and self._clock() < min(known.until, data_key.expires)

    def evict(self, organization: str) -> int:
        """Hold no data key of an organization any more, and know no newest one."""
        for place in [place for place in self._newest if place[0] == organization]:
            del self._newest[place]
        return self._cache.evict(organization)

    def _organization(self, organization_id: str) -> Organization:
        found = self._organizations.find(organization_id)
        if found is None:
            raise ProblemError(unknown_organization(organization_id))
        return found

    async def _held(self, organization: Organization, known: Known, data_key_id: UUID) -> Held:
        """The data key in memory, after an unwrap where it is not there or due for one."""
        held = self._cache.get(data_key_id)
        if held is not None and held.data_key.organization != organization.id:
            raise ProblemError(unknown_data_key(data_key_id))
        if held is not None and not held.of_its_own and held.kid not in {known.accepted.kid, PLATFORM_KEY}:
            held.leave_the_key_in_force(known.bounds.probe_interval, known.bounds.ceiling)
        now = self._clock()
        if held is not None and now < min(held.renew_at, held.serves_until):
            return self._lent(held, known)
        loaded = await self._loads.join((organization.id, data_key_id), lambda: self._load(organization, data_key_id))
        known = self._access.of(self._organization(organization.id)) or known
        if isinstance(loaded, Held):
            # Access may have ended while this waited.
            if self._clock() >= known.until:
                known = await self._access.require(self._organization(organization.id))
            return self._lent(loaded, known)
        held = self._cache.get(data_key_id)
        if held is not None and loaded.retryable and self._clock() < min(held.serves_until, known.until):
            held.renew_at = self._clock() + known.bounds.confirm
            return self._lent(held, known)
        raise ProblemError(loaded)

    def _lent(self, held: Held, known: Known) -> Held:
        """The data key with the time until which access is proven now."""
        expires = min(held.serves_until, known.until)
        if held.data_key.expires != expires:
            held.data_key = structs.replace(held.data_key, expires=expires)
        return held

    async def _load(self, organization: Organization, data_key_id: UUID) -> Held | Problem:
        """Unwrap a data key. Before a refusal counts, the settings and the row are read again."""
        try:
            return await self._load_row(organization, data_key_id)
        except ProblemError as error:
            return error.problem

    async def _load_row(self, organization: Organization, data_key_id: UUID) -> Held | Problem:
        problem = settings_changing()
        began = self._clock()
        row = await self._row(organization, data_key_id)
        for _ in range(TRIES):
            sent_at = self._clock()
            answer = await self._wrapping.unwrap(organization, row)
            if not isinstance(answer, NotDone):
                if row.kid != PLATFORM_KEY:
                    await self._journal.append(organization.id, [key_used(row, answer)])
                return self._hold(organization, row, answer.material, sent_at)
            problem = answer.problem
            if problem.kind is Kind.THROTTLED:
                wait = problem.retry_after
                if wait is None or self._clock() + wait - began > PATIENCE:
                    return problem
                await asyncio.sleep(wait)
                continue
            fresh, again = await self._read_again(organization), await self._row(organization, data_key_id)
            unchanged = again.row_version == row.row_version and fence_of(fresh) == fence_of(organization)
            organization, row = fresh, again
            if unchanged:
                return await self._not_loaded(organization, row, answer)
        return problem

    async def _row(self, organization: Organization, data_key_id: UUID) -> DataKeyRow:
        async with self._reads:
            row = await self._store.data_key(data_key_id)
        if row is None:
            self._cache.drop(data_key_id)
        if row is None or row.organization != organization.id:
            raise ProblemError(unknown_data_key(data_key_id))
        return row

    async def _read_again(self, organization: Organization) -> Organization:
        """The organization as it is now; as it is known, if the API server does not answer."""
        try:
            found = await self._organizations.read_again(organization)
        except UnreadableOrganizationError:
            return organization
        if found is None:
            raise ProblemError(unknown_organization(organization.id))
        return found

    async def _not_loaded(self, organization: Organization, row: DataKeyRow, answer: NotDone) -> Problem:
        """What a caller is told: a refusal by the key in force is confirmed for all, one by an older version for itself."""
        if not answer.refuses:
            return answer.problem
        accepted = organization.accepted
        if accepted is None:
            return not_accepted(organization)
        if row.kid == accepted.kid:
            return await self._access.doubt(organization)
        known = self._access.of(organization)
        confirm = known.bounds.confirm if known is not None else 0.0
        first = self._doubts.setdefault((organization.id, row.kid), self._clock())
        if self._clock() - first < confirm:
            return being_confirmed(confirm)
        self._cache.drop(row.id)
        return old_version_unavailable(answer.problem, row.kid)

    def _hold(self, organization: Organization, row: DataKeyRow, material: bytes, sent_at: float) -> Held:
        known = self._access.of(organization)
        if known is None:
            raise ProblemError(not_accepted(organization))
        self._doubts.pop((organization.id, row.kid), None)
        self._access.succeeded(organization, row.kid, sent_at)
        held = Held(
            data_key=self._wrapping.data_key(row, material, known.until),
            kid=shared(row.kid),
            unwrapped_at=sent_at,
            serves_until=sent_at + self._held_for + known.bounds.ceiling,
            renew_at=sent_at + self._held_for * random.uniform(EARLIEST, 1.0),  # noqa: S311 - spreads work, guards nothing
        )
        self._cache.put(held)
        return held

    async def _find(self, organization: Organization, place: Place) -> UUID:
        """The id of the data key for new data; the last one that is known, if the database does not answer."""
        found = await self._finds.join(place, lambda: self._find_or_mint(organization, place))
        if isinstance(found, Problem):
            raise ProblemError(found)
        return found

    async def _find_or_mint(self, organization: Organization, place: Place) -> UUID | Problem:
        try:
            found = await self._found_or_minted(organization, place)
        except ProblemError as error:
            found = error.problem
        known = self._newest.get(place)
        if isinstance(found, Problem) and known is not None and found.retryable:
            found = known[0]
        if not isinstance(found, Problem):
            self._newest[place] = (found, self._clock() + NEWEST_FOR)
        return found

    async def _found_or_minted(self, organization: Organization, place: Place) -> UUID | Problem:
        for _ in range(TRIES):
            accepted = organization.accepted
            if accepted is None:
                return not_accepted(organization)
            async with self._reads:
                row = await self._store.newest(*place)
            if row is not None and new_epoch(_newest(row), accepted, self._epoch_days) is None:
                return row.id
            problem = await self._access.admission.observe(organization)
            if problem is not None:
                return problem
            minted = await self._mint(organization, accepted, place, row)
            if not isinstance(minted, Fenced):
                return minted
            self._access.admission.forget(organization.id)
            organization = await self._read_again(organization)
        return settings_changing()

    async def _mint(
        self, organization: Organization, accepted: Accepted, place: Place, newest: DataKeyRow | None
    ) -> UUID | Problem | Fenced:
        """Make the next epoch's data key. Whoever was first has made it; all use that one."""
        made = await self._wrapping.make(organization, accepted, place, newest.epoch + 1 if newest is not None else 1)
        if isinstance(made, NotDone):
            if made.refuses:
                # A key that also refuses to unwrap is found by that; one that only wraps nothing new goes on.
                await self._access.doubt(organization)
            if newest is None:
                return replace(made.problem, kind=Kind.UNAVAILABLE, retryable=True) if made.refuses else made.problem
            _LOG.warning("a new data key of %s waits: %s", organization.id, made.problem.detail)
            return newest.id
        fence = Fence(organization.uid, accepted.revision)
        async with self._store.transaction() as connection:
            written = await self._store.first_or_existing(made.row, fence, within=connection)
            if isinstance(written, Fenced):
                return written
            if written.id == made.row.id:
                await self._journal.append_within(organization.id, [created(made)], connection)
        return written.id


def _newest(row: DataKeyRow) -> NewestKey:
    return NewestKey(row.epoch, row.kid, row.age / 86_400, retired=row.state == "Retired")
