"""How often changes of one object start a pass, so that no author of manifests can keep the operator busy with few objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_operator.kubernetes.client import ObjectReference


@dataclass(slots=True)
class _Recent:
    """The recent changes of one object."""

    specs: AsyncLimiter
    requests: AsyncLimiter
    generation: int = -1


@dataclass(slots=True)
class Changes:
    """Limits the passes that changes start: `at_once` new specs of an object, and one request by annotation, each within `seconds`.

    A change that exceeds the limit is not lost: its pass comes after the pause, and handles all changes until then.
    """

    seconds: float
    at_once: int
    enqueue: Callable[[ObjectReference, float], None]
    """Enqueues an object after so many seconds."""
    _recent: dict[ObjectReference, _Recent] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of objects held in memory."""
        return len(self._recent)

    async def pause(self, reference: ObjectReference, generation: int) -> float:
        """Seconds until the pass for a change that was just seen; 0 if it may start now."""
        recent = self._recent.get(reference)
        if recent is None:
            specs = AsyncLimiter(self.at_once, self.seconds * self.at_once)
            recent = self._recent[reference] = _Recent(specs, AsyncLimiter(1, self.seconds))
        limiter = recent.requests if generation == recent.generation else recent.specs
        recent.generation = generation
        if not limiter.has_capacity():
            return self.seconds
        await limiter.acquire()
        return 0.0

    async def noted(self, reference: ObjectReference, generation: int) -> None:
        """Enqueue an object that was just seen changed, after its pause.

        Whatever shows a change must come this way, not the watches alone: the answer to each status write shows the newest
        annotation of an object that somebody annotates without a pause.
        """
        self.enqueue(reference, await self.pause(reference, generation))

    def forget(self, reference: ObjectReference) -> None:
        """Drop a deleted object."""
        self._recent.pop(reference, None)

    def drop_old(self) -> None:
        """Drop the objects whose changes are not recent any more."""
        self._recent = {reference: recent for reference, recent in self._recent.items() if not _is_old(recent)}


def _is_old(recent: _Recent) -> bool:
    return all(limiter.has_capacity(limiter.max_rate) for limiter in (recent.specs, recent.requests))
