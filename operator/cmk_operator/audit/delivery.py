"""Sends every entry to the sink, in order and at least once, however long it takes. Nothing waits for it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from cmk_operator.core.schedule import Backoff
from cmk_operator.kubernetes.client import KubernetesError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cmk_operator.core.audit.chain import Entry

    Send = Callable[[list[str]], Awaitable[str | None]]
    """Sends lines, and returns what went wrong (None: the sink has them)."""

_RETRY: Final = Backoff(1.0, 60.0)
_LOG: Final = logging.getLogger(__name__)


class Delivery:
    """`undelivered` reads the next entries; `advance` writes to the head how far the sink is, and returns whether it could."""

    def __init__(
        self, send: Send, undelivered: Callable[[], Awaitable[list[Entry]]], advance: Callable[[int], Awaitable[bool]]
    ) -> None:
        self._send = send
        self._undelivered = undelivered
        self._advance = advance
        self._more = asyncio.Event()

    def wake(self) -> None:
        """Check for new entries."""
        self._more.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        failures = 0
        while True:
            await self._more.wait()
            self._more.clear()
            error = await self._deliver_all()
            failures = failures + 1 if error is not None else 0
            if error is not None:
                _LOG.warning("the audit sink did not accept entries; they are retried", extra={"error": error})
                await asyncio.sleep(_RETRY.bound(failures))
                self._more.set()

    async def _deliver_all(self) -> str | None:
        try:
            while entries := await self._undelivered():
                failure = await self._send([entry.line for entry in entries])
                if failure is not None:
                    return failure
                if not await self._advance(entries[-1].sequence):
                    return "the head of the record could not be written"
        except KubernetesError as error:
            return str(error)
        return None
