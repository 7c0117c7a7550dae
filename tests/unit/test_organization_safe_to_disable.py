"""A key version is called safe to disable only by a recent and whole count, and only after every backup that needs it is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.organization.safe_to_disable import (
    CLOCKS_DIFFER_BY,
    COUNT_MAX_AGE,
    CountOfDataKeys,
    DataKeyUse,
    latest_need,
    safe_to_disable,
    trusted_count,
    unused_since,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
RETENTION = timedelta(days=35)
LONG_AGO = NOW - timedelta(days=36)
SECOND = timedelta(seconds=1)
OLD, NEW = "https://kv1.vault.azure.net/keys/k/1", "https://kv1.vault.azure.net/keys/k/2"


IN_FORCE = DataKeyUse(in_force=True, data_keys=0, unused_since=LONG_AGO)


def left(data_keys: int | None, since: datetime | None) -> DataKeyUse:
    """A version that another one has replaced."""
    return DataKeyUse(in_force=False, data_keys=data_keys, unused_since=since)


@pytest.mark.parametrize(
    ("use", "retention", "safe", "until", "words"),
    [
        (IN_FORCE, RETENTION, "False", None, "it is in force"),
        (left(None, LONG_AGO), RETENTION, "Unknown", None, "has not reported lately"),
        (left(1, None), RETENTION, "False", None, "1 data key is still on it"),
        (left(2, LONG_AGO), RETENTION, "False", None, "2 data keys are still on it"),
        (left(0, LONG_AGO), None, "Unknown", None, "must say how long backups are kept"),
        (left(0, None), RETENTION, "False", None, "backups may still need it"),
        (left(0, NOW), RETENTION, "False", NOW + RETENTION, "backups may still need it"),
        (left(0, NOW - RETENTION + SECOND), RETENTION, "False", NOW + SECOND, "backups may still need it"),
        (left(0, NOW - RETENTION), RETENTION, "True", NOW, "no backup that needs it is kept"),
        (left(0, LONG_AGO), RETENTION, "True", LONG_AGO + RETENTION, "no backup that needs it is kept"),
        (left(0, NOW), timedelta(0), "True", NOW, "no backup that needs it is kept"),
        (left(0, NOW + SECOND), timedelta(0), "False", NOW + SECOND, "backups may still need it"),
        (left(0, LONG_AGO), timedelta(days=99_999_999), "False", None, "kept without end"),
    ],
)
def test_each_use_of_a_version_has_its_verdict_and_its_time(
    use: DataKeyUse, retention: timedelta | None, safe: str, until: datetime | None, words: str
) -> None:
    need = safe_to_disable(use, retention, NOW)
    assert (need.safe, need.after, need.required_until) == (safe, until, until)
    assert words in need.reason


def count(*by_kid: tuple[str, int], total: int = 3, revision: int = 4, age: timedelta = SECOND) -> CountOfDataKeys:
    return CountOfDataKeys(by_kid, total, revision, NOW - age)


@pytest.mark.parametrize(
    ("found", "trusted"),
    [
        (None, None),
        (CountOfDataKeys(((NEW, 3),), 3, 4, None), None),
        (count((NEW, 3)), {NEW: 3}),
        (count((NEW, 2), (OLD, 1)), {NEW: 2, OLD: 1}),
        (count((NEW, 3), (OLD, 2)), {NEW: 3, OLD: 2}),
        (count((NEW, 1), (NEW, 2)), {NEW: 3}),
        (count(total=0), {}),
        (count((NEW, 2)), None),
        (count((NEW, -1), (OLD, 4)), None),
        (count((NEW, 3), total=-1), None),
        (count((NEW, 3), revision=3), None),
        (count((NEW, 3), revision=5), None),
        (count((NEW, 3), age=COUNT_MAX_AGE), {NEW: 3}),
        (count((NEW, 3), age=COUNT_MAX_AGE + SECOND), None),
        (count((NEW, 3), age=-CLOCKS_DIFFER_BY), {NEW: 3}),
        (count((NEW, 3), age=-CLOCKS_DIFFER_BY - SECOND), None),
    ],
)
def test_a_conclusion_rests_on_a_count_that_is_recent_whole_and_of_the_settings_in_force(
    found: CountOfDataKeys | None, trusted: dict[str, int] | None
) -> None:
    assert trusted_count(found, 4, NOW) == trusted


def test_data_keys_that_appear_again_begin_the_time_anew_and_a_count_that_fails_does_not() -> None:
    since: datetime | None = None
    seen = []
    for minute, data_keys in enumerate([2, 0, None, 0, 1, None, 0]):
        now = NOW + timedelta(minutes=minute)
        since = unused_since(data_keys, since, now)
        seen.append(since and (since - NOW) // timedelta(minutes=1))
    assert seen == [None, 1, 1, 1, None, None, 6]


def test_the_last_need_of_several_counts() -> None:
    needs = [safe_to_disable(left(0, NOW - timedelta(days=days)), RETENTION, NOW) for days in (30, 2, 50)]
    assert latest_need(needs) == NOW + timedelta(days=33)
    assert latest_need([safe_to_disable(IN_FORCE, RETENTION, NOW)]) is None


uses = st.builds(
    DataKeyUse,
    in_force=st.booleans(),
    data_keys=st.none() | st.integers(0, 3),
    unused_since=st.none() | st.timedeltas(-timedelta(days=400), timedelta(days=400)).map(lambda age: NOW - age),
)
retentions = st.none() | st.timedeltas(timedelta(0), timedelta.max)


@given(uses, retentions)
def test_safe_means_no_data_key_and_no_backup_and_that_both_are_known(use: DataKeyUse, retention: timedelta | None) -> None:
    need = safe_to_disable(use, retention, NOW)
    if need.safe == "True":
        assert not use.in_force
        assert use.data_keys == 0
        assert retention is not None
        assert use.unused_since is not None
        assert NOW - use.unused_since >= retention
    assert need.reason
    assert need.required_until is None or (need.safe == "True") is (need.required_until <= NOW)
