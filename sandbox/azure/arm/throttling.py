"""Azure's limits: token buckets that refill with wall time, and windows that count requests.

https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field

from sandbox.azure.timings import LIFTED


@dataclass
class Bucket:
    """A token bucket: `size` at most, refilled by `refill` a second."""

    size: float
    refill: float
    level: float = field(init=False)
    at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.level = self.size

    def take(self) -> float:
        """Take one token: 0 if there was one, else the seconds until there is."""
        now = time.monotonic()
        self.level = min(self.size, self.level + (now - self.at) * self.refill)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.refill if self.refill else 60.0


@dataclass
class Window:
    """At most `limit` units in `seconds`."""

    seconds: float
    taken: deque[tuple[float, float]] = field(default_factory=deque)
    total: float = 0.0

    def take(self, limit: float, units: float = 1.0) -> float:
        """Take `units`: 0 if they fit, else the seconds until they may. Nothing is counted against a limit that is lifted."""
        if limit >= LIFTED:
            return 0.0
        now = time.monotonic()
        while self.taken and self.taken[0][0] <= now - self.seconds:
            self.total -= self.taken.popleft()[1]
        if self.total + units > limit:
            return self.taken[0][0] + self.seconds - now if self.taken else self.seconds
        self.taken.append((now, units))
        self.total += units
        return 0.0


def retry_after(seconds: float) -> str:
    """Whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))
