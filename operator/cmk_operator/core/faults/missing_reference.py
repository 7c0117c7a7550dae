"""References to objects that are not there: for a while, whoever applies many manifests is still applying them.

`kubectl apply`, Argo CD and Flux create objects in whatever order they find them, and tools that wait give up at `Stalled`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.core.faults.reason import Reason

if TYPE_CHECKING:
    from datetime import datetime

MISSING_REFERENCES: Final = frozenset(
    {Reason.KEY_NOT_FOUND, Reason.TENANT_NOT_FOUND, Reason.IDENTITY_NOT_FOUND, Reason.SECRET_NOT_FOUND}
)
"""Reasons that end when an object of that name is created."""


def seconds_left(
    reason: Reason, waiting_for: Reason | None, since: datetime, gave_up_on: Reason | None, now: datetime, grace: float
) -> float:
    """Seconds for which a missing reference still counts as one that is on its way; 0 if a person must act.

    `waiting_for`, `since`: what status says that the object waits for, and how long; `gave_up_on`: what it says a person must mend.
    """
    if reason not in MISSING_REFERENCES or gave_up_on is reason:
        return 0.0
    waited = (now - since).total_seconds() if waiting_for is reason else 0.0
    return max(0.0, grace - waited)
