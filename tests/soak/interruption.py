"""Runs a reconcile up to its k-th request, and there ends it as SIGKILL would, or lets something else happen first."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

_ENDINGS = 200


class CrashedError(Exception):
    """The operator was killed during a reconcile."""


class Interrupted:
    """Awaits a coroutine; when it waits and `now` says so, once, `meanwhile` happens, or (None) it is ended.

    With `answered`, what the coroutine waits for comes first: the request was delivered, and only its answer is lost.
    """

    def __init__(
        self,
        inner: Coroutine[Any, Any, Any],
        now: Callable[[], bool],
        meanwhile: Callable[[], Awaitable[None]] | None,
        *,
        answered: bool = False,
    ) -> None:
        self._inner = inner
        self._now = now
        self._meanwhile = meanwhile
        self._answered = answered
        self.happened = False

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._inner.__await__()
        error: BaseException | None = None
        while True:
            try:
                waited_for = inner.throw(error) if error is not None else next(inner)
            except StopIteration as end:
                return end.value
            error = None
            if not self.happened and self._now():
                self.happened = True
                if self._answered and asyncio.isfuture(waited_for):
                    yield from _ended(waited_for).__await__()
                if self._meanwhile is None:
                    self._end(inner, waited_for)
                    raise CrashedError
                yield from self._meanwhile().__await__()
            try:
                yield waited_for
            except BaseException as thrown:  # noqa: BLE001 - handed on to the coroutine
                error = thrown

    @staticmethod
    def _end(inner: Generator[Any, Any, Any], waited_for: object) -> None:
        """End the coroutine; whatever its cleanup awaits is ended too."""
        with suppress(asyncio.CancelledError, StopIteration, RuntimeError):
            for _ in range(_ENDINGS):
                if asyncio.isfuture(waited_for):
                    waited_for.cancel()
                waited_for = inner.throw(asyncio.CancelledError())


async def _ended(future: asyncio.Future[Any]) -> None:
    """Wait until it is done, whatever came of it."""
    done = asyncio.get_running_loop().create_future()

    def tell(_: object) -> None:
        if not done.done():
            done.set_result(None)

    future.add_done_callback(tell)
    async with asyncio.timeout(30):
        await done
