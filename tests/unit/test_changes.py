"""An author of manifests cannot keep the operator busy by changing few objects often."""

from __future__ import annotations

import asyncio

from cmk_operator.changes import Changes
from cmk_operator.kubernetes.client import ObjectReference
from tests.unit.leaping_loop import run

ONE, OTHER = ObjectReference("keys", "team", "one"), ObjectReference("keys", "team", "other")


def test_requests_of_one_object_count_once_in_five_seconds_and_none_is_lost() -> None:
    async def story() -> None:
        changes = Changes(5.0, 3)
        assert await changes.pause(ONE, 1) == 0.0
        assert await changes.pause(ONE, 1) == 0.0
        assert [await changes.pause(ONE, 1) for _ in range(1000)] == [5.0] * 1000
        assert await changes.pause(OTHER, 1) == 0.0
        await asyncio.sleep(5.1)
        assert [await changes.pause(ONE, 1), await changes.pause(ONE, 1)] == [0.0, 5.0]

    run(story())


def test_a_few_corrections_of_a_manifest_are_handled_at_once() -> None:
    async def story() -> None:
        changes = Changes(5.0, 3)
        assert [await changes.pause(ONE, generation) for generation in range(1, 6)] == [0.0, 0.0, 0.0, 5.0, 5.0]
        await asyncio.sleep(5.1)
        assert [await changes.pause(ONE, generation) for generation in range(6, 8)] == [0.0, 5.0]

    run(story())


def test_only_recent_changes_are_held_in_memory() -> None:
    async def story() -> None:
        changes = Changes(5.0, 3)
        await changes.pause(ONE, 1)
        await changes.pause(OTHER, 1)
        changes.forget(OTHER)
        changes.drop_old()
        assert len(changes) == 1
        await asyncio.sleep(20)
        changes.drop_old()
        assert len(changes) == 0

    run(story())
