"""The time at which each object was last observed to be as its status says.

It is kept only in memory, because writing it to each status in each interval would cost more than all other writes together.
After a restart it counts from the time when the process became the leader, for a new object from when it appeared; if earlier
processes ended before they had observed every object, from when the first of them began to lead (`whole_round`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cmk_operator.core.old_claims import Basis, Observation, limit_of
from cmk_operator.kubernetes.whole_round import WholeRound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.kubernetes.inventory import Inventory


class Observations:
    """The last observation of each object. `limits`: seconds after which a claim is old, by the kind's plural.

    `monotonic` is the clock for ages, in seconds.
    """

    def __init__(
        self,
        inventory: Inventory,
        limits: Mapping[str, float],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        whole_round: WholeRound | None = None,
    ) -> None:
        self._inventory = inventory
        self._limits = limits
        self._clock = clock
        self._monotonic = monotonic
        self.whole_round = whole_round or WholeRound()
        self._carried: datetime | None = None
        """Since when earlier processes have ended no whole round; None once this one has."""
        self._seen: dict[ObjectReference, tuple[float, datetime]] = {}
        self._known: dict[ObjectReference, tuple[float, datetime]] = {}
        """Since when this process has known an object, for those that it has not observed yet."""

    def __len__(self) -> int:
        """The number of objects held in memory."""
        return len(self._seen)

    def now(self) -> datetime:
        """The current time, to the second, which is the precision of times in Kubernetes."""
        return self._clock().replace(microsecond=0)

    def lead(self) -> None:
        """The process is the leader now: objects without an observation count from now, later ones from when they appear."""
        self._known.clear()
        self._carried = self.whole_round.begin(self._clock())

    def saw(self, reference: ObjectReference, at: datetime) -> None:
        """Record that the object's status says what was observed at that time."""
        age = max(0.0, (self._clock() - at).total_seconds())
        self._seen[reference] = (self._monotonic() - age, at)

    def keep(self, there: set[ObjectReference]) -> None:
        """Drop all objects that are not in `there`."""
        self._seen = {reference: seen for reference, seen in self._seen.items() if reference in there}
        unseen = there - self._seen.keys()
        self._known = {reference: since for reference, since in self._known.items() if reference in unseen}

    def is_old(self, reference: ObjectReference) -> bool:
        """Whether claims of the object itself are old; as `of(reference).is_old`, but cheap enough for every object every time."""
        began, _ = self._seen.get(reference) or self._first_known(reference)
        return self._monotonic() - began >= self._limit(reference)

    def _limit(self, reference: ObjectReference) -> float:
        """Seconds after which claims of an object are old: by its own interval if it has one, otherwise by its kind's."""
        interval = self._inventory.probe_interval_of(reference)
        return limit_of(interval) if interval else self._limits[reference.plural]

    def _first_known(self, reference: ObjectReference) -> tuple[float, datetime]:
        known = self._known.get(reference)
        if known is None:
            now = self._clock()
            began = min(self._carried, now) if self._carried is not None else now
            known = self._known[reference] = (self._monotonic() - (now - began).total_seconds(), began)
        return known

    def note_round(self, there: set[ObjectReference]) -> None:
        """End the round if each object was observed by this process, or its claims are old and so withdrawn."""
        if not self.whole_round.ended and all(reference in self._seen or self.is_old(reference) for reference in there):
            self.whole_round.end()
            self._carried = None

    def of(self, reference: ObjectReference) -> Observation:
        """The last observation of one object."""
        seen = self._seen.get(reference)
        began, at = seen or self._first_known(reference)
        return Observation(at, self._monotonic() - began, self._limit(reference), seen=seen is not None)

    def basis(self, reference: ObjectReference, observed_at: datetime | None = None) -> Basis:
        """The observations for the object's claims; with `observed_at`, of a reconcile that observed it at that time."""
        own = self.of(reference)
        if observed_at is not None:
            age = max(0.0, (self._clock() - observed_at).total_seconds())
            own = Observation(observed_at, age, self._limit(reference))
        key = self._inventory.key_of(reference)
        if key is None:
            return Basis(own)
        # A key that is gone is observed by nobody, so what a resource says of it is as old as the resource's own observation.
        return Basis(own, self.of(key) if self._inventory.version(key) else own)
