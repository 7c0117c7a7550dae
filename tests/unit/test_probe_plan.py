"""What each step at a key asks for: never the same twice in a row, never a wrap alone, and everything often enough."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cmk_operator.core.access.probe_plan import (
    ProbeStep,
    Proof,
    accessible_versions,
    is_accessible,
    listed,
    needs_unwrap,
    next_probe_step,
    pages_worth_reading,
)
from tests.unit.samples import NOW, UNREACHABLE, V1, V2, attributes, disabled, healthy, probe, refused

INTERVAL = 45.0
STEPS = (ProbeStep.READ, ProbeStep.UNWRAP, ProbeStep.ROUND_TRIP)


def steps(count: int, *, by_list: bool) -> list[ProbeStep]:
    """The steps after a whole probe at moment 0, a little more than an interval apart."""
    proof, taken = Proof(0.0, 0.0, 0.0), []
    for number in range(1, count + 1):
        now = number * INTERVAL * 1.07
        taken.append(next_probe_step(proof, now, INTERVAL, doubted=False, listed=by_list))
        proof = _after(proof, taken[-1], now)
    return taken


def _after(proof: Proof, step: ProbeStep, now: float) -> Proof:
    proof = proof.after(step, now)
    read_only = step is ProbeStep.READ and needs_unwrap(proof, now, INTERVAL)
    return proof.after(ProbeStep.UNWRAP, now) if read_only else proof


def test_without_a_list_the_three_steps_of_the_probe_take_turns() -> None:
    assert steps(9, by_list=False) == [*STEPS] * 3


def test_with_a_list_each_second_look_unwraps_and_all_three_calls_come_within_six() -> None:
    rest = ProbeStep.LIST
    assert steps(12, by_list=True) == [rest, STEPS[1], rest, STEPS[0], rest, STEPS[2]] * 2


def test_a_key_that_the_list_casts_doubt_on_is_read_at_once() -> None:
    proof = Proof(0.0, 0.0, 0.0)
    for by_list in (False, True):
        assert next_probe_step(proof, 1.0, INTERVAL, doubted=True, listed=by_list) is ProbeStep.READ


def test_a_list_that_ends_leaves_the_step_that_was_taken_longest_ago() -> None:
    assert (
        next_probe_step(Proof(read=400.0, wrapped=150.0, unwrapped=300.0), 450.0, INTERVAL, doubted=False, listed=False)
        is ProbeStep.ROUND_TRIP
    )


@pytest.mark.parametrize("by_list", [False, True])
def test_no_claim_of_access_rests_on_an_unwrap_older_than_three_intervals(*, by_list: bool) -> None:
    # A vault may wrap with a disabled key that it refuses to unwrap with: Azure/azure-sdk-for-python#45342.
    proof, gap = Proof(0.0, 0.0, 0.0), 1.15 * INTERVAL
    assert all("wrapKey" not in step.split(", ") or "unwrapKey" in step for step in ProbeStep)
    for number in range(1, 40):
        now = number * gap
        step = next_probe_step(proof, now, INTERVAL, doubted=number % 11 == 0, listed=by_list)
        proof = _after(proof, step, now)
        assert now - proof.unwrapped + gap < 3 * INTERVAL, f"{step}, and until the next look"


@pytest.mark.parametrize(
    ("step", "since"), [(ProbeStep.READ, 10.0), (ProbeStep.UNWRAP, 10.0), (ProbeStep.ROUND_TRIP, 30.0), (ProbeStep.FULL, 90.0)]
)
def test_the_whole_probe_has_been_passed_since_its_oldest_step(step: ProbeStep, since: float) -> None:
    assert Proof(read=30.0, wrapped=10.0, unwrapped=50.0).after(step, 90.0).since == since


def test_only_a_key_that_is_well_and_valid_is_spared_the_whole_probe_whatever_became_of_older_versions() -> None:
    assert is_accessible(probe(), NOW)
    assert is_accessible(probe(in_use={V2: disabled(V2)}), NOW)
    assert accessible_versions(probe(in_use={V2: disabled(V2)}), NOW) == {V1}
    assert accessible_versions(probe(in_use={V2: healthy(V2)}), NOW) == {V1, V2}
    assert not is_accessible(probe(disabled()), NOW)
    assert not is_accessible(probe(refused(UNREACHABLE)), NOW)
    ends = probe(healthy(expires=NOW + timedelta(seconds=40)))
    assert is_accessible(ends, NOW)
    assert not is_accessible(ends, NOW + timedelta(seconds=40)), "its expiry was known beforehand and needs no call to be seen"


def test_the_list_is_compared_with_what_was_read_to_the_second() -> None:
    seen = attributes(updated=NOW, expires=NOW + timedelta(days=1))
    assert listed(seen) == listed(seen)
    for change in (
        {"enabled": False},
        {"updated": NOW + timedelta(seconds=1)},
        {"expires": None},
        {"not_before": NOW},
        {"created": NOW},
    ):
        assert listed(attributes(**({"updated": NOW, "expires": NOW + timedelta(days=1)} | change))) != listed(seen), change


def test_a_list_is_read_only_while_it_is_cheaper_than_a_look_at_each_key() -> None:
    assert [pages_worth_reading(keys) for keys in (0, 1, 2, 3, 4, 5, 1000)] == [0, 0, 0, 1, 1, 2, 499]
