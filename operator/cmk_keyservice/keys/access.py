"""Whether an organization's key still admits us: looks at its canary, and what this replica knows of the answers.

A replica's own successes count at once for itself; the looks of whoever holds the lock of an organization count for all, through
the database. A refusal is confirmed by a second try against settings that were read anew; only then are data keys dropped.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cmk_keyservice.keys.flights import Flights
from cmk_keyservice.keys.problems import (
    being_confirmed,
    canary_differs,
    canary_missing,
    not_accepted,
    not_proven,
    refused_elsewhere,
    unanswered_elsewhere,
)
from cmk_keyservice.keys.recorded import refused, regained
from cmk_keyservice.keys.standing import NEVER, Bounds, Refusal, Serving, Standing, proven_at, refused_at, serving
from cmk_keyservice.problem import Kind, Problem, ProblemError
from cmk_keyservice.store.rows import Fence, Word
from cmk_keyservice.vaults.answers import NotDone
from cmk_keyservice.vaults.organizations import UnreadableOrganizationError
from cmk_operator.azure.key_gate import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_keyservice.audit.journal import Journal
    from cmk_keyservice.audit.record import Record
    from cmk_keyservice.keys.admission import Admission
    from cmk_keyservice.keys.limits import Limits
    from cmk_keyservice.store.rows import Proof
    from cmk_keyservice.store.store import Store
    from cmk_keyservice.vaults.accepted import Accepted, Organization
    from cmk_keyservice.vaults.organizations import Organizations
    from cmk_keyservice.vaults.vaults import Vaults

AT_ONCE: Final = 64
"""Organizations that one replica looks at, at the same time: some of their vaults may hang."""
ASKED_AGAIN_AFTER: Final = 1.0
"""Seconds between two looks that callers wait for; those in between get the answer of the last one."""
_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Known:
    """What this replica knows of one organization's access, with the settings that it holds for."""

    fence: Fence
    accepted: Accepted
    bounds: Bounds
    standing: Standing = field(default_factory=Standing)
    since: float = NEVER
    """When the serving state last changed."""
    state: Serving = Serving.NOT_SERVING

    @property
    def until(self) -> float:
        """Until when data keys may be used."""
        return math.inf if self.accepted.by_platform else self.standing.serves_until(self.bounds)

    @property
    def standing_problem(self) -> Problem | None:
        """Why data keys are not served, or not for long; None if nothing is wrong."""
        return self.standing.refusal.problem if self.standing.refusal is not None else self.standing.outage


class Access:
    """The standing of every organization. `evict` is called with the id of each organization that is refused.

    `clock` is a clock in seconds that goes on while the process is stopped.
    """

    def __init__(
        self,
        organizations: Organizations,
        admission: Admission,
        vaults: Vaults,
        store: Store,
        journal: Journal,
        *,
        evict: Callable[[str], object],
        clock: Callable[[], float],
        limits: Limits,
    ) -> None:
        self.admission = admission
        self._organizations = organizations
        self._vaults = vaults
        self._store = store
        self._journal = journal
        self._evict = evict
        self._clock = clock
        self._confirm = limits.confirm
        self._lease = limits.lease
        self._known: dict[str, Known] = {}
        self._looks: Flights[tuple[str, Fence], Problem | None] = Flights()
        self._confirmations: Flights[tuple[str, Fence], None] = Flights()
        self._turns: Flights[str, None] = Flights()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def of(self, organization: Organization) -> Known | None:
        """What is known with the settings that are accepted now; None if nothing is accepted."""
        accepted = organization.accepted
        if accepted is None:
            return None
        known = self._known.get(organization.id)
        if known is not None and known.accepted is accepted and known.fence.uid == organization.uid:
            return known
        if known is not None and known.fence.uid == organization.uid and known.fence.revision > accepted.revision:
            return known  # an older reading of the same object
        fence = Fence(organization.uid, accepted.revision)
        bounds = Bounds(accepted.probe_interval, accepted.outage_grace, self._confirm, self._lease)
        if known is not None and (known.accepted.kid, known.accepted.access) == (accepted.kid, accepted.access):
            # The same key and the same way to it: what a look under way finds holds for these settings, too.
            known.fence, known.accepted, known.bounds = fence, accepted, bounds
            return known
        made = self._known[organization.id] = Known(fence, accepted, bounds)
        return made

    def forget(self, organization_id: str) -> None:
        """The organization has no object any more."""
        self._known.pop(organization_id, None)
        self._evict(organization_id)

    def state(self, known: Known) -> Serving:
        """The serving state now; `since` of `known` says since when it is that."""
        now = self._clock()
        state = Serving.SERVING if known.accepted.by_platform else serving(known.standing, known.bounds, now)
        if state is not known.state:
            known.state, known.since = state, now
        return state

    async def require(self, organization: Organization) -> Known:
        """Return what is known if data keys may be used now, after a look where the last proof is too old.

        Raises `ProblemError` if they may not.
        """
        known = self.of(organization)
        if known is None:
            raise ProblemError(not_accepted(organization))
        if not self.admission.is_admitted(organization):
            barred = await self.admission.observe(organization)
            if barred is not None:
                raise ProblemError(barred)
        now = self._clock()
        if now < known.until:
            if not known.accepted.by_platform and known.standing.is_overdue(known.bounds, now):
                self._start_look(organization, known)
            return known
        if known.standing.refusal is not None:
            raise ProblemError(known.standing.refusal.problem)
        problem = await self._look_for_a_caller(organization, known, now)
        known = self.of(self._organizations.find(organization.id) or organization) or known
        if self._clock() < known.until:
            return known
        if known.standing.refusal is not None:
            raise ProblemError(known.standing.refusal.problem)
        raise ProblemError(problem or known.standing.outage or not_proven(organization))

    async def _look_for_a_caller(self, organization: Organization, known: Known, now: float) -> Problem | None:
        key = (organization.id, known.fence)
        if key in self._confirmations:
            return being_confirmed(self._confirm)
        if known.standing.outage is not None and now - known.standing.asked_at < ASKED_AGAIN_AFTER:
            return known.standing.outage
        return await self._looks.join(key, lambda: self._learn_or_look(organization, known))

    def _start_look(self, organization: Organization, known: Known) -> None:
        self._looks.start((organization.id, known.fence), lambda: self._learn_or_look(organization, known))

    async def _learn_or_look(self, organization: Organization, known: Known) -> Problem | None:
        with suppress(ProblemError):  # without the database, this replica's own look decides
            await self._learn_shared(organization)
        now = self._clock()
        if now < known.until and not known.standing.is_overdue(known.bounds, now):
            return None
        return await self._look(organization, known)

    def succeeded(self, organization: Organization, kid: str, sent_at: float) -> None:
        """This replica unwrapped something with a key version."""
        known = self.of(organization)
        if known is not None and known.accepted.kid == kid:
            known.standing = known.standing.proven(sent_at)

    async def doubt(self, organization: Organization) -> Problem:
        """A data key under the accepted key version was refused: have that confirmed, and return what a caller is told now."""
        known = self.of(organization)
        if known is None:
            return not_accepted(organization)
        if known.standing.refusal is not None:
            return known.standing.refusal.problem
        self._start_confirmation(organization, known)
        return being_confirmed(self._confirm)

    async def learn(self, organization: Organization, shared: Proof | None, asked_at: float, answered_at: float) -> None:
        """Take over what another replica found, by its age when it was read between the two times.

        What is from the future counts as nothing: the database's clock went back, or somebody else wrote it.
        """
        known = self.of(organization)
        if shared is None or known is None or min(shared.asked_age, shared.age or 0.0) < 0:
            return
        if (shared.uid, shared.revision) != (known.fence.uid, known.fence.revision):
            if shared.uid != known.fence.uid or shared.revision > known.fence.revision:
                with suppress(UnreadableOrganizationError):  # the watch will say it
                    await self._organizations.read_again(organization)
            return
        if shared.age is not None:
            known.standing = known.standing.proven(proven_at(asked_at, shared.age))
        refuses = shared.verdict in {Word.REFUSED, Word.LOST}
        if shared.refused_age is not None:
            age = shared.asked_age if refuses else shared.refused_age
            self._refuse(organization, known, Refusal(refused_at(answered_at, age), refused_elsewhere(shared)))
        if not refuses and shared.verdict is not Word.PROVEN:
            known.standing = known.standing.asked(proven_at(asked_at, shared.asked_age), unanswered_elsewhere(shared))

    async def look_if_due(self, organization: Organization) -> None:
        """Look at an organization's key for all replicas, unless another one does, or did so in time."""
        known = self.of(organization)
        if known is None or known.accepted.by_platform or not self._is_due(organization, known):
            return
        async with self._slots:
            await self._learn_shared(organization)
        if not self._is_due(organization, known):
            return
        async with self._store.try_lock(f"look/{organization.id}") as held:
            if held is None:
                return
            await self._learn_shared(organization)
            if self._is_due(organization, known):
                await self._look_and_confirm(organization, known)

    async def _look_and_confirm(self, organization: Organization, known: Known) -> None:
        key = (organization.id, known.fence)
        async with self._slots:
            await self._looks.join(key, lambda: self._look(organization, known))
        if key in self._confirmations:
            await self._confirmations.join(key, lambda: self._confirmed(organization, known))

    def _is_due(self, organization: Organization, known: Known) -> bool:
        return self.of(organization) is known and known.standing.is_due(known.bounds, self._clock())

    async def learn_from_all(self, organization_id: str) -> None:
        """Another replica says that it has looked at an organization's key."""
        organization = self._organizations.find(organization_id)
        if organization is not None:
            with suppress(ProblemError):  # the next look that is due reads it
                await self._learn_shared(organization)

    async def _learn_shared(self, organization: Organization) -> None:
        asked = self._clock()
        shared = await self._store.read_proof(organization.id)
        await self.learn(organization, shared, asked, self._clock())

    async def _look(self, organization: Organization, known: Known) -> Problem | None:
        """Unwrap the canary; returns the problem if that does not prove access."""
        began = self._clock()
        answer = await self._ask(organization, known)
        if answer is None:
            await self._note_success(organization, known, began)
            return None
        if answer.refuses:
            if known.standing.refusal is not None:
                await self._note_refusal(organization, known, answer, began)
                return answer.problem
            self._start_confirmation(organization, known)
            return being_confirmed(self._confirm)
        known.standing = known.standing.asked(began, answer.problem)
        word = Word.THROTTLED if answer.problem.kind is Kind.THROTTLED else Word.UNAVAILABLE
        await self._tell(organization, known, word, answer.problem.detail, began)
        return answer.problem

    def _start_confirmation(self, organization: Organization, known: Known) -> None:
        self._confirmations.start((organization.id, known.fence), lambda: self._confirmed(organization, known))

    async def _confirmed(self, organization: Organization, known: Known) -> None:
        """The second try, after the settings were read anew: a replica that was stopped may hold old ones."""
        await asyncio.sleep(self._confirm)
        if not await self._is_current(organization, known):
            return
        began = self._clock()
        answer = await self._ask(organization, known)
        if answer is None:
            await self._note_success(organization, known, began)
        elif answer.refuses:
            await self._note_refusal(organization, known, answer, began)
        else:
            known.standing = known.standing.asked(began, answer.problem)

    async def _is_current(self, organization: Organization, known: Known) -> bool:
        """Whether the settings are still the accepted ones; False, too, if neither the API server nor the database can say so."""
        try:
            found = await self._organizations.read_again(organization)
        except UnreadableOrganizationError:
            with suppress(ProblemError):
                return await self._store.known(organization.id) == known.fence
            return False
        return (
            found is not None
            and self.of(found) is not None
            and Fence(found.uid, found.accepted.revision if found.accepted is not None else 0) == known.fence
        )

    async def _note_success(self, organization: Organization, known: Known, began: float) -> None:
        before = known.standing
        known.standing = before.proven(began)
        await self._tell(organization, known, Word.PROVEN, "", began)
        if before.refusal is not None and known.standing.refusal is None:
            await self._note(organization, regained(known.accepted.kid))

    async def _note_refusal(self, organization: Organization, known: Known, answer: NotDone, began: float) -> None:
        first = known.standing.refusal is None
        self._refuse(organization, known, Refusal(began, answer.problem))
        word = Word.LOST if answer.problem.kind is Kind.LOST else Word.REFUSED
        await self._tell(organization, known, word, answer.problem.detail, began)
        if first:
            await self._note(organization, refused(known.accepted.kid, answer.problem, answer.request_id))

    async def _note(self, organization: Organization, record: Record) -> None:
        try:
            await self._journal.append(organization.id, [record])
        except ProblemError as error:
            _LOG.error("%s of %s is missing in the record: %s", record.event.value, organization.id, error)

    def _refuse(self, organization: Organization, known: Known, refusal: Refusal) -> None:
        before = known.standing
        known.standing = before.refused(refusal)
        if known.standing is not before and self._known.get(organization.id) is known:
            self._evict(organization.id)

    async def _tell(self, organization: Organization, known: Known, word: Word, detail: str, began: float) -> None:
        try:
            await self._store.write_proof(
                organization.id, known.fence, known.accepted.kid, word, detail, age=self._clock() - began
            )
        except ProblemError as error:
            _LOG.warning("the other replicas were not told of a look at %s: %s", organization.id, error)

    async def _ask(self, organization: Organization, known: Known) -> NotDone | None:
        """Unwrap the canary once; None if it is what was wrapped."""
        canary = known.accepted.canary
        if canary is None:
            return NotDone(canary_missing(organization))
        without_token = await self._vaults.sign_in(organization)
        if without_token is not None and without_token.refuses:
            return without_token
        answer = await self._vaults.unwrap(
            organization, known.accepted.kid, known.accepted.algorithm, canary.wrapped, purpose=Purpose.PROBE
        )
        if isinstance(answer, NotDone):
            return answer
        if not hmac.compare_digest(sha256(answer.plaintext).digest(), canary.digest):
            return NotDone(canary_differs(), refuses=True, request_id=answer.request_id)
        return None

    async def run(self, stop: asyncio.Event, every: float = 1.0) -> None:
        """Look at each key when it is due, until `stop` is set; `every` is in seconds. No key waits for another's vault."""
        while not stop.is_set():
            for organization in self._organizations:
                known = self.of(organization)
                if known is not None and not known.accepted.by_platform and self._is_due(organization, known):
                    self._turns.start(organization.id, partial(self._turn, organization))
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await stop.wait()
        for flights in (self._turns, self._looks, self._confirmations):
            await flights.end()

    async def _turn(self, organization: Organization) -> None:
        try:
            await self.look_if_due(organization)
        except ProblemError as error:
            _LOG.warning("the key of organization %s is looked at without the database: %s", organization.id, error)
            known = self.of(organization)
            if known is not None and known.standing.is_overdue(known.bounds, self._clock()):
                await self._look_and_confirm(organization, known)
