"""An author of manifests cannot keep the operator busy by changing few objects often."""

from __future__ import annotations

import asyncio
from typing import Any

from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.changes import Changes
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.kubernetes.status import put_answer
from tests.unit import samples
from tests.unit.leaping_loop import run

ONE, OTHER = ObjectReference("keys", "team", "one"), ObjectReference("keys", "team", "other")


def enqueue_nothing(_: ObjectReference, __: float) -> None:
    """Where only the pauses count."""


def test_requests_of_one_object_count_once_in_five_seconds_and_none_is_lost() -> None:
    async def story() -> None:
        changes = Changes(5.0, 3, enqueue_nothing)
        assert await changes.pause(ONE, 1) == 0.0
        assert await changes.pause(ONE, 1) == 0.0
        assert [await changes.pause(ONE, 1) for _ in range(1000)] == [5.0] * 1000
        assert await changes.pause(OTHER, 1) == 0.0
        await asyncio.sleep(5.1)
        assert [await changes.pause(ONE, 1), await changes.pause(ONE, 1)] == [0.0, 5.0]

    run(story())


def test_answers_start_no_more_passes_of_one_object_than_its_watch() -> None:
    # Each pass writes when it last handled a request, and the answer shows the annotation that was made meanwhile.
    async def story() -> None:
        inventory, passes = Inventory(), list[float]()
        changes = Changes(5.0, 3, lambda _, after: passes.append(after))
        inventory.put(EncryptedResource.plural, annotated(0))
        for version in range(1, 1001):
            await put_answer(inventory, EncryptedResource.plural, annotated(version), changes.noted)
        assert passes == [0.0, 0.0, *[5.0] * 998]

    run(story())


def annotated(version: int) -> dict[str, Any]:
    body = samples.resource_body()
    changed = {"resourceVersion": str(version + 1), "annotations": {RECONCILE_REQUESTED_AT: str(version)}}
    return body | {"metadata": body["metadata"] | changed}


def test_a_few_corrections_of_a_manifest_are_handled_at_once() -> None:
    async def story() -> None:
        changes = Changes(5.0, 3, enqueue_nothing)
        assert [await changes.pause(ONE, generation) for generation in range(1, 6)] == [0.0, 0.0, 0.0, 5.0, 5.0]
        await asyncio.sleep(5.1)
        assert [await changes.pause(ONE, generation) for generation in range(6, 8)] == [0.0, 5.0]

    run(story())


def test_only_recent_changes_are_held_in_memory() -> None:
    async def story() -> None:
        changes = Changes(5.0, 3, enqueue_nothing)
        await changes.pause(ONE, 1)
        await changes.pause(OTHER, 1)
        changes.forget(OTHER)
        changes.drop_old()
        assert len(changes) == 1
        await asyncio.sleep(20)
        changes.drop_old()
        assert len(changes) == 0

    run(story())
