"""Whether somebody must act on an object, and who, according to its conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import find
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Actor
from cmk_operator.core.faults.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmk_operator.api.conditions import Condition

NOBODY: Final = "nobody: the operator retries"
_MUST: Final = re.compile("|".join(re.escape(actor.value) for actor in Actor if actor is not Actor.AZURE))


@dataclass(frozen=True, slots=True)
class Attention:
    """The state of an object: `ready` in Kubernetes' spelling, reason and message, and who must act (None: nobody)."""

    ready: str
    reason: str
    message: str
    who: str | None

    @property
    def is_due(self) -> bool:
        """Whether the object needs attention."""
        return self.ready != "True"


def attention(conditions: Sequence[Condition]) -> Attention:
    """Summarise the conditions. Without any, the operator has not seen the object yet."""
    ready, stalled = find(conditions, ConditionType.READY), find(conditions, ConditionType.STALLED)
    if ready is None:
        return Attention("Unknown", Reason.NOT_SEEN.value, "the operator has not seen it yet: is it running?", None)
    if ready.status == "True":
        # Under mode Observe the plan is all that was asked for; that it becomes true is up to whoever wrote the manifest.
        who = Actor.PLATFORM_ENGINEER.value if ready.reason == Reason.PLAN_ONLY else None
        return Attention(ready.status, ready.reason, ready.message, who)
    message = (stalled or ready).message
    who = who_must_act(message) if stalled is not None else None
    return Attention(ready.status, ready.reason, message, who if who is not None or stalled is None else "see the message")


def who_must_act(message: str) -> str | None:
    """The first person that a message names; messages use the words of `Actor`."""
    found = _MUST.search(message)
    return found[0] if found is not None else None
