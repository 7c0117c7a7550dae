"""Pure: how long data keys may be served, by the age of the last proof that the organization's key admits us.

No message takes a data key out of service, because a message can get lost: what is not proven again in time is no longer
served. All times are seconds of this process's own clock; ages from elsewhere are turned into such times when they arrive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cmk_keyservice.problem import Problem

NEVER: Final = -math.inf
OVERDUE: Final = 1.5
"""Intervals after which a replica looks for itself, because whoever should have looked for all has not."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one organization, in seconds."""

    probe_interval: float
    outage_grace: float
    confirm: float = 10.0
    """Between a refusal and the second try that confirms it."""
    lease: float = 60.0
    """The longest lease of a data key that a caller holds itself."""

    @property
    def ceiling(self) -> float:
        """The age of a proof from which nothing rests on it.

        Without this floor, a short grace would refuse between two looks that both succeed.
        """
        return max(self.outage_grace, self.probe_interval * OVERDUE + self.confirm)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal that a second try confirmed."""

    at: float
    problem: Problem


@dataclass(frozen=True, slots=True)
class Standing:
    """What one replica knows of the access by one key version.

    `proven_at` is when the call that succeeded was sent, not when its answer came.
    """

    proven_at: float = NEVER
    refusal: Refusal | None = None
    outage: Problem | None = None
    """Why the last look gave no answer; None if it gave one."""
    asked_at: float = NEVER
    """When somebody last looked, whatever came of it."""

    def proven(self, at: float) -> Standing:
        """After a success. One that is older than a refusal does not lift it."""
        if at <= self.proven_at:
            return self
        lifted = self.refusal is None or at > self.refusal.at
        answered = at >= self.asked_at
        return Standing(
            at, None if lifted else self.refusal, None if answered else self.outage, at if answered else self.asked_at
        )

    def refused(self, refusal: Refusal) -> Standing:
        """After a confirmed refusal; one that is older than the last success changes nothing."""
        if refusal.at < self.proven_at or (self.refusal is not None and refusal.at <= self.refusal.at):
            return self
        return Standing(self.proven_at, refusal, None, max(refusal.at, self.asked_at))

    def asked(self, at: float, outage: Problem | None = None) -> Standing:
        """Somebody looked; with `outage`, without an answer, which proves nothing in either direction."""
        return replace(self, asked_at=at, outage=outage) if at >= self.asked_at else self

    def serves_until(self, bounds: Bounds) -> float:
        """Until when data keys may be used; `NEVER` if they may not."""
        return NEVER if self.refusal is not None else self.proven_at + bounds.ceiling

    def is_due(self, bounds: Bounds, now: float) -> bool:
        """Whether whoever looks for all replicas should look again: each interval, and sooner after a look without an answer."""
        wait = bounds.probe_interval if self.outage is None else min(bounds.confirm, bounds.probe_interval)
        return now - max(self.proven_at, self.asked_at) >= wait

    def is_overdue(self, bounds: Bounds, now: float) -> bool:
        """Whether this replica should look for itself, because nobody has looked for all."""
        return now - max(self.proven_at, self.asked_at) >= bounds.probe_interval * OVERDUE


class Serving(StrEnum):
    """The key service's word on an organization, as `status.dataKeys.serving.state`."""

    SERVING = "Serving"
    REFUSED = "Refused"
    COASTING = "Coasting"
    """Nobody can be asked; data keys that are known go on until the ceiling."""
    NOT_SERVING = "NotServing"


def serving(standing: Standing, bounds: Bounds, now: float) -> Serving:
    """The state that a standing shows."""
    if standing.refusal is not None:
        return Serving.REFUSED
    if now >= standing.serves_until(bounds):
        return Serving.NOT_SERVING
    return Serving.COASTING if standing.outage is not None or standing.is_overdue(bounds, now) else Serving.SERVING


def lease_seconds(bounds: Bounds, now: float, until: float, wanted: float | None = None) -> float:
    """Seconds for which a caller may hold a data key itself: at most the lease, and never beyond `until`. 0: no lease."""
    longest = bounds.lease if wanted is None else min(wanted, bounds.lease)
    return max(0.0, min(longest, until - now))


def proven_at(asked_at: float, age: float) -> float:
    """When something was proven, by its age in an answer: at the latest when the answer could have been formed first."""
    return asked_at - max(0.0, age)


def refused_at(answered_at: float, age: float) -> float:
    """When something was refused, by its age in an answer: at the earliest when the answer could have been formed last."""
    return answered_at - max(0.0, age)
