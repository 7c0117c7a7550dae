"""All that a call has started can be ended, whatever it starts and however it holds on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from cmk_operator.task_family import TaskFamily
from tests.unit import leaping_loop


async def _for_ever() -> None:
    await asyncio.Event().wait()


def test_members_are_what_a_member_starts_and_nobody_else() -> None:
    async def main() -> None:
        family, own = TaskFamily(), asyncio.create_task(_for_ever(), name="own")

        async def child() -> None:
            asyncio.get_running_loop().call_soon(lambda: asyncio.create_task(_for_ever(), name="grandchild by a callback"))
            await asyncio.create_task(_for_ever(), name="grandchild")

        async def begin() -> asyncio.Task[None]:
            return asyncio.create_task(child(), name="child")

        first = await family.start(begin)
        stranger = asyncio.create_task(_for_ever(), name="stranger")
        await asyncio.sleep(1)
        assert await family.end(10) == []
        assert first.cancelled()
        assert {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}} == {"own", "stranger"}
        own.cancel()
        stranger.cancel()

    leaping_loop.run(main())


def test_who_swallows_a_cancellation_together_with_that_of_another_is_ended_all_the_same() -> None:
    async def main() -> None:
        family = TaskFamily()

        async def stream() -> None:
            while True:
                waiter = asyncio.create_task(_for_ever(), name="waiter")
                try:
                    await asyncio.wait({waiter})
                finally:
                    waiter.cancel()
                    with suppress(asyncio.CancelledError):
                        await waiter

        async def begin() -> None:
            asyncio.create_task(stream(), name="stream").add_done_callback(lambda _: None)

        await family.start(begin)
        await asyncio.sleep(1)
        assert await family.end(10) == []

    leaping_loop.run(main())


def test_who_never_ends_is_named() -> None:
    async def main() -> None:
        family, released = TaskFamily(), asyncio.Event()

        async def stubborn() -> None:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue

        async def begin() -> asyncio.Task[None]:
            return asyncio.create_task(stubborn(), name="stubborn")

        task = await family.start(begin)
        await asyncio.sleep(1)
        assert await family.end(5) == ["stubborn"]
        released.set()
        await task

    leaping_loop.run(main())
