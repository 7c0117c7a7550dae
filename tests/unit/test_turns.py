"""Turns at connections and probes: nobody has all, everybody gets one, and none is lost by a cancellation."""

from __future__ import annotations

import asyncio
import random

import pytest

from cmk_operator.turns import Turns
from tests.unit.leaping_loop import run

AT_ONCE = 8


def test_an_owner_whose_turns_never_end_leaves_one_for_each_that_comes_later() -> None:
    async def story() -> None:
        turns, held = Turns(AT_ONCE), list[str]()

        async def hold(owner: str) -> None:
            async with turns.turn(owner):
                held.append(owner)
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(hold("silent")) for _ in range(100)]
        await asyncio.sleep(0)
        assert held == ["silent"] * 6
        tasks += [asyncio.create_task(hold("victim")), asyncio.create_task(hold("other"))]
        await asyncio.sleep(0.01)
        assert held == [*["silent"] * 6, "victim", "other"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(story())


def test_whoever_holds_fewest_is_next_however_many_others_wait() -> None:
    async def story() -> None:
        turns, order, ends = Turns(1), list[str](), asyncio.Event()

        async def one(owner: str) -> None:
            async with turns.turn(owner):
                order.append(owner)
                await ends.wait()

        tasks = [asyncio.create_task(one("flood")) for _ in range(50)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(one("victim")))
        await asyncio.sleep(0)
        ends.set()
        await asyncio.gather(*tasks)
        assert order.index("victim") <= 2
        assert len(order) == 51

    run(story())


@pytest.mark.parametrize("seed", range(20))
def test_under_any_cancellations_no_turn_is_lost_or_held_twice(seed: int) -> None:
    async def story() -> None:
        chance = random.Random(seed)  # noqa: S311 - a story, not cryptography
        turns, holding = Turns(AT_ONCE), 0

        async def one(owner: str) -> None:
            nonlocal holding
            async with turns.turn(owner):
                holding += 1
                assert holding <= AT_ONCE
                try:
                    await asyncio.sleep(chance.random())
                finally:
                    holding -= 1

        tasks = []
        for _ in range(200):
            tasks.append(asyncio.create_task(one(chance.choice("abc"))))
            if chance.random() < 0.5:
                chance.choice(tasks).cancel()
            await asyncio.sleep(chance.choice((0.0, 0.01, 0.1)))
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        async with asyncio.timeout(10):
            await asyncio.gather(*(one("abcd"[number % 4]) for number in range(AT_ONCE)))

    run(story())
