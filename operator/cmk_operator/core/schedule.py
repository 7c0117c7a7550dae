"""When the next pass over an object is due."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff, from `first` to at most `longest` seconds."""

    first: float
    longest: float

    def bound(self, attempt: int) -> float:
        """The longest wait before attempt number `attempt` (from 1)."""
        return min(self.longest, self.first * 2.0 ** min(attempt - 1, 30))

    def within(self, interval: float) -> Backoff:
        """The same, with no wait longer than `interval` seconds."""
        return Backoff(min(self.first, interval), min(self.longest, interval))


FAILED = Backoff(0.1, 60.0)
"""After an unexpected error, such as a failed status write."""
BUSY = Backoff(1.0, 60.0)
"""While Azure is busy, or has not replicated a grant yet."""
BLOCKED = Backoff(2.0, 300.0)
"""While a person must act outside Kubernetes: slowly, without end."""


@dataclass(frozen=True, slots=True)
class Next:
    """The next pass: after `after` seconds, or by `backoff` but not before `after`; with neither, only when enqueued."""

    after: float | None = None
    backoff: Backoff | None = None
