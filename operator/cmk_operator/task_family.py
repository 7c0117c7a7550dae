"""Every task that a call has started, directly or through others, so that they can be ended together.

Tasks inherit the context of the task that starts them; that is how a member is known, by whatever name it goes.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

_TURN: Final = 0.05
"""Seconds that one task has to end before the next is cancelled."""
_FAMILY: Final[contextvars.ContextVar[TaskFamily | None]] = contextvars.ContextVar("task family", default=None)


class TaskFamily:
    """The tasks that `start` has led to and that run still, the oldest first."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], None] = {}

    async def start(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `begin`; every task that it starts is a member, and so is every task that a member starts."""
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is not _make_task:
            loop.set_task_factory(_make_task)
        context = contextvars.copy_context()
        context.run(_FAMILY.set, self)
        return await loop.create_task(begin(), context=context)

    async def end(self, patience: float) -> list[str]:
        """Cancel the members again and again until all have ended; the names of those that have not after `patience` seconds.

        One by one: a stream of kopf swallows a cancellation that reaches it together with that of the task it waits for, and
        would go on.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while self._tasks:
            for task in list(self._tasks):
                if loop.time() > deadline:
                    return sorted(task.get_name() for task in self._tasks)
                if task.cancel():
                    await asyncio.wait({task}, timeout=_TURN)
        return []

    def add(self, task: asyncio.Task[Any]) -> None:
        """Take in a new task until it ends."""
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()


class _TaskOptions(TypedDict, total=False):
    """What asyncio hands to a task factory beside the coroutine."""

    name: str | None
    context: contextvars.Context | None


def _make_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Any,  # noqa: ANN401 - as asyncio has it
    **options: Unpack[_TaskOptions],
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    family = context.get(_FAMILY) if context is not None else _FAMILY.get()
    if family is not None:
        family.add(task)
    return task
