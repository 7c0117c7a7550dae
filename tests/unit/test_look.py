"""What each look at a key asks for: one call, never the same twice in a row, and everything often enough."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cmk_operator.core.access.probe_plan import Look, Proof, is_well, listed, next_look, pages_worth_reading, well_versions
from tests.unit.samples import NOW, UNREACHABLE, V1, V2, attributes, disabled, healthy, probe, refused

INTERVAL = 45.0
STEPS = (Look.READ, Look.WRAP, Look.UNWRAP)


def looks(count: int, *, by_list: bool) -> list[Look]:
    """The looks after a whole probe at moment 0, a little more than an interval apart."""
    proof, taken = Proof(0.0, 0.0, 0.0), []
    for number in range(1, count + 1):
        now = number * INTERVAL * 1.07
        taken.append(next_look(proof, now, INTERVAL, doubted=False, listed=by_list))
        proof = proof.after(taken[-1], now)
    return taken


def test_without_a_list_the_three_steps_of_the_probe_take_turns() -> None:
    assert looks(9, by_list=False) == [*STEPS] * 3


def test_with_a_list_each_second_look_is_one_of_the_three_steps_in_turn() -> None:
    rest = Look.LIST
    assert looks(12, by_list=True) == [rest, Look.READ, rest, Look.WRAP, rest, Look.UNWRAP] * 2


def test_a_key_that_the_list_casts_doubt_on_is_read_at_once() -> None:
    proof = Proof(0.0, 0.0, 0.0)
    for by_list in (False, True):
        assert next_look(proof, 1.0, INTERVAL, doubted=True, listed=by_list) is Look.READ


def test_a_list_that_ends_leaves_the_step_that_was_taken_longest_ago() -> None:
    assert (
        next_look(Proof(read=400.0, wrapped=150.0, unwrapped=300.0), 450.0, INTERVAL, doubted=False, listed=False) is Look.WRAP
    )


@pytest.mark.parametrize(("look", "since"), [(Look.READ, 10.0), (Look.UNWRAP, 10.0), (Look.WRAP, 30.0), (Look.FULL, 90.0)])
def test_the_whole_probe_has_been_passed_since_its_oldest_step(look: Look, since: float) -> None:
    assert Proof(read=30.0, wrapped=10.0, unwrapped=50.0).after(look, 90.0).since == since


def test_only_a_key_that_is_well_and_valid_is_spared_the_whole_probe_whatever_became_of_older_versions() -> None:
    assert is_well(probe(), NOW)
    assert is_well(probe(in_use={V2: disabled(V2)}), NOW)
    assert well_versions(probe(in_use={V2: disabled(V2)}), NOW) == {V1}
    assert well_versions(probe(in_use={V2: healthy(V2)}), NOW) == {V1, V2}
    assert not is_well(probe(disabled()), NOW)
    assert not is_well(probe(refused(UNREACHABLE)), NOW)
    ends = probe(healthy(expires=NOW + timedelta(seconds=40)))
    assert is_well(ends, NOW)
    assert not is_well(ends, NOW + timedelta(seconds=40)), "its expiry was known beforehand and needs no call to be seen"


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
