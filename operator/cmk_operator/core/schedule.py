"""When an object wants its next pass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waiting, from `first` to at most `longest` seconds."""

    first: float
    longest: float

    def bound(self, attempt: int) -> float:
        """The longest wait before attempt number `attempt` (from 1)."""
        return min(self.longest, self.first * 2.0 ** min(attempt - 1, 30))


FAILED = Backoff(0.1, 60.0)
"""After an unexpected error, such as a status write that did not land."""
BUSY = Backoff(1.0, 60.0)
"""While Azure is busy or a grant is on its way through its replicas."""
BLOCKED = Backoff(2.0, 300.0)
"""While a person must act outside Kubernetes: slowly, for ever."""


@dataclass(frozen=True, slots=True)
class Next:
    """In `after` seconds, or by `backoff` (which counts attempts, and never comes before `after`), or only when woken."""

    after: float | None = None
    backoff: Backoff | None = None
