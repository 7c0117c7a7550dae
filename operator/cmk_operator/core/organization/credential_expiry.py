"""When to warn that a credential expires."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

WARNINGS: Final = (60, 30, 7, 1)
"""Days before the end at which people are warned."""
EXPIRED: Final = 0
"""The warning that the end has come."""
_DAY: Final = timedelta(days=1)


def days_left(expires: datetime, now: datetime) -> int:
    """Whole days until the end; 0 on the last day and afterwards."""
    return max(0, (expires - now) // _DAY)


def warning(expires: datetime, now: datetime) -> int | None:
    """The warning that is due: `EXPIRED`, or the smallest of `WARNINGS` days within which the end comes; None before all of them."""
    if expires <= now:
        return EXPIRED
    return min((days for days in WARNINGS if expires - now <= days * _DAY), default=None)
