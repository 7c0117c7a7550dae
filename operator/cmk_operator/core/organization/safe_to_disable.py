"""Whether an organization's key version may be disabled: only by the key service's own count, and by what backups need."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

COUNT_MAX_AGE: Final = timedelta(minutes=3)
"""How old a count may be; the key service reports once a minute."""
CLOCKS_DIFFER_BY: Final = timedelta(minutes=5)
"""How far a count may come from the future: the database's clock, which dates it, may be ahead."""


@dataclass(frozen=True, slots=True)
class CountOfDataKeys:
    """What the key service has counted, by key version; `revision` is that of the settings by which it counted."""

    by_kid: tuple[tuple[str, int], ...]
    total: int
    revision: int
    observed_at: datetime | None


def is_recent(observed_at: datetime | None, now: datetime) -> bool:
    """Whether the key service reported at most three of its intervals ago, and not in the future."""
    return observed_at is not None and -CLOCKS_DIFFER_BY <= now - observed_at <= COUNT_MAX_AGE


def trusted_count(found: CountOfDataKeys | None, revision: int, now: datetime) -> Mapping[str, int] | None:
    """The data keys by version, if a conclusion may rest on the count; None if not.

    It must be recent, whole, and made under the settings in force (`revision`): a count from before them sees no data key that
    was wrapped meanwhile. A version that it does not name has none.
    """
    if found is None or found.revision != revision or not is_recent(found.observed_at, now):
        return None
    counted: dict[str, int] = {}
    for kid, data_keys in found.by_kid:
        if data_keys < 0:
            return None
        counted[kid] = counted.get(kid, 0) + data_keys
    # A data key counts twice while it keeps what a former version has wrapped, so the sum may be greater.
    return counted if sum(counted.values()) >= found.total >= 0 else None


@dataclass(frozen=True, slots=True)
class DataKeyUse:
    """How a key version is used."""

    in_force: bool
    data_keys: int | None
    """Data keys that are wrapped with it; None if that is not known now."""
    unused_since: datetime | None
    """Since when it has been known that there are none."""


@dataclass(frozen=True, slots=True)
class Need:
    """Whether a version is still needed, until when, and a sentence that says why."""

    safe: Literal["True", "False", "Unknown"]
    reason: str
    after: datetime | None = None
    """From this time on nothing needs it."""
    required_until: datetime | None = None
    """Until this time backups may need it."""


def safe_to_disable(use: DataKeyUse, backup_retention: timedelta | None, now: datetime) -> Need:
    """Whether nothing needs the version any more. No date is given while the count is not known."""
    if use.in_force:
        return Need("False", "it is in force")
    if use.data_keys is None:
        return Need("Unknown", "whether data keys are still on it is not known: the key service has not reported lately")
    if use.data_keys:
        keys = "1 data key is" if use.data_keys == 1 else f"{use.data_keys} data keys are"
        return Need("False", f"{keys} still on it, and the key service wraps them with the key in force")
    if backup_retention is None:
        return Need(
            "Unknown",
            "no data key is on it; how long backups need it is not known: the platform engineer must say how long backups are kept "
            "(spec.backupRetention)",
        )
    if use.unused_since is None:
        return Need("False", "no data key is on it since just now, and backups may still need it")
    until = _later(use.unused_since, backup_retention)
    if until is None:
        return Need("False", "no data key is on it, but backups that need it are kept without end")
    if now < until or now < use.unused_since:
        return Need("False", "no data key is on it, but backups may still need it", until, until)
    return Need("True", "no data key is on it, and no backup that needs it is kept", until, until)


def unused_since(data_keys: int | None, before: datetime | None, now: datetime) -> datetime | None:
    """Since when no data key is known to be on a version; `before` is what the last pass found.

    A count that is not known ends nothing, because only data keys that appear again do.
    """
    if data_keys is None:
        return before
    return None if data_keys else before or now


def latest_need(needs: Iterable[Need]) -> datetime | None:
    """Until when the last of several is needed; None if none says so."""
    return max((need.required_until for need in needs if need.required_until is not None), default=None)


def _later(since: datetime, retention: timedelta) -> datetime | None:
    try:
        return since + retention
    except OverflowError:
        return None
