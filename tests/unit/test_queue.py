"""The queue: no object is worked on twice at once, and no wish for a pass is ever lost."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest

from cmk_operator.core.schedule import BLOCKED, BUSY, FAILED, Backoff, Next
from cmk_operator.queue import WorkQueue
from cmk_operator.telemetry import Telemetry
from tests.unit.leaping_loop import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LANES = {"key": 2, "resource": 3}


def lane_of(item: str) -> str:
    return item.partition("-")[0]


@dataclass
class Passes:
    """What the workers did, and what each pass shall answer."""

    answer: Callable[[str, int], Awaitable[Next]]
    times: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    running: Counter[str] = field(default_factory=Counter)
    most_at_once: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)

    async def __call__(self, item: str) -> Next:
        self.times[item].append(asyncio.get_running_loop().time())
        for name in (item, lane_of(item)):
            self.running[name] += 1
            self.most_at_once[name] = max(self.most_at_once[name], self.running[name])
        try:
            return await self.answer(item, len(self.times[item]))
        finally:
            for name in (item, lane_of(item)):
                self.running[name] -= 1
            self.finished[item] += 1


async def done(_: str, __: int) -> Next:
    return Next()


def test_what_waits_for_one_limit_does_not_hold_up_what_waits_for_another() -> None:
    """The passes behind one limit hang; those behind another have ended before the second of them begins."""

    async def story() -> None:
        free, everything, hanging = asyncio.Event(), asyncio.Event(), asyncio.Event()
        begun: list[str] = []

        async def answer(item: str, _: int) -> Next:
            if "full" in item:
                await hanging.wait()
            else:
                begun.extend(passes.times)
                free.set()
            if len(passes.times) == 21:
                everything.set()
            return Next()

        def limit_of(item: str) -> str:
            return item.split("-")[1]

        passes = Passes(answer)
        queue = WorkQueue(passes, lane_of, {"resource": 3}, Telemetry(), owner_of=lambda _: "owner", limit_of=limit_of)
        for number in range(20):
            queue.add(f"resource-full-{number}")
        queue.add("resource-free-0")
        queue.start()
        async with asyncio.timeout(60):
            await free.wait()
            hanging.set()
            await everything.wait()
        await queue.stop(1.0)
        assert begun == ["resource-full-0", "resource-free-0"]
        assert sum(passes.finished.values()) == 21

    run(story())


def queue_of(passes: Passes) -> WorkQueue[str]:
    return WorkQueue(passes, lane_of, LANES, Telemetry())


def idle(queue: WorkQueue[str], passes: Passes) -> bool:
    """Whether nothing is running or ready; passes that are due later may exist."""
    return not any(queue.depths().values()) and not any(passes.running.values())


async def until(condition: Callable[[], bool], deadline: float = 1_000_000) -> None:
    """Wait by the loop's own clock, which leaps."""
    end = asyncio.get_running_loop().time() + deadline
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it never happened"
        await asyncio.sleep(0.01)


def test_an_item_that_waits_is_worked_on_once() -> None:
    async def story() -> None:
        passes = Passes(done)
        queue = queue_of(passes)
        for _ in range(5):
            queue.add("key-a")
        queue.start()
        await until(lambda: idle(queue, passes))
        assert passes.finished == {"key-a": 1}
        await queue.stop(1)

    run(story())


def test_an_item_that_is_added_while_it_is_worked_on_runs_once_more_and_never_at_once() -> None:
    async def story() -> None:
        gate = asyncio.Event()

        async def hold(_: str, attempt: int) -> Next:
            if attempt == 1:
                await gate.wait()
            return Next()

        passes = Passes(hold)
        queue = queue_of(passes)
        queue.start()
        queue.add("key-a")
        await until(lambda: passes.running["key-a"] == 1)
        for _ in range(3):
            queue.add("key-a")
        await asyncio.sleep(1)
        assert passes.running["key-a"] == 1
        gate.set()
        await until(lambda: idle(queue, passes))
        assert passes.finished == {"key-a": 2}
        assert passes.most_at_once["key-a"] == 1
        await queue.stop(1)

    run(story())


def test_a_pass_that_raises_is_repeated_with_growing_waits_and_then_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async def fail(_: str, attempt: int) -> Next:
            if attempt <= 12:
                raise ValueError("wrong")
            return Next()

        passes = Passes(fail)
        queue = queue_of(passes)
        queue.start()
        queue.add("key-a")
        await until(lambda: passes.finished["key-a"] == 13)
        times = passes.times["key-a"]
        waits = [later - earlier for earlier, later in itertools.pairwise(times)]
        for attempt, wait in enumerate(waits, start=1):
            assert 0.5 * FAILED.bound(attempt) <= wait <= FAILED.bound(attempt) + 0.02
        queue.add("key-a")
        await until(lambda: passes.finished["key-a"] == 14)
        await queue.stop(1)

    run(story())
    failures = [record for record in caplog.records if record.message == "pass failed and will be repeated"]
    assert len(failures) == 12
    assert failures[0].__dict__["object"] == "key-a"


def test_one_failing_object_holds_no_other_back(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async def answer(item: str, _: int) -> Next:
            if item == "key-bad":
                raise ValueError("wrong")
            return Next()

        passes = Passes(answer)
        queue = queue_of(passes)
        queue.start()
        for item in ("key-bad", *(f"key-{number}" for number in range(50))):
            queue.add(item)
        began = asyncio.get_running_loop().time()
        await until(lambda: sum(passes.finished.values()) >= 51)
        assert asyncio.get_running_loop().time() - began < 1
        await queue.stop(1)

    run(story())
    assert "wrong" in caplog.text


@pytest.mark.parametrize("backoff", [FAILED, BUSY, BLOCKED])
def test_a_backoff_grows_to_its_longest_and_stays(backoff: Backoff) -> None:
    bounds = [backoff.bound(attempt) for attempt in range(1, 200)]
    assert bounds[0] == backoff.first
    assert bounds == sorted(bounds)
    assert bounds[-1] == backoff.longest


def test_a_wish_by_time_comes_not_before_its_time_and_the_earliest_counts() -> None:
    async def story() -> None:
        passes = Passes(done)
        queue = queue_of(passes)
        queue.start()
        began = asyncio.get_running_loop().time()
        queue.add("key-a", after=300)
        queue.add("key-a", after=60)
        queue.add("key-a", after=200)
        await until(lambda: passes.finished["key-a"] == 1)
        assert 60 <= passes.times["key-a"][0] - began < 60.1
        await asyncio.sleep(1000)
        assert passes.finished["key-a"] == 1
        await queue.stop(1)

    run(story())


def test_azure_s_retry_after_is_never_undercut_by_the_backoff() -> None:
    async def story() -> None:
        async def busy(_: str, attempt: int) -> Next:
            return Next(after=120, backoff=BUSY) if attempt == 1 else Next()

        passes = Passes(busy)
        queue = queue_of(passes)
        queue.start()
        queue.add("key-a")
        await until(lambda: passes.finished["key-a"] == 2)
        first, second = passes.times["key-a"]
        assert second - first >= 120
        await queue.stop(1)

    run(story())


def _reached(passes: Passes, count: int) -> bool:
    return passes.finished["key-a"] >= count


def test_passes_that_something_woke_do_not_make_the_backoff_longer() -> None:
    async def story() -> None:
        async def blocked(_: str, __: int) -> Next:
            return Next(backoff=BLOCKED)

        passes = Passes(blocked)
        queue = queue_of(passes)
        queue.start()
        for woken in range(1, 11):
            queue.add("key-a")
            await until(partial(_reached, passes, woken))
        last = passes.times["key-a"][-1]
        seen = passes.finished["key-a"]
        await until(lambda: passes.finished["key-a"] > seen)
        assert passes.times["key-a"][-1] - last <= BLOCKED.first + 0.02
        await queue.stop(1)

    run(story())


def test_an_immediate_wish_replaces_the_one_that_was_due_later() -> None:
    async def story() -> None:
        passes = Passes(done)
        queue = queue_of(passes)
        queue.start()
        queue.add("key-a", after=500)
        queue.add("key-a")
        await until(lambda: passes.finished["key-a"] == 1)
        await asyncio.sleep(1000)
        assert passes.finished["key-a"] == 1
        await queue.stop(1)

    run(story())


def test_what_is_forgotten_is_not_worked_on_at_its_time() -> None:
    async def story() -> None:
        passes = Passes(done)
        queue = queue_of(passes)
        queue.start()
        queue.add("key-a", after=10)
        queue.forget("key-a")
        await asyncio.sleep(100)
        assert not passes.finished
        await queue.stop(1)

    run(story())


def test_a_lane_that_is_full_starves_no_other() -> None:
    async def story() -> None:
        never = asyncio.Event()

        async def hang(item: str, _: int) -> Next:
            if lane_of(item) == "resource":
                await never.wait()
            return Next()

        passes = Passes(hang)
        queue = queue_of(passes)
        queue.start()
        for number in range(100):
            queue.add(f"resource-{number}")
        for number in range(100):
            queue.add(f"key-{number}")
        await until(lambda: sum(passes.finished.values()) == 100)
        assert passes.running["resource"] == LANES["resource"]
        never.set()
        await until(lambda: idle(queue, passes))
        assert passes.most_at_once["key"] <= LANES["key"]
        assert passes.most_at_once["resource"] == LANES["resource"]
        await queue.stop(1)

    run(story())


def test_stopping_lets_running_passes_finish_and_begins_nothing_new() -> None:
    async def story() -> None:
        async def slow(_: str, __: int) -> Next:
            await asyncio.sleep(5)
            return Next(after=0.1)

        passes = Passes(slow)
        queue = queue_of(passes)
        queue.start()
        for number in range(10):
            queue.add(f"key-{number}")
        await until(lambda: passes.running["key"] == 2)
        await queue.stop(grace=20)
        assert sum(passes.finished.values()) == 2
        await asyncio.sleep(100)
        assert sum(passes.finished.values()) == 2

    run(story())


def test_stopping_cuts_off_what_takes_longer_than_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async def forever(_: str, __: int) -> Next:
            await asyncio.sleep(10_000)
            return Next()

        passes = Passes(forever)
        queue = queue_of(passes)
        queue.start()
        queue.add("key-a")
        await until(lambda: passes.running["key-a"] == 1)
        began = asyncio.get_running_loop().time()
        await queue.stop(grace=20)
        assert asyncio.get_running_loop().time() - began < 21
        assert passes.running["key-a"] == 0

    run(story())
    assert "passes were cut off at shutdown; the next start repeats them" in caplog.text


def test_a_queue_whose_workers_hang_says_how_overdue_it_is() -> None:
    async def story() -> None:
        never = asyncio.Event()

        async def hang(_: str, __: int) -> Next:
            await never.wait()
            return Next()

        passes = Passes(hang)
        queue = queue_of(passes)
        queue.start()
        assert queue.overdue() == 0
        for number in range(LANES["key"]):
            queue.add(f"key-{number}")
        queue.add("key-due", after=30)
        queue.add("key-ready")
        await asyncio.sleep(1000)
        assert queue.overdue() >= 999
        never.set()
        await until(lambda: idle(queue, passes))
        assert queue.overdue() == 0
        await queue.stop(1)

    run(story())


def test_a_long_line_that_moves_is_not_overdue() -> None:
    async def story() -> None:
        async def slow(_: str, __: int) -> Next:
            await asyncio.sleep(10)
            return Next()

        passes = Passes(slow)
        queue = queue_of(passes)
        queue.start()
        for number in range(200):
            queue.add(f"key-{number}")
        while not idle(queue, passes):
            assert queue.overdue() <= 10.1
            await asyncio.sleep(1)
        assert asyncio.get_running_loop().time() > 1_900
        await queue.stop(1)

    run(story())


def test_a_wish_that_is_not_due_yet_is_not_overdue() -> None:
    async def story() -> None:
        queue = queue_of(Passes(done))
        queue.start()
        queue.add("key-a", after=500)
        await asyncio.sleep(400)
        assert queue.overdue() <= 0
        await queue.stop(1)

    run(story())


def test_a_standbys_queue_fills_and_is_never_overdue_and_what_waited_is_not_late_when_it_starts() -> None:
    async def story() -> None:
        passes = Passes(done)
        queue = queue_of(passes)
        queue.add("key-a")
        queue.add("key-b", after=5)
        await asyncio.sleep(10_000)
        assert not queue.started
        assert queue.overdue() == 0
        assert queue.depths() == {"key": 1, "resource": 0}
        queue.add("resource-a")
        queue.start()
        assert queue.started
        await until(lambda: idle(queue, passes) and passes.finished["key-b"] == 1)
        assert queue.overdue() <= 0
        await queue.stop(1)

    run(story())


def test_waits_passes_and_their_results_are_counted_by_kind() -> None:
    telemetry = Telemetry()

    async def story() -> None:
        async def answer(item: str, attempt: int) -> Next:
            await asyncio.sleep(2)
            if item == "key-bug" and attempt == 1:
                raise ValueError("wrong")
            return Next(backoff=FAILED) if item == "key-refused" and attempt == 1 else Next()

        queue = WorkQueue(Passes(answer), lane_of, {"key": 1}, telemetry)
        queue.start()
        for item in ("key-bug", "key-refused"):
            queue.add(item)
        await until(lambda: sample("cmk_reconcile_passes_total", result="done") == 2)
        await queue.stop(10)

    def sample(name: str, **labels: str) -> float | None:
        return telemetry.registry.get_sample_value(name, {"kind": "key", **labels})

    run(story())
    assert sample("cmk_reconcile_passes_total", result="failed") == 1
    assert sample("cmk_reconcile_passes_total", result="refused") == 1
    assert sample("cmk_reconcile_pass_seconds_count") == 4
    assert sample("cmk_reconcile_pass_seconds_sum") == pytest.approx(8, abs=0.1)
    assert sample("cmk_queue_wait_seconds_count") == 4
    assert (sample("cmk_queue_wait_seconds_sum") or 0) > 1.9, "the second waited for the only worker"


def began_since(passes: Passes, item: str, wished: float) -> bool:
    return bool(passes.times[item]) and passes.times[item][-1] >= wished


def unsteady(dice: random.Random) -> Callable[[str, int], Awaitable[Next]]:
    """Passes of any length and outcome."""

    async def answer(_: str, __: int) -> Next:
        for _step in range(dice.randrange(4)):
            await asyncio.sleep(dice.choice([0, 0, 0.001, 0.5]))
        match dice.randrange(5):
            case 0:
                raise ValueError("now and then")
            case 1:
                return Next(after=dice.uniform(0, 5))
            case 2:
                return Next(backoff=BUSY)
            case _:
                return Next()

    return answer


@pytest.mark.parametrize("seed", range(12))
def test_under_any_interleaving_every_wish_is_followed_by_a_pass_that_began_after_it(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - an order of events, not a secret
    wishes: dict[str, float] = {}

    async def story() -> None:
        passes = Passes(unsteady(dice))
        queue = queue_of(passes)
        loop = asyncio.get_running_loop()
        items = [f"{lane}-{number}" for lane in LANES for number in range(6)]

        async def wish() -> None:
            for _ in range(40):
                item = dice.choice(items)
                after = dice.choice([0, 0, 0, dice.uniform(0, 3)])
                queue.add(item, after)
                wishes[item] = max(wishes.get(item, 0), loop.time())
                await asyncio.sleep(dice.choice([0, 0, 0.001, 0.3]))

        queue.start()
        await asyncio.gather(*(wish() for _ in range(8)))
        for item, wished in wishes.items():
            await until(partial(began_since, passes, item, wished), 1_000)
        assert all(most == 1 for name, most in passes.most_at_once.items() if name not in LANES)
        for lane, workers in LANES.items():
            assert passes.most_at_once[lane] <= workers
        await queue.stop(60)
        assert not any(passes.running.values())

    run(story())


def test_a_queue_whose_passes_all_raise_or_hang_is_fruitless_and_one_that_ends_a_pass_is_not() -> None:
    async def answer(item: str, number: int) -> Next:
        if item == "key-raises" and number < 20:
            raise KeyError(item)
        if item == "key-hangs" and number == 1:
            await asyncio.sleep(300)
        return Next(backoff=FAILED) if item == "resource-refused" else Next(after=10)

    async def scenario() -> None:
        queue = queue_of(Passes(answer))
        queue.start()
        assert queue.fruitless() == 0
        await asyncio.sleep(50)
        assert queue.fruitless() == 0, "nothing was to be done"
        queue.add("key-hangs")
        queue.add("key-raises")
        await asyncio.sleep(200)
        assert queue.fruitless() == pytest.approx(200)
        queue.add("resource-refused")
        await asyncio.sleep(1)
        assert queue.fruitless() < 1, "a pass that was refused has ended"
        await asyncio.sleep(400)
        assert queue.fruitless() < 60
        await queue.stop(0)

    run(scenario())


def test_what_is_gone_leaves_no_queue_fruitless() -> None:
    async def answer(_: str, __: int) -> Next:
        raise KeyError

    async def scenario() -> None:
        queue = queue_of(Passes(answer))
        queue.start()
        queue.add("key-a")
        await asyncio.sleep(90)
        assert queue.fruitless() == pytest.approx(90)
        queue.forget("key-a")
        assert queue.fruitless() == 0
        await queue.stop(0)

    run(scenario())


def test_a_flood_of_one_namespace_delays_no_other_by_more_than_one_pass() -> None:
    async def slow(_: str, __: int) -> Next:
        await asyncio.sleep(1.0)
        return Next()

    async def story() -> None:
        passes = Passes(slow)
        queue: WorkQueue[str] = WorkQueue(
            passes, lambda _: "key", {"key": 4}, Telemetry(), owner_of=lambda item: item.partition("/")[0]
        )
        for number in range(3000):
            queue.add(f"flood/{number}")
        queue.start()
        await asyncio.sleep(10.5)
        began = asyncio.get_running_loop().time()
        for number in range(3):
            queue.add(f"victim/{number}")
        await until(lambda: all(passes.finished[f"victim/{number}"] for number in range(3)))
        assert asyncio.get_running_loop().time() - began < 4.0
        assert not passes.finished["flood/2999"]
        await queue.stop(0.0)

    run(story())
