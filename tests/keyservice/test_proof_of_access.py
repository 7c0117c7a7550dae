"""How long data keys are served, by the age of a proof: pure, with times as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_keyservice.keys.standing import (
    NEVER,
    Bounds,
    Refusal,
    Serving,
    Standing,
    lease_seconds,
    proven_at,
    refused_at,
    serving,
)
from cmk_keyservice.problem import Kind, Problem

if TYPE_CHECKING:
    import random

BOUNDS = Bounds(probe_interval=60, outage_grace=600)
DENIED = Problem(Kind.DENIED, "KeyDenied", "refused", "act", retryable=False)
DOWN = Problem(Kind.UNAVAILABLE, "VaultUnreachable", "no answer", "wait", retryable=True)

times = st.floats(0, 100_000, allow_nan=False)
events = st.lists(st.tuples(st.sampled_from(["proven", "refused", "unanswered"]), times), max_size=20)


def after(happened: list[tuple[str, float]]) -> Standing:
    standing = Standing()
    for what, at in happened:
        match what:
            case "proven":
                standing = standing.proven(at)
            case "refused":
                standing = standing.refused(Refusal(at, DENIED))
            case _:
                standing = standing.asked(at, DOWN)
    return standing


@pytest.mark.parametrize(
    ("happened", "now", "expected"),
    [
        ([], 0, Serving.NOT_SERVING),
        ([("proven", 0)], 1, Serving.SERVING),
        ([("proven", 0)], 89, Serving.SERVING),
        ([("proven", 0)], 90, Serving.COASTING),
        ([("proven", 0), ("unanswered", 60)], 61, Serving.COASTING),
        ([("proven", 0), ("unanswered", 590)], 599, Serving.COASTING),
        ([("proven", 0), ("unanswered", 590)], 600, Serving.NOT_SERVING),
        ([("proven", 0), ("refused", 60)], 61, Serving.REFUSED),
        ([("proven", 0), ("refused", 60), ("unanswered", 120)], 121, Serving.REFUSED),
        ([("proven", 0), ("refused", 60), ("proven", 120)], 121, Serving.SERVING),
        ([("refused", 60), ("proven", 50)], 61, Serving.REFUSED),
        ([("proven", 60), ("refused", 50)], 61, Serving.SERVING),
    ],
)
def test_an_outage_coasts_and_a_refusal_does_not(happened: list[tuple[str, float]], now: float, expected: Serving) -> None:
    assert serving(after(happened), BOUNDS, now) is expected


@given(events, times)
def test_nothing_is_served_without_a_success_younger_than_the_ceiling(happened: list[tuple[str, float]], now: float) -> None:
    successes = [at for what, at in happened if what == "proven"]
    until = after(happened).serves_until(BOUNDS)
    assert until <= max(successes, default=NEVER) + BOUNDS.ceiling
    if until > now:
        refusals = [at for what, at in happened if what == "refused"]
        assert max(refusals, default=NEVER) < max(successes)


@given(events, st.randoms())
def test_the_order_in_which_words_arrive_does_not_matter(happened: list[tuple[str, float]], order: random.Random) -> None:
    said = [(what, at) for what, at in happened if what != "unanswered"]
    shuffled = list(said)
    order.shuffle(shuffled)
    assert after(said).serves_until(BOUNDS) == after(shuffled).serves_until(BOUNDS)


def test_a_look_is_due_each_interval_and_sooner_after_one_without_an_answer() -> None:
    proven = Standing().proven(0)
    assert [proven.is_due(BOUNDS, now) for now in (59, 60)] == [False, True]
    down = proven.asked(60, DOWN)
    assert [down.is_due(BOUNDS, now) for now in (69, 70)] == [False, True]
    refused = proven.refused(Refusal(60, DENIED))
    assert [refused.is_due(BOUNDS, now) for now in (119, 120)] == [False, True]


def test_a_replica_looks_for_itself_only_when_nobody_looked_for_all() -> None:
    assert [Standing().proven(0).is_overdue(BOUNDS, now) for now in (60, 89, 90)] == [False, False, True]


@pytest.mark.parametrize(
    ("now", "until", "wanted", "seconds"),
    [
        (0, 600, None, 60),
        (0, 600, 5, 5),
        (0, 600, 3600, 60),
        (590, 600, None, 10),
        (600, 600, None, 0),
        (700, 600, None, 0),
        (0, NEVER, None, 0),
    ],
)
def test_a_lease_ends_with_the_proof_that_it_rests_on(now: float, until: float, wanted: float | None, seconds: float) -> None:
    assert lease_seconds(BOUNDS, now, until, wanted) == seconds


@given(times, st.floats(0, 60), st.floats(-5, 10_000))
def test_an_age_from_elsewhere_never_lengthens_what_may_be_served(asked: float, took: float, age: float) -> None:
    answered = asked + took
    formed = asked + took / 2
    # Whatever the other clock shows, the age was counted between question and answer.
    assert proven_at(asked, age) <= formed - age or age < 0
    assert refused_at(answered, age) >= formed - max(0.0, age)


def test_a_short_grace_does_not_refuse_between_two_looks_that_both_succeed() -> None:
    short = Bounds(probe_interval=60, outage_grace=0)
    assert Standing().proven(0).serves_until(short) > 60 + short.confirm
    assert BOUNDS.ceiling == 600
