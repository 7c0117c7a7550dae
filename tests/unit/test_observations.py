"""From when the age of what status says is counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.kubernetes.observations import Observations
from cmk_operator.kubernetes.whole_round import ANNOTATION, WholeRound
from tests.unit import samples

START = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
LIMIT = 30.0
OLD, NEW = (ObjectReference("federatedidentities", "", name) for name in ("old", "new"))


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def moment(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


def observations(clock: Clock, inventory: Inventory | None = None) -> Observations:
    limits = dict.fromkeys((OLD.plural, "encryptedresources", "customermanagedkeys"), LIMIT)
    return Observations(inventory or Inventory(), limits, clock.moment, clock.monotonic)


def test_a_new_object_is_not_old_because_the_operator_has_been_leading_for_long() -> None:
    clock = Clock()
    seen = observations(clock)
    seen.lead()
    assert not seen.of(OLD).is_old
    clock.seconds = LIMIT + 1
    assert seen.of(OLD).is_old
    assert not seen.of(NEW).is_old
    clock.seconds += LIMIT
    assert seen.of(NEW).is_old


def test_a_standby_counts_anew_when_it_begins_to_lead() -> None:
    clock = Clock()
    seen = observations(clock)
    seen.of(OLD)
    clock.seconds = LIMIT + 1
    seen.lead()
    assert not seen.of(OLD).is_old


def test_processes_that_end_before_every_object_was_observed_count_as_one() -> None:
    clock, lease = Clock(), {"name": "cmk-operator", "annotations": {"owner": "another"}}

    def life(seconds: float) -> tuple[Observations, WholeRound]:
        nonlocal lease
        kept = WholeRound()
        kept.read(lease)
        limits = dict.fromkeys((OLD.plural, "encryptedresources", "customermanagedkeys"), LIMIT)
        seen = Observations(Inventory(), limits, clock.moment, clock.monotonic, whole_round=kept)
        lease = kept.write(lease, clock.moment())
        seen.lead()
        seen.note_round({OLD, NEW})
        lease = kept.write(lease, clock.moment())
        kept.read({"annotations": {}})  # a leader keeps its own time
        clock.seconds += seconds
        seen.saw(NEW, clock.moment())
        return seen, kept

    for _ in range(3):
        seen, _ = life(LIMIT / 4)
        assert not seen.is_old(OLD)
    seen, kept = life(LIMIT / 4)
    assert not seen.is_old(NEW)
    assert lease["annotations"] == {"owner": "another", ANNOTATION: "2026-11-30T12:00:00Z"}
    assert seen.is_old(OLD), "four lives, each shorter than the limit"
    assert "since the operator began to watch it at 2026-11-30T12:00:00Z" in seen.of(OLD).message
    seen.note_round({OLD, NEW})
    assert ANNOTATION not in kept.write(lease, clock.moment())["annotations"], "what is old is withdrawn, so the round is whole"
    lease = kept.write(lease, clock.moment())
    seen, _ = life(LIMIT - 1)
    assert not seen.is_old(OLD), "after a whole round a restart counts anew"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-30T12:00:00", 7, None])
def test_what_somebody_else_wrote_to_the_lease_is_no_time(text: object) -> None:
    kept = WholeRound()
    kept.read({"annotations": {ANNOTATION: text}})
    assert kept.begin(START) is None


def test_a_time_of_the_future_is_now() -> None:
    kept = WholeRound()
    kept.read({"annotations": {ANNOTATION: "2099-01-01T00:00:00Z"}})
    assert kept.begin(START) == START


def test_what_is_gone_is_forgotten_and_counts_anew_when_it_comes_back() -> None:
    clock = Clock()
    seen = observations(clock)
    seen.of(OLD)
    clock.seconds = LIMIT + 1
    seen.keep({NEW})
    assert not seen.of(OLD).is_old


def test_what_a_resource_says_of_a_key_that_is_gone_grows_old_with_the_resource() -> None:
    clock, inventory = Clock(), Inventory()
    body = samples.resource_body()
    inventory.put("encryptedresources", body)
    resource = ObjectReference("encryptedresources", body["metadata"]["namespace"], body["metadata"]["name"])
    assert inventory.key_of(resource) is not None
    seen = observations(clock, inventory)
    seen.lead()
    for _ in range(7):
        seen.basis(resource)
        seen.keep({resource})
        clock.seconds += LIMIT / 6
    basis = seen.basis(resource)
    assert basis.own.is_old
    assert basis.key is not None
    assert basis.key.is_old
