"""The collaborators of a pass over an `OrganizationKey`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cmk_operator.core.schedule import BLOCKED, BUSY

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.kubernetes.licences import Licences
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.collaborators.intervals import Intervals
    from cmk_operator.reconcile.collaborators.reporting import Reporting
    from cmk_operator.reconcile.notifications.delivery import Deliveries
    from cmk_operator.reconcile.organization.acceptance import Refused
    from cmk_operator.reconcile.organization.gates import Gates
    from cmk_operator.reconcile.organization.settings import Wanted
    from cmk_operator.reconcile.support.requests import Support

_NEVER: float = float("-inf")


@dataclass(slots=True)
class Visit:
    """What this process remembers of one object; a restart begins anew, with a probe and, if it is due, a test."""

    uid: str
    probed_at: float = _NEVER
    """When the key in force was last probed, by the session's clock."""
    probed_kid: str = ""
    signed_in_at: float = _NEVER
    probe_time: datetime | None = None
    probe: Refused | None = None
    """Why the last probe failed; None if it did not."""
    tried: Wanted | None = None
    """The settings that failed their test."""
    refused: Refused | None = None
    failures: int = 0
    try_again_at: float = _NEVER
    check_again_at: float = _NEVER

    def failed(self, wanted: Wanted, refused: Refused, now: float) -> None:
        """Note a failed test, which is repeated more and more slowly, without end."""
        self.failures = self.failures + 1 if wanted == self.tried else 1
        self.tried, self.refused = wanted, refused
        backoff = BUSY if refused.passes_by_itself else BLOCKED
        self.try_again_at = now + max(backoff.bound(self.failures), refused.retry_after or 0.0)

    def passed(self) -> None:
        """Forget failed tests."""
        self.tried, self.refused, self.failures, self.try_again_at = None, None, 0, _NEVER


@dataclass(slots=True)
class Visits:
    """What this process remembers of all objects."""

    _of: dict[ObjectReference, Visit] = field(default_factory=dict)

    def of(self, reference: ObjectReference, uid: str) -> Visit:
        """What is remembered of an object; nothing of an earlier one of its name."""
        held = self._of.get(reference)
        if held is None or held.uid != uid:
            held = self._of[reference] = Visit(uid)
        return held

    def forget(self, reference: ObjectReference) -> None:
        """Drop an object that no longer exists."""
        self._of.pop(reference, None)


@dataclass(frozen=True, slots=True)
class OrganizationContext:
    """What the pass reads from and writes to. `monotonic` is the session's clock, in seconds."""

    cluster: Cluster
    reporting: Reporting
    gates: Gates
    intervals: Intervals
    deliveries: Deliveries
    monotonic: Callable[[], float]
    licences: Licences
    support: Support
    visits: Visits = field(default_factory=Visits)
