"""Killed in the middle of an operation of the disk service, the next start picks it up, written down or not, and starts no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from sandbox.administrators.compute import ComputeAdministrator
from sandbox.kubernetes.objects import has
from tests.engine.operators import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.engine.world import World

LONG = 100_000.0
SOON = {"drift_check_interval": 1, "key_check_interval": 1}
CREATION = {"location": "westeurope", "encryptionType": "EncryptionAtRestWithCustomerKey"}


@pytest.fixture
async def slow(world: World) -> AsyncIterator[World]:
    """Operations of the disk service take longer than any test."""
    before = await world.environment.control.timings()
    await world.environment.control.set_timings(compute_operation_seconds=LONG)
    await world.operator.with_settings(**SOON)
    await world.foundation()
    yield world
    await world.environment.control.set_timings(**before)


async def applied(world: World, name: str) -> str:
    compute = ComputeAdministrator(world.environment.provider, world.environment.group)
    set_id = compute.id_of("diskEncryptionSets", name)
    await world.environment.apply_resource(name, resourceId=set_id, diskEncryptionSet=CREATION)
    return set_id


async def ended(world: World, name: str) -> None:
    """Azure has done it; the operator was told to ask much later, so it is asked for a pass now."""
    await world.environment.control.advance(LONG)
    requested = {"metadata": {"annotations": {RECONCILE_REQUESTED_AT: "now"}}}
    await world.environment.objects.merge("EncryptedResource", name, requested, world.environment.namespace)


async def requests(world: World, set_id: str, since: int) -> list[str]:
    """The methods of the operator's writes to the set."""
    found = await world.environment.operator_requests(set_id, since, "PUT", "PATCH")
    return [one["method"] for one in found]


async def test_killed_while_an_operation_runs_the_next_start_asks_after_it_and_starts_no_other(slow: World) -> None:
    environment, since = slow.environment, await slow.environment.position()
    set_id = await applied(slow, "des-kept")
    status = await environment.resource_until("under way", lambda seen: seen.get("operation"), "des-kept")
    slow.operator.kill()
    after = await environment.position()
    await slow.operator.start(**SOON)

    async def asked() -> bool:
        return bool(await environment.operator_requests("/DiskOperations/", after, "GET"))

    await until("asked after", asked)
    await ended(slow, set_id.rsplit("/", 1)[-1])
    ready = await environment.resource_until("Ready", has("Ready"), "des-kept")
    assert await requests(slow, set_id, since) == ["PUT"]
    assert "operation" not in ready
    (rotation,) = ready["rotations"]
    assert (rotation["by"], rotation["requestId"]) == ("cmk-operator", status["operation"]["requestId"])


async def test_killed_before_the_operation_could_be_written_down_the_next_start_sees_azure_at_work_and_waits(
    slow: World,
) -> None:
    environment, since = slow.environment, await slow.environment.position()
    await environment.control.inject(kind="hang", method="PUT", path="diskEncryptionSets", after_effect=True, times=1)
    set_id = await applied(slow, "des-lost")

    async def arrived() -> bool:
        return any(fault["hits"] for fault in await environment.control.faults())

    await until("the request arrived", arrived)
    slow.operator.kill()
    await environment.control.clear_faults()
    await slow.operator.start(**SOON)

    def waits(seen: dict[str, Any]) -> bool:
        return has("Ready", "False", "OperationInProgress")(seen)

    await environment.resource_until("seen at work", waits, "des-lost")
    await ended(slow, set_id.rsplit("/", 1)[-1])
    await environment.resource_until("Ready", has("Ready"), "des-lost")
    assert await requests(slow, set_id, since) == ["PUT"]
