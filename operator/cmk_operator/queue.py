"""One keyed work queue: an object is never reconciled twice at the same time, and no request for a reconcile is lost.

It works as client-go's workqueue. Enqueueing an object that waits does nothing. Enqueueing one that is being reconciled makes it
run again. Each failure backs off by object. Delayed reconciles are on a heap; an earlier due time replaces a later one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from cmk_operator.core.schedule import FAILED, Next
from cmk_operator.fair_lane import FairLane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping

    from cmk_operator.telemetry import Telemetry

ItemT = TypeVar("ItemT", bound="Hashable")

_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lane(Generic[ItemT]):
    """The queue of one kind, so that many resources never delay the probe of a key."""

    ready: FairLane[ItemT]
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    moved_at: float = 0.0
    """When a worker last took an item, or the first item was enqueued; by the loop's clock."""


class WorkQueue(Generic[ItemT]):
    """Runs `process(item)` for each item that is enqueued, in turns between the items' owners."""

    def __init__(
        self,
        process: Callable[[ItemT], Awaitable[Next]],
        lane_of: Callable[[ItemT], str],
        lanes: Mapping[str, FairLane[ItemT] | int],
        telemetry: Telemetry,
        *,
        owner_of: Callable[[ItemT], str] = str,
        limit_of: Callable[[ItemT], str] = lambda _: "",
    ) -> None:
        """`lanes`: the number of workers of each lane, or its order. By default, each item is an owner of its own.

        `limit_of` names what the pass of an item may have to wait for (`FairLane.put`).
        """
        self._process = process
        self._lane_of = lane_of
        self._owner_of = owner_of
        self._limit_of = limit_of
        self._lanes: dict[str, _Lane[ItemT]] = {
            name: _Lane(lane if isinstance(lane, FairLane) else FairLane(lane)) for name, lane in lanes.items()
        }
        self._telemetry = telemetry
        self._waiting: dict[ItemT, float] = {}
        """What is ready, and since when by the loop's clock."""
        self._running: set[ItemT] = set()
        self._again: set[ItemT] = set()
        self._attempts: dict[ItemT, int] = {}
        self._timed: set[ItemT] = set()
        self._due: dict[ItemT, float] = {}
        self._heap: list[tuple[float, int, ItemT]] = []
        self._order = itertools.count()
        self._timer = asyncio.Event()
        self._fruitless_since: float | None = None
        """Start of the first reconcile after which none has ended; by the loop's clock."""
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, item: ItemT, after: float = 0.0) -> None:
        """Enqueue an item, due in `after` seconds; the earliest due time counts."""
        if after > 0:
            self._schedule(item, after)
            return
        self._due.pop(item, None)
        if item in self._running:
            self._again.add(item)
        elif item not in self._waiting:
            now = asyncio.get_running_loop().time()
            self._waiting[item] = now
            lane = self._lanes[self._lane_of(item)]
            if not lane.ready:
                lane.moved_at = now
            lane.ready.put(item, self._owner_of(item), regular=item in self._timed, limit=self._limit_of(item))
            lane.wake.set()

    def forget(self, item: ItemT) -> None:
        """Drop the item's due time and its count of failures."""
        self._due.pop(item, None)
        self._attempts.pop(item, None)
        if not (self._running or self._waiting or self._due):
            self._fruitless_since = None

    def _schedule(self, item: ItemT, after: float) -> None:
        due = asyncio.get_running_loop().time() + after
        if item in self._waiting or self._due.get(item, float("inf")) <= due:
            return
        self._due[item] = due
        heapq.heappush(self._heap, (due, next(self._order), item))
        self._timer.set()

    @property
    def started(self) -> bool:
        """Whether items are processed: a standby's queue only fills."""
        return bool(self._tasks)

    def depths(self) -> dict[str, int]:
        """How many items are due and wait for a worker, by lane."""
        return {name: len(lane.ready) for name, lane in self._lanes.items()}

    def overdue(self) -> float:
        """Seconds by which the most overdue item is late; it grows if the timer, or all workers of a lane, hang.

        A long queue that moves is not overdue. Nor is that of a standby, from which nothing is taken.
        """
        if not self._tasks:
            return 0.0
        now = asyncio.get_running_loop().time()
        stuck = (lane.moved_at for lane in self._lanes.values() if lane.ready)
        return max((now - since for since in itertools.chain(self._due.values(), stuck)), default=0.0)

    def fruitless(self) -> float:
        """Seconds for which reconciles were started and none has ended, because all of them raise or hang.

        A reconcile that ends with a refusal, by Azure or by Kubernetes, counts as ended.
        """
        since = self._fruitless_since
        return asyncio.get_running_loop().time() - since if since is not None else 0.0

    def start(self) -> None:
        """Start the workers; the waiting time of all items starts now."""
        now = asyncio.get_running_loop().time()
        self._waiting = dict.fromkeys(self._waiting, now)
        for lane in self._lanes.values():
            lane.moved_at = now
        self._tasks.append(asyncio.create_task(self._tick(), name="due times"))
        for name, lane in self._lanes.items():
            self._tasks += [
                asyncio.create_task(self._work(name, lane), name=f"worker {name} {number}")
                for number in range(lane.ready.workers)
            ]

    async def stop(self, grace: float) -> None:
        """Let running reconciles finish for at most `grace` seconds, then cancel them; no other one is started."""
        self._stopping = True
        for lane in self._lanes.values():
            lane.wake.set()
        self._timer.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=grace)
        for task in late:
            task.cancel()
        if late:
            _LOG.warning("passes were cut off at shutdown; the next start repeats them", extra={"passes": len(late)})
            await asyncio.wait(late)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            self._timer.clear()
            while self._heap and self._heap[0][0] <= loop.time():
                due, _, item = heapq.heappop(self._heap)
                if self._due.get(item) == due:
                    self._timed.add(item)
                    self.add(item)
            timeout = self._heap[0][0] - loop.time() if self._heap else None
            try:
                async with asyncio.timeout(timeout):
                    await self._timer.wait()
            except TimeoutError:
                continue

    async def _work(self, name: str, lane: _Lane[ItemT]) -> None:
        while not self._stopping:
            taken = lane.ready.take()
            if taken is None:
                lane.wake.clear()
                await lane.wake.wait()
                continue
            item, owner = taken
            lane.moved_at = asyncio.get_running_loop().time()
            self._telemetry.queue_wait_seconds.labels(name).observe(lane.moved_at - self._waiting.pop(item))
            self._running.add(item)
            try:
                self._settle(item, await self._attempt(name, item))
            finally:
                self._running.discard(item)
                lane.ready.done(owner)
            if item in self._again:
                self._again.discard(item)
                self.add(item)

    async def _attempt(self, name: str, item: ItemT) -> Next:
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._fruitless_since is None:
            self._fruitless_since = began
        try:
            following = await self._process(item)
        except Exception as error:  # noqa: BLE001 - the one place that catches everything
            # A reconcile that fails is retried, whatever the cause.
            _LOG.exception("pass failed and will be repeated", extra={"object": str(item), "error": type(error).__name__})
            self._telemetry.passes.labels(name, "failed").inc()
            return Next(backoff=FAILED)
        finally:
            self._telemetry.pass_seconds.labels(name).observe(loop.time() - began)
        self._fruitless_since = loop.time() if len(self._running) > 1 else None
        self._telemetry.passes.labels(name, "refused" if following.backoff is FAILED else "done").inc()
        return following

    def _settle(self, item: ItemT, following: Next) -> None:
        timed = item in self._timed
        self._timed.discard(item)
        if following.backoff is None:
            self._attempts.pop(item, None)
        else:
            # A reconcile that an event triggered does not count as a further failure: many events must not make the backoff long.
            attempt = max(1, self._attempts.get(item, 0) + timed)
            self._attempts[item] = attempt
            self._schedule(item, max(following.backoff.bound(attempt) * _jitter(), following.after or 0.0))
            return
        if following.after is not None:
            self._schedule(item, max(following.after, 0.001))


def _jitter() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311 - spreading, not cryptography
