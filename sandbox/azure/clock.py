"""Two clocks: the wall clock of the clients, and the virtual clock of Azure's own schedules."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The virtual clock: wall time, advanced by hand and run at a scale.

    Token lifetimes follow `wall()`, because clients judge them by their own clocks. Everything that Azure does on
    its own schedule follows `now()`.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale
        self._wall_at_anchor = self._virtual_at_anchor = time.time()

    @property
    def scale(self) -> float:
        """Virtual seconds that pass in one second of wall time."""
        return self._scale

    @staticmethod
    def wall() -> float:
        """Seconds since the epoch, as the machine says."""
        return time.time()

    def now(self) -> float:
        """Virtual seconds since the epoch."""
        return self._virtual_at_anchor + (time.time() - self._wall_at_anchor) * self._scale

    def advance(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass at once; time never goes back (ValueError)."""
        if seconds < 0:
            raise ValueError("the clock only goes forward")
        self._virtual_at_anchor += seconds

    def set_scale(self, scale: float) -> None:
        """Run at `scale` from this moment on; it must be positive (ValueError)."""
        if scale <= 0:
            raise ValueError("the scale must be greater than zero")
        self._virtual_at_anchor = self.now()
        self._wall_at_anchor = time.time()
        self._scale = scale


def utc(seconds: float) -> datetime:
    """The moment as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def seven_digits(seconds: float) -> str:
    """RFC 3339 with the seven fractional digits that .NET services print."""
    return utc(seconds).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"


def with_offset(seconds: float) -> str:
    """RFC 3339 with seven fractional digits and an offset in place of Z, as Microsoft.Compute prints."""
    return utc(seconds).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0+00:00"


def short_fraction(seconds: float) -> str:
    """RFC 3339 with at most three fractional digits and no zero at the end of them, as Microsoft.Sql prints."""
    moment = utc(seconds)
    fraction = f".{moment.microsecond // 1000:03d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def milliseconds(moment: float) -> str:
    """With three digits after the point, as Key Vault's resource provider writes times."""
    return utc(moment).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def whole_seconds(seconds: float) -> str:
    """RFC 3339 without a fraction."""
    return utc(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def http_date(seconds: float) -> str:
    """The format of the HTTP Date and Last-Modified headers (RFC 9110, section 5.6.7)."""
    return utc(seconds).strftime("%a, %d %b %Y %H:%M:%S GMT")
