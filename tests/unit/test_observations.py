"""From when the age of what status says is counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.kubernetes.observations import Observations
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
