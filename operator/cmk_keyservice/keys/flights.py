"""Single flight: callers that want the same thing at the same time share one attempt and its result."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

KeyT = TypeVar("KeyT", bound="Hashable")
ResultT = TypeVar("ResultT")
_LOG: Final = logging.getLogger(__name__)


class Flights(Generic[KeyT, ResultT]):
    """Attempts under way. A caller that goes away does not end the attempt: others wait for it, and its result is kept."""

    def __init__(self) -> None:
        self._under_way: dict[KeyT, asyncio.Task[ResultT]] = {}

    def __len__(self) -> int:
        """The number of attempts under way."""
        return len(self._under_way)

    def __contains__(self, key: KeyT) -> bool:
        """Whether an attempt is under way for a key."""
        return key in self._under_way

    def start(self, key: KeyT, begin: Callable[[], Coroutine[None, None, ResultT]]) -> asyncio.Task[ResultT]:
        """The attempt under way for a key, or a new one."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(begin(), name=f"flight {key}")
            task.add_done_callback(lambda ended: self._landed(key, ended))
        return task

    async def join(self, key: KeyT, begin: Callable[[], Coroutine[None, None, ResultT]]) -> ResultT:
        """The result of the attempt under way, or of a new one."""
        return await asyncio.shield(self.start(key, begin))

    async def end(self) -> None:
        """Cancel what is under way and wait for its end."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: KeyT, ended: asyncio.Task[ResultT]) -> None:
        if self._under_way.get(key) is ended:
            del self._under_way[key]
        if not ended.cancelled() and (failure := ended.exception()) is not None:
            # Every caller may have gone away, and one organization's fault must not end the others' service.
            _LOG.error("an attempt for %s failed", key, exc_info=failure)
