"""The queue of reconciles, as `cmk_operator.queue`, but in virtual time and for a driver that runs one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_operator.core.schedule import Next
    from cmk_operator.kubernetes.client import ObjectReference


class Agenda:
    """The due time of each object. The earliest one counts, and failures are counted for the backoff."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._due: dict[ObjectReference, float] = {}
        self._attempts: dict[ObjectReference, int] = {}
        self._timed: set[ObjectReference] = set()

    def add(self, item: ObjectReference, after: float = 0.0) -> None:
        """Enqueue an object, due in that many seconds."""
        due = self._now() + max(0.0, after)
        self._due[item] = min(due, self._due.get(item, due))
        if after <= 0:
            self._timed.discard(item)

    def forget(self, item: ObjectReference) -> None:
        """Drop the due time of a deleted object, and its failures."""
        self._due.pop(item, None)
        self._attempts.pop(item, None)

    def ready(self) -> list[ObjectReference]:
        """The objects that are due now, in an order that does not depend on when they were enqueued."""
        now = self._now()
        return sorted((item for item, due in self._due.items() if due <= now), key=lambda item: (item.plural, str(item)))

    def next_due(self) -> float | None:
        """Seconds until the next object is due; None if there is none."""
        return min(self._due.values()) - self._now() if self._due else None

    def take(self, item: ObjectReference) -> None:
        """Start a reconcile."""
        del self._due[item]

    def settle(self, item: ObjectReference, wish: Next) -> None:
        """Enqueue the object again as its reconcile requested at its end."""
        timed = item in self._timed
        self._timed.discard(item)
        if wish.backoff is not None:
            attempt = max(1, self._attempts.get(item, 0) + timed)
            self._attempts[item] = attempt
            self._later(item, max(wish.backoff.bound(attempt), wish.after or 0.0))
            return
        self._attempts.pop(item, None)
        if wish.after is not None:
            self._later(item, wish.after)

    def _later(self, item: ObjectReference, after: float) -> None:
        waiting = item in self._due
        self.add(item, max(after, 0.001))
        if not waiting:
            self._timed.add(item)
