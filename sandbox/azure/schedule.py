"""What Azure does by itself at a given time: the ends of operations, checks of keys, rotations.

Everything that is due is done before the next request is served, in the order of its time. As nothing changes but by requests, the
outcome is the same as if it had been done in time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.azure.clock import Clock

    Work = Callable[[float], Awaitable[None]]


class Schedule:
    """Work by the moment of virtual time at which it is due; the work is told that moment."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[float, int, Work]] = []
        self._numbers = itertools.count()
        self._running = asyncio.Lock()

    def at(self, moment: float, work: Work) -> None:
        """Do it then; work that fails is a bug of the sandbox and fails the request that comes next."""
        heapq.heappush(self._due, (moment, next(self._numbers), work))

    async def settle(self) -> None:
        """Do everything that is due by now."""
        if not self._due or self._due[0][0] > self._clock.now():
            return
        async with self._running:
            while self._due and self._due[0][0] <= self._clock.now():
                moment, _, work = heapq.heappop(self._due)
                await work(moment)
