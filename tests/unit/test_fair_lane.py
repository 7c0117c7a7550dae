"""No owner delays another by more than one pass, whatever it enqueues and however long its passes take."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.fair_lane import FairLane


def lane_with(**items: int) -> FairLane[str]:
    lane: FairLane[str] = FairLane(4)
    for owner, count in items.items():
        for number in range(count):
            lane.put(f"{owner}-{number}", owner, regular=False)
    return lane


def taken(lane: FairLane[str]) -> list[str]:
    found = []
    while (one := lane.take()) is not None:
        found.append(one[0])
    return found


def test_owners_take_turns_and_the_items_of_one_keep_their_order() -> None:
    lane = lane_with(flood=1000, victim=2)
    order = []
    for _ in range(6):
        item, owner = lane.take() or ("", "")
        order.append(item)
        lane.done(owner)
    assert order == ["flood-0", "victim-0", "flood-1", "victim-1", "flood-2", "flood-3"]


def test_one_owner_never_has_all_workers_so_that_a_later_one_need_not_wait_for_its_passes() -> None:
    lane = lane_with(flood=1000)
    assert len(taken(lane)) == 3
    lane.put("victim-0", "victim", regular=False)
    assert taken(lane) == ["victim-0"]


def test_an_owner_whose_passes_run_waits_for_one_whose_passes_do_not() -> None:
    lane = lane_with(flood=3)
    assert lane.take() is not None
    lane.put("victim-0", "victim", regular=False)
    assert lane.take() == ("victim-0", "victim")


def test_a_single_worker_serves_everybody() -> None:
    lane: FairLane[str] = FairLane(1)
    lane.put("one", "owner", regular=True)
    assert lane.take() == ("one", "owner")


def test_regular_passes_are_not_delayed_by_a_flood_of_other_passes_of_the_same_owner() -> None:
    lane = lane_with(owner=1000)
    lane.put("regular", "owner", regular=True)
    assert lane.take() == ("regular", "owner")


def test_a_lane_can_say_how_many_workers_each_owner_may_have() -> None:
    lane: FairLane[str] = FairLane(4, most_of={"slow": 1, "quick": 3}.__getitem__)
    for number in range(4):
        for owner in ("slow", "quick"):
            lane.put(f"{owner}-{number}", owner, regular=False)
    assert Counter(item.partition("-")[0] for item in taken(lane)) == {"slow": 1, "quick": 3}


def test_the_items_of_one_owner_take_turns_by_what_limits_them_and_keep_their_order_behind_each_limit() -> None:
    """A subscription whose writes wait for each other does not hold up those to another subscription."""
    lane: FairLane[str] = FairLane(100)
    for limit in ("full", "free"):
        for number in range(3):
            lane.put(f"{limit}-{number}", "owner", regular=False, limit=limit)
    assert taken(lane) == ["full-0", "free-0", "full-1", "free-1", "full-2", "free-2"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from("xyz"), st.integers(0, 5)), max_size=60),
    st.integers(1, 6),
)
def test_nothing_is_lost_or_taken_twice_and_no_owner_exceeds_its_share(
    story: list[tuple[str, bool, str, int]], workers: int
) -> None:
    lane: FairLane[int] = FairLane(workers)
    got: list[int] = []
    running: list[str] = []

    def take(most: int) -> None:
        while len(running) < most and (taken_now := lane.take()) is not None:
            got.append(taken_now[0])
            running.append(taken_now[1])

    for number, (owner, regular, limit, ending) in enumerate(story):
        lane.put(number, owner, regular=regular, limit=limit)
        take(workers)
        assert max(Counter(running).values()) <= max(1, workers - 1)
        for _ in range(min(ending, len(running))):
            lane.done(running.pop(0))
    take(workers)
    while running:
        lane.done(running.pop())
        take(workers)
    assert sorted(got) == list(range(len(story)))
    assert len(lane) == 0
