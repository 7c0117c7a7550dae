"""`metav1.Condition` and the kstatus pair: always all of a kind's types, and a new time only on a new status."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ConfigDict, Field

from cmk_operator.api.model import Shape
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.missing_reference import MISSING_REFERENCES, seconds_left
from cmk_operator.core.faults.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cmk_operator.core.faults.fault import Fault

Truth = Literal["True", "False", "Unknown"]
_LONGEST_MESSAGE: Final = 32768


class Condition(Shape):
    """One aspect of an object, in the shape of `metav1.Condition`: text, because another release may have written it.

    Only `dated` makes one, from the words of `ConditionType` and `Reason`.
    Source: Kubernetes API conventions, "Typical status properties".
    """

    model_config = ConfigDict(json_schema_extra={"description": "One aspect of the object, in the shape of metav1.Condition."})

    type: str = Field(max_length=316)
    status: Truth
    observed_generation: int = Field(ge=0)
    last_transition_time: datetime
    reason: str = Field(min_length=1, max_length=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    message: str = Field(max_length=_LONGEST_MESSAGE)

    @property
    def known_reason(self) -> Reason:
        """The reason as this release knows it."""
        return Reason.read(self.reason)


@dataclass(frozen=True, slots=True)
class Aspect:
    """A condition before it is dated: what is so, why in one word, and a deterministic sentence."""

    type: ConditionType
    status: Truth
    reason: Reason
    message: str


def truth(*, value: bool) -> Truth:
    """Kubernetes' spelling of a boolean."""
    return "True" if value else "False"


@dataclass(frozen=True, slots=True)
class Progress:
    """Whether the operator is still working (`Reconciling`) or a person must act (`Stalled`); neither when all is done."""

    reconciling: bool = False
    stalled: bool = False
    reason: Reason = Reason.READY
    message: str = ""

    @staticmethod
    def of(fault: Fault) -> Progress:
        """Present a fault as kstatus sees it: stalled when waiting alone will never end it."""
        return Progress(not fault.needs_a_person, fault.needs_a_person, fault.reason, fault.message)


def dated(
    aspects: Iterable[Aspect], progress: Progress, previous: Sequence[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Date conditions, keeping the old time where the status is the same.

    `Reconciling` and `Stalled` are present only while true, as kstatus expects of abnormal-true conditions.
    Source: kubernetes-sigs/cli-utils, pkg/kstatus/README.md.
    """
    wanted = list(aspects)
    if progress.reconciling:
        wanted.append(Aspect(ConditionType.RECONCILING, "True", progress.reason, progress.message))
    if progress.stalled:
        wanted.append(Aspect(ConditionType.STALLED, "True", progress.reason, progress.message))
    before = {condition.type: condition for condition in previous}

    def date(aspect: Aspect) -> Condition:
        old = before.get(aspect.type)
        if old is not None and aspect.type is ConditionType.RECONCILING and aspect.reason in MISSING_REFERENCES:
            # Each wait for a missing object is a new one: its time says for how long that object has been missing.
            old = old if old.reason == aspect.reason else None
        since = old.last_transition_time if old is not None and old.status == aspect.status else now
        return Condition(
            type=aspect.type.value,
            status=aspect.status,
            observed_generation=generation,
            last_transition_time=since,
            reason=aspect.reason.value,
            message=aspect.message[:_LONGEST_MESSAGE],
        )

    return tuple(date(aspect) for aspect in wanted)


def awaited(fault: Fault, conditions: Sequence[Condition], now: datetime, grace: float) -> Fault:
    """The fault, awaited while the object that it misses may still be on its way: until `grace` seconds after that was first seen.

    `conditions` are those of the object before this pass.
    """
    left = grace_left(fault.reason, conditions, now, grace)
    return replace(fault, awaited=True, retry_after=left) if left > 0 else fault


def grace_left(reason: Reason, conditions: Sequence[Condition], now: datetime, grace: float) -> float:
    """Seconds until a missing reference needs a person; 0 for any other reason."""
    waiting, stalled = find(conditions, ConditionType.RECONCILING), find(conditions, ConditionType.STALLED)
    return seconds_left(
        reason,
        waiting.known_reason if waiting is not None else None,
        waiting.last_transition_time if waiting is not None else now,
        stalled.known_reason if stalled is not None else None,
        now,
        grace,
    )


def is_awaited(conditions: Iterable[Condition], reason: str) -> bool:
    """Whether status says that a missing reference may still be on its way."""
    waiting = find(conditions, ConditionType.RECONCILING)
    return waiting is not None and waiting.reason == reason and waiting.known_reason in MISSING_REFERENCES


def find(conditions: Iterable[Condition], condition_type: ConditionType) -> Condition | None:
    """The condition of that type, if present."""
    return next((condition for condition in conditions if condition.type == condition_type), None)
