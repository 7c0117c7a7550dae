"""What one replica does for each organization once a minute and on a change: census, re-wrap, and the report to its object."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cmk_keyservice.keys.flights import Flights
from cmk_keyservice.keys.recorded import restored
from cmk_keyservice.keys.rewrap_state import RewrapState
from cmk_keyservice.problem import ProblemError
from cmk_keyservice.watch.report import data_keys_report, is_same, with_since
from cmk_operator.core.text.rfc3339 import to_rfc3339
from cmk_operator.kubernetes.client import KubernetesError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cmk_keyservice.audit.journal import Journal
    from cmk_keyservice.keys.access import Access
    from cmk_keyservice.keys.standing import Serving
    from cmk_keyservice.problem import Problem
    from cmk_keyservice.rewrap.rewrap import Rewrap
    from cmk_keyservice.store.store import Store
    from cmk_keyservice.vaults.accepted import Organization
    from cmk_keyservice.vaults.organizations import Organizations

EVERY: Final = 60.0
AT_ONCE: Final = 4
"""Organizations that one replica tends at the same time."""
AGAIN_AFTER: Final = 5.0
"""Seconds after which an organization is tended again, if another replica does so now, or something failed."""
RESTORED: Final = "restored"
"""The notice to all replicas that the database was restored."""
_AFTER_RESTORE: Final = "the database was restored; nobody needs to act: the re-wrap begins with the next turn"
_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Turn:
    """When an organization is tended next, and when this replica first saw the report that its object has."""

    due: float = float("-inf")
    reported_at: str = ""
    seen: float = float("-inf")
    state: Serving | None = None


class Upkeep:
    """Tends all organizations. `apply` writes a report; `clock` counts seconds, `every` is in them."""

    def __init__(
        self,
        organizations: Organizations,
        access: Access,
        store: Store,
        journal: Journal,
        rewrap: Rewrap,
        *,
        apply: Callable[[Organization, Mapping[str, Any]], Awaitable[None]],
        clock: Callable[[], float],
        every: float = EVERY,
    ) -> None:
        self._organizations = organizations
        self._access = access
        self._store = store
        self._journal = journal
        self._rewrap = rewrap
        self._apply = apply
        self._clock = clock
        self._every = every
        self._turns: dict[str, _Turn] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._under_way: Flights[str, None] = Flights()

    def kick(self, organization_id: str) -> None:
        """Tend an organization as soon as possible."""
        self._turns.setdefault(organization_id, _Turn()).due = float("-inf")

    async def run(self, stop: asyncio.Event, tick: float = 1.0) -> None:
        """Tend every organization when it is due, until `stop` is set."""
        while not stop.is_set():
            for organization in self._organizations:
                if self._is_due(organization):
                    self._under_way.start(organization.id, partial(self._turn, organization))
            self._drop_gone()
            with suppress(TimeoutError):
                async with asyncio.timeout(tick):
                    await stop.wait()
        await self._under_way.end()

    def _is_due(self, organization: Organization) -> bool:
        turn = self._turns.setdefault(organization.id, _Turn())
        known = self._access.of(organization)
        changed = known is not None and self._access.state(known) is not turn.state
        return changed or self._clock() >= turn.due

    def _drop_gone(self) -> None:
        for organization_id in [one for one in self._turns if self._organizations.find(one) is None]:
            del self._turns[organization_id]
            self._access.forget(organization_id)

    async def _turn(self, organization: Organization) -> None:
        turn = self._turns.setdefault(organization.id, _Turn())
        turn.due = math.inf  # until something kicks it, which the end of this turn must not undo
        wait = AGAIN_AFTER
        try:
            async with self._slots:
                wait = await self.tend(organization)
        except (ProblemError, KubernetesError) as error:
            _LOG.warning("organization %s is tended again later: %s", organization.id, error)
        finally:
            turn.due = min(turn.due, self._clock() + wait)
            known = self._access.of(organization)
            turn.state = self._access.state(known) if known is not None else None

    async def tend(self, organization: Organization) -> float:
        """Re-wrap what is due, and report; returns the seconds until the next turn.

        Raises `ProblemError` without a database, `KubernetesError` if the report is not written.
        """
        barred = await self._access.admission.observe(organization)
        organization = self._organizations.find(organization.id) or organization
        if organization.accepted is None:
            return self._every
        if barred is not None:
            if not barred.retryable:
                await self._report(organization, _barred(barred), self._turns.setdefault(organization.id, _Turn()))
            return self._every if not barred.retryable else AGAIN_AFTER
        async with self._store.try_lock(f"upkeep/{organization.id}") as lock:
            if lock is None:
                return AGAIN_AFTER
            return await self._tend_alone(organization)

    async def _tend_alone(self, organization: Organization) -> float:
        turn = self._turns.setdefault(organization.id, _Turn())
        was_restored = await self._find_restore(organization)
        state = RewrapState()
        accepted = organization.accepted
        counts = await self._store.by_kid(organization.id)
        if accepted is not None and any(one.kid != accepted.kid for one in counts):
            if was_restored:
                # Backups of now need the key versions that are back: the operator must see them before they are gone again.
                pending = sum(one.data_keys for one in counts if one.kid != accepted.kid)
                state = RewrapState(pending, message=_AFTER_RESTORE, retry_after=AGAIN_AFTER)
            else:
                state = await self._rewrap.run_pass(organization)
                counts = await self._store.by_kid(organization.id)
        known = self._access.of(organization)
        if known is None or accepted is None:
            return self._every
        serving = self._access.state(known)
        since = datetime.now(UTC) - timedelta(seconds=min(1e9, max(0.0, self._clock() - known.since)))
        report = data_keys_report(accepted.revision, counts, state, serving, since, _told(known.standing_problem))
        if report is None:
            _LOG.error("organization %s has data keys under too many key versions to report", organization.id)
        else:
            await self._report(organization, report, turn)
        if state.pending and not state.failed and not state.message:
            return 0.0
        return min(self._every, state.retry_after or self._every)

    async def _find_restore(self, organization: Organization) -> bool:
        """Have every replica look at the database anew, if it is older than a report that left it; whether it was."""
        reported = organization.reported.get("observedAt")
        with suppress(ValueError, TypeError):
            if isinstance(reported, str) and await self._store.note_restore(organization.id, datetime.fromisoformat(reported)):
                _LOG.warning("the database was restored: organization %s had a newer report", organization.id)
                await self._store.notify(RESTORED, organization.id)
                await self._journal.append(organization.id, [restored(reported)])
                return True
        return False

    async def _report(self, organization: Organization, wanted: dict[str, Any], turn: _Turn) -> None:
        """Write a report that says something new, or whose last one is a minute old by when this replica saw it."""
        reported = organization.reported
        at = str(reported.get("observedAt", ""))
        if at != turn.reported_at:
            turn.reported_at, turn.seen = at, self._clock()
        if is_same(reported, wanted) and at and self._clock() - turn.seen < self._every:
            return
        observed_at = await self._store.note_report(organization.id)
        if observed_at is not None:
            wanted = with_since(wanted, reported) | {"observedAt": to_rfc3339(observed_at)}
            await self._apply(organization, wanted)


def _told(problem: Problem | None) -> str:
    return f"{problem.detail}: {problem.remedy}" if problem is not None else ""


def _barred(problem: Problem) -> dict[str, Any]:
    now = to_rfc3339(datetime.now(UTC))
    return {"revision": 0, "total": 0, "serving": {"state": "NotServing", "since": now, "message": _told(problem)}}
