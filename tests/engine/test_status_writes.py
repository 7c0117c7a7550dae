"""A status write that fails is repeated until status says what is true, without a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

FAULTS: dict[str, dict[str, Any]] = {
    "409 once": {"kind": "answer", "status": 409},
    "422 once": {"kind": "answer", "status": 422},
    "404 once": {"kind": "answer", "status": 404},
    "429 three times": {"kind": "answer", "status": 429, "retry_after": 1, "times": 3},
    "500 three times": {"kind": "answer", "status": 500, "times": 3},
    "500 seven times": {"kind": "answer", "status": 500, "times": 7},
    "401 once": {"kind": "answer", "status": 401},
    "401 five times": {"kind": "answer", "status": 401, "times": 5},
    "dropped before delivery": {"kind": "drop"},
    "dropped before delivery three times": {"kind": "drop", "times": 3},
}
LOST_ANSWERS: dict[str, dict[str, Any]] = {
    "dropped after delivery": {"kind": "drop", "after_delivery": True},
    "dropped after delivery three times": {"kind": "drop", "after_delivery": True, "times": 3},
    "500 after delivery": {"kind": "answer", "status": 500, "after_delivery": True},
    "504 after delivery": {"kind": "answer", "status": 504, "after_delivery": True},
}


async def _suffer(world: World, faults: dict[str, dict[str, Any]]) -> tuple[dict[str, str], int, int]:
    """One new resource for each fault; the names, and the positions of both logs before."""
    await world.operator.with_settings()
    await world.foundation()
    suffering = dict(zip(faults, await world.accounts(len(faults)), strict=True))
    process, azure, kubernetes = world.operator.process.pid, await world.environment.position(), world.proxy.position
    injected = [
        world.proxy.inject(verb="patch", path=f"/encryptedresources/{suffering[label]}/status", **fault)
        for label, fault in faults.items()
    ]
    await world.apply(suffering.values())
    await world.until_ready(suffering.values())
    assert all(fault.hits > 0 for fault in injected)
    assert world.operator.alive
    assert world.operator.process.pid == process
    return suffering, azure, kubernetes


async def test_a_status_write_that_fails_is_repeated_until_it_lands_once(world: World) -> None:
    suffering, azure, kubernetes = await _suffer(world, FAULTS)
    assert await world.patches(azure) == dict.fromkeys(suffering.values(), 1)
    landed = {label: len(world.status_writes(name, kubernetes)) for label, name in suffering.items()}
    assert landed == dict.fromkeys(FAULTS, 1)


async def test_a_status_write_whose_answer_is_lost_changes_the_object_once(world: World) -> None:
    suffering, azure, kubernetes = await _suffer(world, LOST_ANSWERS)
    assert await world.patches(azure) == dict.fromkeys(suffering.values(), 1)
    changes = {
        label: len({write.resource_version for write in world.status_writes(name, kubernetes)})
        for label, name in suffering.items()
    }
    assert changes == dict.fromkeys(LOST_ANSWERS, 1)


async def test_a_lost_answer_changes_the_object_once_although_no_watch_tells_of_it(world: World) -> None:
    await world.operator.with_settings()
    await world.foundation()
    (name,) = await world.accounts()
    kubernetes = world.proxy.position
    control = world.environment.control
    await control.inject(kind="delay", seconds=3, host="management.azure.com", method="PATCH", path=name, times=1)
    lost = world.proxy.inject("drop", "patch", f"/encryptedresources/{name}/status", after_delivery=True, times=3)

    async def is_being_encrypted() -> bool:
        return any(fault["hits"] for fault in await control.faults())

    await world.apply([name])
    await until("the request that encrypts the account", is_being_encrypted)
    silent = world.proxy.position
    world.proxy.silence_watches("/apis/cmk-operator.dev/")
    await world.until_ready([name])

    await until("the end of the silence", lambda: len(world.proxy.requests("watch", "/encryptedresources", silent)) > 0)
    assert lost.hits > 0
    assert len({write.resource_version for write in world.status_writes(name, kubernetes)}) == 1


async def test_a_change_by_us_is_never_told_as_found_in_azure_because_a_status_write_failed(world: World) -> None:
    await world.operator.with_settings()
    await world.foundation()
    (name,) = await world.accounts()
    world.proxy.inject("answer", "patch", f"/encryptedresources/{name}/status", status=500, times=2)
    written = world.operator.written

    await world.apply([name])
    await world.until_ready([name])

    (rotation,) = (await world.resource(name))["status"]["rotations"]
    assert rotation["by"] == "cmk-operator"
    assert rotation["requestId"]
    assert len(world.operator.lines(written, '"key changed"')) == 1
    assert world.operator.lines(written, "key change found") == []
