"""Whether an object may speak for an organization, and the database's word on which settings are in force.

An id whose first object is gone may be named by an object of another namespace. It gets none of the data keys that are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_keyservice.keys.flights import Flights
from cmk_keyservice.keys.problems import not_accepted, settings_changing, taken, unknown_organization
from cmk_keyservice.keys.recorded import observed as settings_observed
from cmk_keyservice.problem import Problem, ProblemError
from cmk_keyservice.store.rows import Fence
from cmk_keyservice.vaults.organizations import UnreadableOrganizationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cmk_keyservice.audit.journal import Journal
    from cmk_keyservice.store.store import Store
    from cmk_keyservice.vaults.accepted import Organization
    from cmk_keyservice.vaults.organizations import Organizations


def fence_of(organization: Organization) -> Fence | None:
    """The settings that writes rely on; None if nothing is accepted."""
    return Fence(organization.uid, organization.accepted.revision) if organization.accepted is not None else None


class Admission:
    """Brings accepted settings to the database, before anything is written under them.

    `keep` stores how the key is reached, for the time when the object no longer says so.
    """

    def __init__(
        self, organizations: Organizations, store: Store, journal: Journal, keep: Callable[[Organization], Awaitable[None]]
    ) -> None:
        self._organizations = organizations
        self._store = store
        self._journal = journal
        self._keep = keep
        self._observed: dict[str, Fence] = {}
        self._flights: Flights[tuple[str, Fence], Problem | None] = Flights()

    def is_admitted(self, organization: Organization) -> bool:
        """Whether the object may use the data keys that are there; newer settings of the same object may, too."""
        observed = self._observed.get(organization.id)
        return observed is not None and observed.uid == organization.uid

    def is_observed(self, organization: Organization) -> bool:
        """Whether the database knows exactly these settings."""
        return self._observed.get(organization.id) == fence_of(organization) is not None

    async def observe(self, organization: Organization) -> Problem | None:
        """Bring the settings to the database, as the API server has them now; returns why they are not admitted."""
        fence = fence_of(organization)
        if fence is None:
            return not_accepted(organization)
        if self._observed.get(organization.id) == fence:
            return None
        return await self._flights.join((organization.id, fence), lambda: self._observe(organization))

    def forget(self, organization_id: str) -> None:
        """The database may know something else by now."""
        self._observed.pop(organization_id, None)

    async def _observe(self, organization: Organization) -> Problem | None:
        try:
            # A replica that was stopped may hold an object that is gone: only the API server's present word is written.
            fresh = await self._organizations.read_again(organization)
        except UnreadableOrganizationError:
            return settings_changing()
        if fresh is None:
            return unknown_organization(organization.id)
        fence = fence_of(fresh)
        if fence is None:
            return not_accepted(fresh)
        try:
            before = await self._store.known(fresh.id)
            observed = await self._store.observe(fresh.id, fence, fresh.namespace)
            if observed.namespace != fresh.namespace:
                return taken(fresh, observed.namespace)
            if observed.fence != fence:
                return settings_changing()
            await self._keep(fresh)
            if before != fence:
                shown = f"revision {before.revision}" if before is not None else ""
                await self._journal.append(fresh.id, [settings_observed(fresh, shown)])
        except ProblemError as error:
            return error.problem
        self._observed[fresh.id] = fence
        return None
