"""Ended at any moment, the next start finishes what was begun, and does nothing twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from sandbox.kubernetes.objects import has
from tests.engine.operators import until

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.engine.world import World

ENDINGS = 10
WORKERS = 4
RESOURCES = 60
SOON = {"drift_check_interval": 2, "key_check_interval": 2}


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM"])
async def test_ended_ten_times_while_sixty_resources_are_worked_on_all_are_finished(world: World, signal: str) -> None:
    settings = {"workers": WORKERS, **SOON}
    world.operator.stop()
    await world.operator.start(**settings)
    await world.foundation()
    names = await world.accounts(RESOURCES)
    azure = await world.environment.position()
    slow = await world.environment.control.inject(kind="delay", method="PATCH", path="storageAccounts", seconds=0.1)

    async def begun() -> int:
        return sum(fault["hits"] for fault in await world.environment.control.faults() if fault["id"] == slow)

    await world.apply(names)
    for ending in range(ENDINGS):
        least = 2 + ending * 4

        async def in_the_middle(least: int = least) -> bool:
            return await begun() >= least

        await until(f"{least} changes begun", in_the_middle)
        if signal == "SIGKILL":
            world.operator.kill()
        else:
            assert world.operator.stop() == 0
        await world.operator.start(**settings)
    await world.until_ready(names)

    patches = await world.patches(azure)
    assert set(patches) == set(names), "every account was changed, and no other"
    if signal == "SIGTERM":
        assert set(patches.values()) == {1}, "a running change is finished and reported before the process ends"
    assert max(patches.values()) <= 1 + ENDINGS
    assert sum(patches.values()) <= RESOURCES + ENDINGS * WORKERS
    assert all([await world.encrypted(name) for name in names])
    await _restart_is_silent(world, settings)


async def _restart_is_silent(world: World, settings: dict[str, int]) -> None:
    await world.environment.key_until(
        "all counted",
        # What an earlier test left on the key in Azure counts as well.
        lambda status: (
            status["usedByCount"] == RESOURCES
            and status["versions"][0].get("inUseByCount", 0) - status.get("withoutManifestCount", 0) == RESOURCES
        ),
    )
    # The tenant's hand-over tells of all manifests, and is written at the tenant's own pass: none may be left for the next start.
    asked = {"metadata": {"annotations": {RECONCILE_REQUESTED_AT: "now"}}}
    tenant = world.environment.name
    await world.environment.objects.merge("CustomerTenant", tenant, asked)
    await world.environment.objects.until(
        "an echo", "CustomerTenant", tenant, lambda status: status.get("lastHandledReconcileAt") == "now"
    )
    world.operator.stop()
    azure, kubernetes = await world.environment.position(), world.proxy.position
    await world.operator.start(**settings)

    def passed(kind: str) -> float:
        return world.operator.metric("cmk_reconcile_passes_total", kind=kind, result="done")

    await until(
        "a pass over everything", lambda: passed("encryptedresources") >= RESOURCES and passed("customermanagedkeys") >= 2
    )
    assert await world.patches(azure) == {}
    assert [one.path for one in world.proxy.requests("patch|create", "/cmk-operator.dev/|/events", kubernetes)] == []


async def test_sigterm_lets_a_running_change_and_its_status_land(world: World) -> None:
    await world.operator.with_settings()
    await world.foundation()
    (name,) = await world.accounts()
    azure = await world.environment.position()
    slow = await world.environment.control.inject(kind="delay", method="PATCH", path="storageAccounts", seconds=2)

    async def begun() -> bool:
        return any(fault["hits"] for fault in await world.environment.control.faults() if fault["id"] == slow)

    await world.apply([name])
    await until("a change begun", begun)
    assert world.operator.stop() == 0

    assert name in await world.ready()
    assert await world.patches(azure) == {name: 1}


@dataclass(frozen=True)
class Point:
    """One write of a flow: in Azure (no verb), or on the API server by verb and path (`{name}` is the resource's)."""

    what: str
    verb: str = ""
    path: str = "storageAccounts"


CREATION = (
    Point("finalizer", "patch", r"/encryptedresources/{name}\?"),
    Point("change in Azure"),
    Point("event", "create", "/events"),
    Point("status", "patch", "/encryptedresources/{name}/status"),
    Point("status of the key", "patch", "/customermanagedkeys/cmk/status"),
)
DELETION = (Point("change in Azure"), Point("finalizer", "patch", r"/encryptedresources/{name}\?"))
MOMENTS = {"before": False, "after": True}


async def _kill_at(world: World, point: Point, name: str, begin: Awaitable[None], *, after: bool) -> None:
    """Kill the operator while a write that `begin` leads to is on its way, or while its answer is."""
    if point.verb:
        held = world.proxy.inject("hold", point.verb, point.path.format(name=name), after_delivery=after)
        await begin
        await until(point.what, lambda: held.hits and (not after or _delivered(world)))
    else:

        async def arrived() -> bool:
            return any(fault["hits"] for fault in await world.environment.control.faults())

        await world.environment.control.inject(kind="hang", method="PATCH", path=point.path, after_effect=after, times=1)
        await begin
        await until(point.what, arrived)
    world.operator.kill()
    world.proxy.clear()
    await world.environment.control.clear_faults()


def _delivered(world: World) -> bool:
    held = [one for one in world.proxy.requests("patch|create") if one.fault == "hold"]
    return held[-1].delivered


@pytest.mark.parametrize("after", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("point", CREATION, ids=lambda point: point.what)
async def test_killed_at_a_write_of_a_creation_the_next_start_finishes_it(world: World, point: Point, *, after: bool) -> None:
    await world.operator.with_settings(**SOON)
    await world.foundation()
    (name,) = await world.accounts()
    azure = await world.environment.position()

    await _kill_at(world, point, name, world.apply([name], deletionPolicy="RevertToPlatformKey"), after=after)
    await world.operator.start(**SOON)

    await world.until_ready([name])
    assert (await world.resource(name))["metadata"]["finalizers"] == ["cmk-operator.dev/revert-to-platform-key"]
    assert await world.encrypted(name)
    assert (await world.patches(azure))[name] <= 2
    await world.environment.key_until("counted", lambda status: status.get("usedBy") == [name])


@pytest.mark.parametrize("after", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("point", DELETION, ids=lambda point: point.what)
async def test_killed_at_a_write_of_a_reversion_the_next_start_finishes_it(world: World, point: Point, *, after: bool) -> None:
    await world.operator.with_settings(**SOON)
    await world.foundation()
    (name,) = await world.accounts()
    await world.apply([name], deletionPolicy="RevertToPlatformKey")
    await world.until_ready([name])
    await world.environment.key_until("counted", lambda status: status.get("usedBy") == [name])
    azure = await world.environment.position()

    deletion = world.environment.objects.delete("EncryptedResource", name, world.environment.namespace)
    await _kill_at(world, point, name, deletion, after=after)
    await world.operator.start(**SOON)

    await world.environment.objects.until_gone("EncryptedResource", name, world.environment.namespace)
    assert (await world.environment.encryption(name))["keySource"] == "Microsoft.Storage"
    assert (await world.patches(azure))[name] <= 2
    await world.environment.key_until("no longer counted", lambda status: status["usedByCount"] == 0)
    await world.environment.key_until("Ready", has("Ready"))
