"""The event that an object is observed again, after one that it was not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.conditions import find
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import EventReason, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmk_operator.api.conditions import Condition
    from cmk_operator.kubernetes.inventory import CustomResource
    from cmk_operator.reconcile.collaborators.reporting import Reporting


def was_seen_again(before: Sequence[Condition], after: Sequence[Condition]) -> bool:
    """Whether an object that was not seen lately is Ready again; other changes have events of their own."""
    old, new = find(before, ConditionType.READY), find(after, ConditionType.READY)
    return old is not None and old.reason == Reason.NOT_SEEN_LATELY and new is not None and new.status == "True"


async def tell_seen_again(reporting: Reporting, resource: CustomResource) -> None:
    """Record the event."""
    note = "seen again, and as its status says"
    await reporting.events.record(resource, "Normal", EventReason.SEEN_AGAIN, note, "Reconcile")
