"""What is not as it should be: asked of the database and the key ring in turn, and told without asking anybody."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cmk_keyservice.problem import ProblemError
from cmk_keyservice.store.sealing import check_ring

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cmk_keyservice.crypto.key_ring import KeyRing
    from cmk_keyservice.store.store import Store

CHECK_EVERY: Final = 2.0
CHECK_RING_EVERY: Final = 60.0


@dataclass(slots=True)
class Readiness:
    """The state of this replica, as /readyz tells it."""

    store: Store
    internal: KeyRing
    watched: Callable[[], Sequence[str]]
    """What the watch of OrganizationKeys has not seen yet."""
    told: Callable[[str, bool], None]
    """Called with each part and whether it is as it should be, after each look."""
    stopping: bool = False
    database: str = "the database was not asked yet"
    ring: str = "the internal key ring was not compared with the database yet"
    _was_complete: bool = field(default=False)

    def missing(self) -> list[str]:
        """One line for each part that is not as it should be."""
        found = [line for line in (self.database, self.ring, *self.watched()) if line]
        return [*found, "this replica is stopping"] if self.stopping else found

    def takes_traffic(self) -> bool:
        """From when everything was there once, until the end (docs/decisions/0152-traffic-does-not-follow-every-part.md)."""
        self._was_complete = self._was_complete or not self.missing()
        return self._was_complete and not self.stopping

    async def follow(self) -> None:
        """Ask again and again."""
        loop, ring_due = asyncio.get_running_loop(), 0.0
        while True:
            self.database = await _problem(self.store.check())
            if not self.database and loop.time() >= ring_due:
                self.ring = await _problem(check_ring(self.store, self.internal))
                ring_due = loop.time() + (CHECK_RING_EVERY if not self.ring else 0.0)
            for part, ready in (("database", not self.database), ("ring", not self.ring), ("watch", not self.watched())):
                self.told(part, ready)
            await asyncio.sleep(CHECK_EVERY)


async def _problem(check: Awaitable[None]) -> str:
    try:
        await check
    except ProblemError as error:
        return f"{error.problem.code}: {error.problem.detail}. {error.problem.remedy}"
    return ""
