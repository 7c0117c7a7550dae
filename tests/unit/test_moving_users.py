"""Users of a key are counted in few writes while they move, and at once where a count could be wrong on the unsafe side."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.customer_managed_key import CustomerManagedKeyStatus
from cmk_operator.core.rotation.moving_users import LONGEST, QUIET, MovingUsers, seen
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.reconcile.collaborators.cluster import WAKE_KEY_AFTER
from cmk_operator.reconcile.key.report import KeyFacts, Usage, key_status
from cmk_operator.reconcile.key.user_counts import AT_ONCE, NEVER, UserCounts
from tests.unit.samples import LATER, LISTED, NOW, V1, V2, customer_managed_key, guard, healthy, probe

KEY: Final = ObjectReference("customermanagedkeys", "team-a", "storage")
NAMES: Final = tuple(f"data-{number:02}" for number in range(20))


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def status(
    before: CustomerManagedKeyStatus | None = None,
    *,
    names: tuple[str, ...] = NAMES,
    active: str = V1,
    users: dict[str, tuple[str, ...]] | None = None,
) -> CustomerManagedKeyStatus:
    """The status of a healthy key with these users."""
    key = customer_managed_key()
    key = key.model_copy(update={"status": before}) if before is not None else key
    in_use = {version: healthy(version) for version in users or {} if version != active}
    found = probe(healthy(active), in_use=in_use)
    return key_status(key, KeyFacts(guard(found), Usage(names, users or {}), azure=LISTED), NOW if before is None else LATER)


def test_the_first_status_of_a_key_is_written_at_once() -> None:
    assert UserCounts(Clock()).hold(KEY, CustomerManagedKeyStatus(), status()) == AT_ONCE


def test_a_status_that_says_the_same_needs_no_write() -> None:
    first = status()
    assert UserCounts(Clock()).hold(KEY, first, status(first)) == NEVER


def test_twenty_users_that_come_one_a_second_are_counted_once() -> None:
    clock = Clock()
    counts, first, writes = UserCounts(clock), status(), 0
    shown = first
    for number in range(1, 60):
        clock.now += 1.0
        now = status(shown, users={V1: NAMES[: min(number, 20)]})
        if counts.hold(KEY, shown, now) == AT_ONCE:
            shown, writes = now, writes + 1
            counts.written(KEY)
    assert (writes, shown.versions[0].in_use_by_count) == (1, 20)


def test_users_that_never_go_quiet_are_counted_less_and_less_often() -> None:
    moving, now, written = None, 0.0, []
    for number in range(300):
        now += 1.0
        moving = seen(moving, number, now, complete=True)
        if moving.wait(now) == 0:
            written.append(now)
            moving = moving.counted()
    gaps = [later - earlier for earlier, later in itertools.pairwise(written)]
    assert written[0] == pytest.approx(LONGEST.first, abs=2)
    assert all(gap <= LONGEST.longest + 2 for gap in gaps)
    assert len(written) <= 6


@given(
    st.lists(st.tuples(st.floats(0.1, 40.0), st.integers(0, 3), st.booleans()), min_size=1, max_size=30),
)
def test_no_user_waits_longer_than_the_longest_wait(steps: list[tuple[float, int, bool]]) -> None:
    moving: MovingUsers | None = None
    now = 0.0
    for passed, users, complete in steps:
        now += passed
        moving = seen(moving, users, now, complete=complete)
        wait = moving.wait(now)
        assert 0.0 <= wait <= LONGEST.longest
        if complete and moving.counts == 0:
            assert wait <= QUIET.first
        if wait == 0.0:
            moving = moving.counted()
            assert moving.wait(now) == float("inf")


def test_a_user_of_an_old_version_that_nothing_used_is_told_at_once() -> None:
    """Else the version would be called safe to disable for as long as the count is held back."""
    clock = Clock()
    counts, old = UserCounts(clock), status(users={V1: ("data-00",)})
    rotated = status(old, active=V2, users={V2: ("data-00",)})
    [superseded] = [one for one in rotated.versions if one.version == V1]
    assert superseded.safe_to_disable_after is not None
    back = status(rotated, active=V2, users={V1: ("data-01",), V2: ("data-00",)})
    [used] = [one for one in back.versions if one.version == V1]
    assert used.safe_to_disable_after is None
    assert counts.hold(KEY, rotated, back) == AT_ONCE


def test_the_last_user_that_leaves_an_old_version_is_told_at_once() -> None:
    old = status(users={V1: ("data-00",)})
    moving = status(old, active=V2, users={V1: ("data-00",)})
    left = status(moving, active=V2, users={V2: ("data-00",)})
    assert UserCounts(Clock()).hold(KEY, moving, left) == AT_ONCE


def test_one_of_several_that_leaves_an_old_version_can_wait() -> None:
    moving = status(status(users={V1: NAMES}), active=V2, users={V1: NAMES})
    left = status(moving, active=V2, users={V1: NAMES[1:], V2: NAMES[:1]})
    assert AT_ONCE < UserCounts(Clock()).hold(KEY, moving, left) < NEVER


def test_any_other_change_takes_the_counts_with_it() -> None:
    first = status()
    lost = status(first, active=V2, users={V1: NAMES})
    assert UserCounts(Clock()).hold(KEY, first, lost) == AT_ONCE


def test_a_pass_over_the_key_comes_after_each_user_that_moves() -> None:
    clock = Clock()
    counts, first = UserCounts(clock), status()
    assert counts.due(KEY) == WAKE_KEY_AFTER
    held = counts.hold(KEY, first, status(first, users={V1: NAMES[:1]}))
    assert counts.due(KEY) > held, "later than the pass that is due anyway"
    counts.written(KEY)
    assert counts.due(KEY) == WAKE_KEY_AFTER


def test_a_key_that_is_gone_leaves_nothing_behind() -> None:
    counts, first = UserCounts(Clock()), status()
    counts.hold(KEY, first, status(first, users={V1: NAMES[:1]}))
    assert len(counts) == 1
    counts.forget(KEY)
    assert len(counts) == 0


def test_users_that_nobody_observes_for_long_are_counted_at_the_next_observation() -> None:
    first = seen(None, "a", 0.0, complete=True)
    late = seen(first, "a", LONGEST.longest * 5, complete=True)
    assert late.wait(LONGEST.longest * 5) == 0.0
