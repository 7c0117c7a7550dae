"""Turns at something of which there are few at once, such as connections: fair between owners, and none ever has all of them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from cmk_operator.fair_lane import FairLane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_OWNER: Final[ContextVar[str]] = ContextVar("owner of calls", default="")


@contextmanager
def calls_of(owner: str) -> Iterator[None]:
    """Send the calls within as those of `owner`, for instance a namespace: owners take turns at budgets and connections."""
    token = _OWNER.set(owner)
    try:
        yield
    finally:
        _OWNER.reset(token)


def owner_of_calls() -> str:
    """Whose calls are sent now; empty outside of `calls_of`."""
    return _OWNER.get()


class Turns:
    """At most `at_once` holders. One owner holds three quarters of them at most, so that one is free for whoever comes next.

    Among owners that wait, the one with the fewest turns is next; each owner's own come in the order in which they asked.
    """

    def __init__(self, at_once: int) -> None:
        self._lane: FairLane[asyncio.Future[None]] = FairLane(at_once)
        self._free = at_once

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it as long as the block runs."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lane.put(mine, owner, regular=False)
        self._give()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._end(owner)
            raise
        try:
            yield
        finally:
            self._end(owner)

    def _end(self, owner: str) -> None:
        self._free += 1
        self._lane.done(owner)
        self._give()

    def _give(self) -> None:
        while self._free and (taken := self._lane.take()) is not None:
            turn, owner = taken
            if turn.done():
                self._lane.done(owner)  # whoever asked waits no longer
                continue
            self._free -= 1
            turn.set_result(None)
