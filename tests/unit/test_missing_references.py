"""What another manifest may still bring is waited for, and needs a person only when it stays away."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import Aspect, Condition, Progress, awaited, dated, find, is_awaited
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Actor, blocked
from cmk_operator.core.faults.missing_reference import MISSING_REFERENCES
from cmk_operator.core.faults.reason import FaultKind, Reason
from cmk_operator.core.schedule import Next
from cmk_operator.reconcile.organization.changes import _is_new_refusal
from cmk_operator.reconcile.resource.outcome import Refused
from cmk_operator.reconcile.resource.reconciler import _next
from tests.unit.samples import NOW

GRACE = 30.0


def seen(reason: Reason, at: float, before: tuple[Condition, ...] = ()) -> tuple[Condition, ...]:
    """The conditions of a pass over an object, `at` seconds after the beginning, that is refused for `reason`."""
    now = NOW + timedelta(seconds=at)
    fault = awaited(blocked(reason, "somebody must create it", Actor.PLATFORM_ENGINEER), before, now, GRACE)
    ready = Aspect(ConditionType.READY, "False", fault.reason, fault.message)
    return dated((ready,), Progress.of(fault), before, 1, now)


def says(conditions: tuple[Condition, ...]) -> str:
    return next(one.type for one in conditions if one.type != "Ready")


@pytest.mark.parametrize("reason", sorted(MISSING_REFERENCES))
def test_what_is_missing_is_waited_for_and_then_needs_a_person(reason: Reason) -> None:
    first = seen(reason, 0)
    later = seen(reason, GRACE - 1, first)
    late = seen(reason, GRACE, later)
    assert [says(one) for one in (first, later, late, seen(reason, GRACE + 1, late))] == [
        "Reconciling",
        "Reconciling",
        "Stalled",
        "Stalled",
    ]
    assert is_awaited(first, reason)
    assert not is_awaited(late, reason)


@pytest.mark.parametrize(
    "reason", sorted(one for one in Reason if one.kind is FaultKind.BLOCKED and one not in MISSING_REFERENCES)
)
def test_what_no_new_object_can_mend_needs_a_person_at_once(reason: Reason) -> None:
    assert says(seen(reason, 0)) == "Stalled"


def test_the_next_object_that_is_missing_has_its_own_time() -> None:
    no_key = seen(Reason.KEY_NOT_FOUND, 0)
    no_tenant = seen(Reason.TENANT_NOT_FOUND, GRACE - 1, no_key)
    assert says(seen(Reason.TENANT_NOT_FOUND, 2 * GRACE - 2, no_tenant)) == "Reconciling"
    assert says(seen(Reason.TENANT_NOT_FOUND, 2 * GRACE - 1, no_tenant)) == "Stalled"


def test_an_object_that_waited_for_something_else_waits_anew_for_one_that_goes_missing() -> None:
    busy = (Aspect(ConditionType.READY, "False", Reason.OPERATION_IN_PROGRESS, "wait"),)
    working = dated(busy, Progress(reconciling=True, reason=Reason.OPERATION_IN_PROGRESS, message="wait"), (), 1, NOW)
    missing = seen(Reason.KEY_NOT_FOUND, 10 * GRACE, working)
    waiting = find(missing, ConditionType.RECONCILING)
    assert waiting is not None
    assert waiting.last_transition_time == NOW + timedelta(seconds=10 * GRACE)


passes = st.lists(st.tuples(st.sampled_from(sorted(MISSING_REFERENCES)), st.integers(0, 40)), min_size=1, max_size=12)


@given(passes)
def test_a_person_is_called_exactly_if_the_same_object_has_been_missing_for_the_grace(life: list[tuple[Reason, int]]) -> None:
    conditions: tuple[Condition, ...] = ()
    clock, since, last = 0, 0, None
    for reason, step in life:
        clock += step
        since = since if reason is last else clock
        last = reason
        conditions = seen(reason, clock, conditions)
        assert (says(conditions) == "Stalled") is (clock - since >= GRACE)


def test_without_grace_a_person_is_called_at_once() -> None:
    fault = blocked(Reason.KEY_NOT_FOUND, "", Actor.PLATFORM_ENGINEER)
    assert awaited(fault, (), NOW, 0.0) is fault


def test_the_next_pass_comes_when_the_grace_is_over() -> None:
    fault = awaited(blocked(Reason.KEY_NOT_FOUND, "", Actor.PLATFORM_ENGINEER), seen(Reason.KEY_NOT_FOUND, 0), NOW, GRACE)
    assert _next(Refused(fault), 300.0) == Next(after=GRACE)


def test_nobody_is_told_of_settings_whose_reference_is_still_on_its_way_and_then_once() -> None:
    def said(reason: Reason, at: float, before: tuple[Condition, ...] = ()) -> tuple[Condition, ...]:
        ready, progress = seen(reason, at, before)
        accepted = ready.model_copy(update={"type": ConditionType.CONFIGURATION_ACCEPTED.value})
        return (ready, accepted, progress)

    told = []
    before: tuple[Condition, ...] = ()
    for at in (0, 10, 30, 40):
        after = said(Reason.TENANT_NOT_FOUND, at, before)
        told.append(_is_new_refusal(after[1], before, after))
        before = after
    assert told == [False, False, True, False]
