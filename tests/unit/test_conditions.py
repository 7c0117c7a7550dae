"""Conditions as Kubernetes and kstatus read them."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import Aspect, Progress, Truth, dated, find
from cmk_operator.api.durations import parse_duration
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.core.faults.reason import Reason
from tests.unit.samples import NOW

LATER = NOW + timedelta(hours=1)
TYPES = (ConditionType.READY, ConditionType.KEY_ACCESSIBLE)


def aspects(*truths: Truth) -> tuple[Aspect, ...]:
    return tuple(Aspect(kind, truth, Reason.UNKNOWN, "message") for kind, truth in zip(TYPES, truths, strict=True))


def test_every_type_is_there_from_the_first_visit() -> None:
    conditions = dated(aspects("Unknown", "False"), Progress(), (), 3, NOW)
    assert [condition.type for condition in conditions] == list(TYPES)
    assert {condition.observed_generation for condition in conditions} == {3}
    assert {condition.last_transition_time for condition in conditions} == {NOW}


def test_a_time_moves_with_the_status_and_with_nothing_else() -> None:
    first = dated(aspects("True", "True"), Progress(), (), 1, NOW)
    second = dated(
        (
            Aspect(ConditionType.READY, "True", Reason.NOT_OBSERVED, "other message"),
            Aspect(ConditionType.KEY_ACCESSIBLE, "False", Reason.DISABLED, "gone"),
        ),
        Progress(),
        first,
        2,
        LATER,
    )
    assert [condition.last_transition_time for condition in second] == [NOW, LATER]
    assert [condition.observed_generation for condition in second] == [2, 2]


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (Progress(), set()),
        (Progress(reconciling=True, reason=Reason.CONFLICT, message="wait"), {"Reconciling"}),
        (Progress(stalled=True, reason=Reason.SCOPE_LOCKED, message="act"), {"Stalled"}),
    ],
)
def test_the_kstatus_pair_is_there_only_while_true(progress: Progress, shown: set[str]) -> None:
    before = dated(aspects("True", "True"), Progress(reconciling=True, reason=Reason.CONFLICT, message="wait"), (), 1, NOW)
    conditions = dated(aspects("True", "True"), progress, before, 1, LATER)
    assert {condition.type for condition in conditions} - set(TYPES) == shown
    assert all(condition.status == "True" for condition in conditions if condition.type in shown)


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("cause", [FaultKind.BLOCKED, FaultKind.BUSY])
def test_a_fault_is_stalled_exactly_if_a_person_must_act(reason: Reason, cause: FaultKind) -> None:
    fault = Fault(reason, "message", Actor.AZURE, cause=cause)
    progress = Progress.of(fault)
    assert progress.stalled is (fault.kind in {FaultKind.INVALID, FaultKind.BLOCKED})
    assert fault.kind is (reason.kind if reason.kind not in {None, FaultKind.INHERITED} else cause)
    assert progress.reconciling is not progress.stalled


truths: st.SearchStrategy[Truth] = st.sampled_from(["True", "False", "Unknown"])


@given(st.lists(st.tuples(truths, truths), min_size=1, max_size=8))
def test_each_time_is_the_last_change_of_that_status(life: list[tuple[Truth, Truth]]) -> None:
    conditions, changed = dated(aspects(*life[0]), Progress(), (), 1, NOW), [NOW, NOW]
    for step, (before, now) in enumerate(pairwise(life), start=1):
        moment = NOW + timedelta(minutes=step)
        conditions = dated(aspects(*now), Progress(), conditions, 1, moment)
        changed = [moment if old != new else since for old, new, since in zip(before, now, changed, strict=True)]
        assert [condition.last_transition_time for condition in conditions] == changed


def test_a_condition_is_found_by_its_type() -> None:
    conditions = dated(aspects("True", "False"), Progress(), (), 1, NOW)
    assert find(conditions, ConditionType.KEY_ACCESSIBLE) is conditions[1]
    assert find(conditions, ConditionType.STALLED) is None


@pytest.mark.parametrize(
    ("text", "hours"), [("24h", 24), ("24h30m", 24.5), ("90m", 1.5), ("3600s", 1), ("36h30m30s", 36.5 + 30 / 3600), ("0h", 0)]
)
def test_a_duration_is_read(text: str, hours: float) -> None:
    assert parse_duration(text) == timedelta(hours=hours)


@pytest.mark.parametrize(
    "text", ["", "24", "h", "1d", "30m1h", "-1h", "1.5h", " 1h", "1h\n", "1H", "\N{ARABIC-INDIC DIGIT ONE}h"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 24h or 90m"):
        parse_duration(text)


@given(st.integers(0, 10_000), st.integers(0, 59), st.integers(0, 59))
def test_every_duration_of_hours_minutes_and_seconds_is_read(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == timedelta(hours=hours, minutes=minutes, seconds=seconds)
