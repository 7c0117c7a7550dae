"""When each object was last seen as its status says.

In memory only: to write a time to each status in each interval would cost more than all other writes together. So a restart
counts from the moment at which the process began to lead.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cmk_operator.core.old_claims import Basis, Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.kubernetes.inventory import Inventory


class Observations:
    """`limits` has, by a kind's plural, the seconds after which a claim is old; `monotonic` is the clock for ages."""

    def __init__(
        self,
        inventory: Inventory,
        limits: Mapping[str, float],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inventory = inventory
        self._limits = limits
        self._clock = clock
        self._monotonic = monotonic
        self._since = (monotonic(), clock())
        self._seen: dict[ObjectReference, tuple[float, datetime]] = {}

    def __len__(self) -> int:
        """How many objects are held in memory."""
        return len(self._seen)

    def now(self) -> datetime:
        """The present, to the second: what Kubernetes' times hold."""
        return self._clock().replace(microsecond=0)

    def lead(self) -> None:
        """Count from now for what has not been seen yet."""
        self._since = (self._monotonic(), self._clock())

    def saw(self, reference: ObjectReference, at: datetime) -> None:
        """Note that the object's status says what was seen at that time."""
        age = max(0.0, (self._clock() - at).total_seconds())
        self._seen[reference] = (self._monotonic() - age, at)

    def keep(self, there: set[ObjectReference]) -> None:
        """Forget objects that are gone."""
        self._seen = {reference: seen for reference, seen in self._seen.items() if reference in there}

    def of(self, reference: ObjectReference) -> Observation:
        """The last observation of one object."""
        seen = self._seen.get(reference)
        began, at = seen or self._since
        return Observation(at, self._monotonic() - began, self._limits[reference.plural], seen=seen is not None)

    def basis(self, reference: ObjectReference, observed_at: datetime | None = None) -> Basis:
        """What the object's claims rest on; `observed_at`: a pass has just seen the object as it was then."""
        own = self.of(reference)
        if observed_at is not None:
            age = max(0.0, (self._clock() - observed_at).total_seconds())
            own = Observation(observed_at, age, self._limits[reference.plural])
        key = self._inventory.key_of(reference)
        return Basis(own, self.of(key) if key is not None else None)
