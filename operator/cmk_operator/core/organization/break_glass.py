"""Whether an organization has a way in that needs neither its key nor an identity provider; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

REPORT_INTERVAL: Final = timedelta(minutes=10)
"""The console writes its report anew after this time, also when nothing has changed."""
REPORT_MAX_AGE: Final = 3 * REPORT_INTERVAL
CLOCKS_DIFFER_BY: Final = timedelta(minutes=5)
USED_WITHIN: Final = timedelta(days=180)
"""An account that nobody has signed in with for longer is not known to work."""


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """What the console reports of one account."""

    usable: bool
    last_used_at: datetime | None


class Readiness(Enum):
    """What the accounts of an organization are worth."""

    NOT_REPORTED = auto()
    NO_ACCOUNT = auto()
    UNUSABLE = auto()
    NOT_TRIED = auto()
    READY = auto()


def readiness(accounts: tuple[KnownAccount, ...], observed_at: datetime | None, now: datetime) -> Readiness:
    """Judge a report: one account that can be used and was used within `USED_WITHIN` is enough."""
    if observed_at is None or not -CLOCKS_DIFFER_BY <= now - observed_at <= REPORT_MAX_AGE:
        return Readiness.NOT_REPORTED
    if not accounts:
        return Readiness.NO_ACCOUNT
    usable = [one for one in accounts if one.usable]
    if not usable:
        return Readiness.UNUSABLE
    used = [one.last_used_at for one in usable if one.last_used_at is not None]
    return Readiness.READY if any(now - at <= USED_WITHIN for at in used) else Readiness.NOT_TRIED
