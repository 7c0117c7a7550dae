"""The clock by which ages are counted in this process."""

from __future__ import annotations

import time


def seconds() -> float:
    """Seconds that nobody can set back, and that go on while the process, or the machine, is stopped.

    `time.monotonic` of Linux stands still while the machine is suspended, and with it every age. Source: clock_gettime(2).
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
