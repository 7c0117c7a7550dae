"""An event loop whose clock leaps to the next timer instead of waiting for it, so that tests of hours take no time."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class _LeapingSelector(selectors.SelectSelector):
    """Polls, and where it would have waited lets the loop's clock run ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout:
            self.now += timeout
        return ready


class LeapingEventLoop(asyncio.SelectorEventLoop):
    """Like any other loop, apart from its clock."""

    def __init__(self) -> None:
        self.leaping = _LeapingSelector()
        super().__init__(self.leaping)

    def time(self) -> float:
        return self.leaping.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own that leaps."""
    with asyncio.Runner(loop_factory=LeapingEventLoop) as runner:
        return runner.run(main)
