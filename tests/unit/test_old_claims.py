"""No status claims what was not seen within three of its intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.old_claims import (
    INTERVALS,
    SHORTEST_LIMIT,
    Basis,
    Observation,
    is_withdrawn,
    limit_of,
    without_old_claims,
)
from cmk_operator.core.text.rfc3339 import to_rfc3339

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
EARLIER = to_rfc3339(NOW - timedelta(hours=5))
LIMIT = 130.0
NO_CLAIM = {
    ConditionType.RECONCILING,
    ConditionType.STALLED,
    ConditionType.NOTIFICATIONS_DELIVERED,
    ConditionType.SCOPES_DISTINCT,
    ConditionType.COMPLETE,
    # Of the cluster alone, not of Azure: which settings are in force, and what the Licence says.
    ConditionType.CONFIGURATION_ACCEPTED,
    ConditionType.LICENCE_ALLOWS_CHANGE,
    # The console's word, which has an age of its own.
    ConditionType.BREAK_GLASS_READY,
}
TRUTHS = ("True", "False", "Unknown")


def observation(age: float, *, seen: bool = True) -> Observation:
    return Observation(NOW - timedelta(seconds=age), age, LIMIT, seen)


def condition(kind: ConditionType, status: str = "True", reason: str = "Said", message: str = "as it was") -> dict[str, Any]:
    return {
        "type": kind.value,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 3,
        "lastTransitionTime": EARLIER,
    }


def status(*conditions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"observedGeneration": 3, "conditions": list(conditions), **fields}


def found(of: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(one for one in of["conditions"] if one["type"] == kind)


conditions = st.lists(st.sampled_from(list(ConditionType)), unique=True).flatmap(
    lambda kinds: st.tuples(*(st.builds(condition, st.just(kind), st.sampled_from(TRUTHS)) for kind in kinds))
)
ages = st.floats(0, 10 * LIMIT)
observations = st.builds(observation, ages, seen=st.booleans())
bases = st.builds(Basis, observations, st.none() | observations)


@given(conditions, bases)
def test_nothing_old_is_claimed_and_nothing_else_is_touched(said: tuple[dict[str, Any], ...], basis: Basis) -> None:
    before = status(*said)
    after = without_old_claims(before, before, basis, NOW)
    for one in after["conditions"]:
        if one["status"] == "True" and one["type"] not in NO_CLAIM:
            assert not basis.of(one["type"]).is_old
    turned = [one for one in after["conditions"] if one not in said]
    assert {one["reason"] for one in turned} <= {Reason.NOT_SEEN_LATELY}
    assert all(one["status"] == "Unknown" for one in turned if one["type"] != ConditionType.RECONCILING)
    for old in said:
        if old["status"] != "True":
            assert found(after, old["type"]) == old, "what is not claimed stays, with its reason"
    if not basis.has_old:
        assert after == before


@given(conditions, bases, ages)
def test_it_says_the_same_for_as_long_as_nothing_is_seen(said: tuple[dict[str, Any], ...], basis: Basis, later: float) -> None:
    before = status(*said)
    once = without_old_claims(before, before, basis, NOW)

    def aged(one: Observation) -> Observation:
        return Observation(one.at, one.age + later, one.limit, one.seen)

    older = Basis(aged(basis.own), aged(basis.key) if basis.key is not None else None)
    if older.own.is_old is basis.own.is_old and (older.key is None or older.key.is_old is basis.key.is_old):  # type: ignore[union-attr]  # both have a key
        assert without_old_claims(once, once, older, NOW + timedelta(seconds=later)) == once
        assert without_old_claims(before, once, older, NOW + timedelta(seconds=later)) == once, "a pass that saw nothing"


@given(conditions, ages)
def test_a_restart_alone_does_not_bring_a_claim_back(said: tuple[dict[str, Any], ...], age: float) -> None:
    before = status(*said)
    withdrawn = without_old_claims(before, before, Basis(observation(2 * LIMIT)), NOW)
    restarted = Basis(observation(age, seen=False))
    later = NOW + timedelta(seconds=age)
    for claims in (before, withdrawn):
        after = without_old_claims(claims, withdrawn, restarted, later)
        assert [one for one in after["conditions"] if is_withdrawn([one])] == [
            one for one in withdrawn["conditions"] if is_withdrawn([one])
        ]


@given(conditions, bases)
def test_a_pass_that_saw_the_object_restores_every_claim(said: tuple[dict[str, Any], ...], basis: Basis) -> None:
    claims = status(*said)
    withdrawn = without_old_claims(claims, claims, basis, NOW)
    fresh = Basis(observation(0), observation(0))
    assert without_old_claims(claims, withdrawn, fresh, NOW) == claims


def test_a_key_says_when_it_was_last_seen_and_nothing_of_its_versions() -> None:
    before = status(
        condition(ConditionType.READY),
        condition(ConditionType.KEY_ACCESSIBLE),
        access={"state": "Accessible", "since": EARLIER},
        versions=[{"version": "a" * 32, "access": "Accessible"}, {"version": "b" * 32, "access": "Disabled"}],
    )
    after = without_old_claims(before, before, Basis(observation(LIMIT)), NOW)
    ready, accessible = found(after, ConditionType.READY), found(after, ConditionType.KEY_ACCESSIBLE)
    assert ready["status"] == accessible["status"] == "Unknown"
    assert ready["reason"] == accessible["reason"] == "NotSeenLately"
    assert accessible["message"] == "not seen since 2026-11-30T11:57:50Z, for more than three check intervals"
    assert ready["message"] == accessible["message"]
    assert accessible["lastTransitionTime"] == to_rfc3339(NOW)
    assert accessible["observedGeneration"] == 3
    assert found(after, ConditionType.RECONCILING)["reason"] == "NotSeenLately"
    assert after["access"] == {"state": "Unknown", "since": to_rfc3339(NOW)}
    assert [one["access"] for one in after["versions"]] == ["Unknown", "Disabled"]


def test_a_resource_whose_key_alone_is_old_stays_encrypted_and_is_not_ready() -> None:
    kinds = (ConditionType.READY, ConditionType.ENCRYPTED, ConditionType.KEY_ACCESSIBLE, ConditionType.KEY_CURRENT)
    before = status(*(condition(kind) for kind in kinds))
    after = without_old_claims(before, before, Basis(observation(0), observation(LIMIT)), NOW)
    assert {one["type"]: one["status"] for one in after["conditions"]} == {
        "Ready": "Unknown",
        "Encrypted": "True",
        "KeyAccessible": "Unknown",
        "KeyCurrent": "True",
        "Reconciling": "True",
    }


def test_whoever_must_act_already_stays_named() -> None:
    before = status(condition(ConditionType.READY, "False", "Disabled"), condition(ConditionType.ENCRYPTED))
    before["conditions"].append(condition(ConditionType.STALLED, "True", "Disabled"))
    after = without_old_claims(before, before, Basis(observation(LIMIT)), NOW)
    assert found(after, ConditionType.READY)["reason"] == "Disabled"
    assert found(after, ConditionType.ENCRYPTED)["status"] == "Unknown"
    assert "Reconciling" not in {one["type"] for one in after["conditions"]}


def test_what_this_process_never_saw_counts_from_when_it_began_to_lead() -> None:
    before = status(condition(ConditionType.ENCRYPTED))
    after = without_old_claims(before, before, Basis(observation(LIMIT, seen=False)), NOW)
    message = "not seen since the operator began to watch it at 2026-11-30T11:57:50Z, for more than three check intervals"
    assert found(after, ConditionType.ENCRYPTED)["message"] == message


@pytest.mark.parametrize("interval", [45.0, 300.0, 3600.0])
def test_a_claim_is_withdrawn_before_three_intervals_and_not_before_a_late_pass(interval: float) -> None:
    assert 2.5 * interval < limit_of(interval) < INTERVALS * interval
    # A list that was 0.85 intervals old, and a pass that came 1.1 intervals later.
    assert 1.1 * interval < limit_of(interval, 0.85) < (INTERVALS - 0.85) * interval


def test_with_very_short_intervals_one_slow_answer_is_not_too_late() -> None:
    assert limit_of(1.0) == SHORTEST_LIMIT


@given(st.text())
def test_other_managers_conditions_and_odd_bodies_are_no_claims(text: str) -> None:
    assert not is_withdrawn(None)
    assert not is_withdrawn(text)
    foreign = {**condition(ConditionType.READY), "type": "example.org/Theirs"}
    before = status(foreign)
    assert without_old_claims(before, before, Basis(observation(LIMIT)), NOW) == before
