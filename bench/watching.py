"""Watches the resources and their keys: which are Ready, and when status was last written. It sends the operator no request."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.kubernetes.objects import Objects

SETTLED_AFTER: Final = 12.0
"""Seconds without a changed object after which nothing more is expected: a key counts its users a little later."""


@dataclass
class Readiness:
    """The resources of one namespace that are Ready now; times are of the monotonic clock."""

    ready: set[str] = field(default_factory=set)
    shown_at: dict[str, float] = field(default_factory=dict)
    """When the watch first showed each resource."""
    ready_at: float = 0.0
    """When the last one became Ready."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_ready(self, number: int, patience: float) -> float:
        """Wait until so many resources are Ready; the time of the event that showed the last of them."""
        async with asyncio.timeout(patience):
            while len(self.ready) < number:
                self._changed.clear()
                await self._changed.wait()
        return self.ready_at

    async def until_settled(self) -> None:
        """Wait until no object has changed for a while."""
        with suppress(TimeoutError):
            while True:
                self._changed.clear()
                async with asyncio.timeout(SETTLED_AFTER):
                    await self._changed.wait()

    async def follow(self, objects: Objects, kind: str, namespace: str) -> None:
        """Store what the watch of one kind shows, until it is cancelled."""
        while True:
            async for body in objects.changes(kind, namespace):
                if kind == "EncryptedResource":
                    self._store(body)
                self._changed.set()

    def _store(self, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        self.shown_at.setdefault(name, time.monotonic())
        conditions = body.get("status", {}).get("conditions", ())
        if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            self.ready.discard(name)
        elif name not in self.ready:
            self.ready.add(name)
            self.ready_at = time.monotonic()


@asynccontextmanager
async def watching(objects: Objects, namespace: str) -> AsyncIterator[Readiness]:
    """Watch a namespace as long as the block runs."""
    readiness = Readiness()
    tasks = [
        asyncio.create_task(readiness.follow(objects, kind, namespace)) for kind in ("EncryptedResource", "CustomerManagedKey")
    ]
    try:
        yield readiness
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
