"""Who must act, as the conditions of an object say it."""

from __future__ import annotations

import pytest

from cmk_operator.api.conditions import Condition, Truth
from cmk_operator.cli.attention import attention, who_must_act
from cmk_operator.core.access.verdict import judge_access
from cmk_operator.core.encryption.decide import PLAN_ONLY
from cmk_operator.core.faults.fault import Actor
from cmk_operator.core.faults.reason import Reason
from tests.unit.samples import NOW, states


def condition(kind: str, status: Truth, message: str, reason: str = "Because") -> Condition:
    return Condition(type=kind, status=status, observed_generation=1, last_transition_time=NOW, reason=reason, message=message)


UP_TO_SOMEBODY = sorted(name for name, found in states().items() if judge_access(found).actor not in {None, Actor.AZURE})


@pytest.mark.parametrize("state", UP_TO_SOMEBODY)
def test_the_person_whom_a_verdict_names_is_found_in_its_sentence(state: str) -> None:
    access = judge_access(states()[state])
    assert access.actor is not None
    assert who_must_act(access.message) == access.actor.value


def test_what_is_ready_needs_nobody() -> None:
    found = attention([condition("Ready", "True", "all is well")])
    assert (found.is_due, found.who) == (False, None)


def test_a_plan_under_mode_observe_is_up_to_the_platform_engineer() -> None:
    found = attention([condition("Ready", "True", PLAN_ONLY, Reason.PLAN_ONLY.value)])
    assert (found.is_due, found.who) == (False, "platform engineer")


def test_what_is_stalled_names_who_must_act() -> None:
    message = "the vault lacks it: the customer's administrator must enable it"
    found = attention([condition("Ready", "False", message), condition("Stalled", "True", message)])
    assert (found.is_due, found.who) == (True, "customer's administrator")


def test_what_goes_on_by_itself_needs_nobody() -> None:
    message = "an outage ends by itself, a deleted vault the customer's administrator must recover"
    found = attention([condition("Ready", "Unknown", message), condition("Reconciling", "True", message)])
    assert (found.is_due, found.who) == (True, None)


def test_an_object_without_conditions_was_not_seen() -> None:
    assert attention([]).reason == "NotSeen"
