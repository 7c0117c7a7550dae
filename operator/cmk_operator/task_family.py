"""All tasks that one call has started, directly or through other tasks, so that they can be ended together.

A task inherits the context variables of the task that starts it. That marks the members, whatever their names.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

_TURN: Final = 0.05
"""Seconds to wait for a cancelled task before the next one is cancelled."""
_FAMILY: Final[contextvars.ContextVar[TaskFamily | None]] = contextvars.ContextVar("task family", default=None)


class TaskFamily:
    """The tasks that `start` has started, directly or through others, and that still run; oldest first."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], None] = {}

    async def start(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await `begin` and return its result. Every task that it starts is a member, and every task that a member starts."""
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is not _make_task:
            loop.set_task_factory(_make_task)
        context = contextvars.copy_context()
        context.run(_FAMILY.set, self)
        return await loop.create_task(begin(), context=context)

    async def end(self, patience: float) -> list[str]:
        """Cancel the members until all have ended; returns the names of those that still run after `patience` seconds.

        It cancels them one by one: a stream of kopf swallows a cancellation that arrives together with the end of the task
        for which it waits, and keeps running.
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
        """Make a new task a member until it ends."""
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()


class _TaskOptions(TypedDict, total=False):
    """The keyword arguments that asyncio passes to a task factory."""

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
