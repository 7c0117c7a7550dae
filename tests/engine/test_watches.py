"""Whatever happens to the watches, everything that changed meanwhile is handled, by the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.operators import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kubernetes.fault_proxy import Fault
    from tests.engine.world import World

OURS = "/apis/cmk-operator.dev/v1alpha1/"
RESOURCES = f"{OURS}encryptedresources"


async def _gap(world: World, begin: Callable[[], object], end: Callable[[], object] = lambda: None) -> None:
    """Create, change and delete resources while something is wrong with the watches, and see all of it handled."""
    await world.operator.with_settings()
    await world.foundation()
    changed, deleted, *_ = before = await world.accounts(3)
    await world.apply(before)
    await world.until_ready(before)
    process, azure = world.operator.process.pid, await world.environment.position()

    begin()
    created = await world.accounts(2)
    await world.apply(created)
    await world.environment.apply_resource(changed, deletionPolicy="Orphan")
    await world.environment.objects.delete("EncryptedResource", deleted, world.environment.namespace)
    end()

    await world.until_ready([*created, changed], patience=60)
    await world.environment.key_until(
        "a usage without the deleted resource", lambda status: status["usedByCount"] == 4 and deleted not in status["usedBy"]
    )
    assert await world.patches(azure) == dict.fromkeys(created, 1)
    assert world.operator.alive
    assert world.operator.process.pid == process


@pytest.mark.parametrize("code", [410, 429, 500])
async def test_a_watch_that_ends_with_an_error_event_loses_nothing(world: World, code: int) -> None:
    def begin() -> None:
        world.proxy.inject("answer", "watch|list", RESOURCES, status=500, times=2)
        assert world.proxy.end_watches(RESOURCES, code) == 1

    await _gap(world, begin)


@pytest.mark.parametrize("statuses", [(401, 403, 404), (410, 500, 503)], ids=str)
async def test_a_watch_that_is_refused_for_a_while_loses_nothing(world: World, statuses: tuple[int, ...]) -> None:
    world.operator.stop()
    await world.operator.with_settings()

    refusals: list[Fault] = []

    def begin() -> None:
        # kopf repeats a 5xx by itself, at most five times.
        for status in statuses:
            times = 5 if status >= 500 else 1
            refusals.append(world.proxy.inject("answer", "watch", RESOURCES, status=status, times=times))
        assert world.proxy.cut_watches(RESOURCES) == 1

    await _gap(world, begin)
    await until("every refusal", lambda: all(fault.hits == fault.times for fault in refusals))
    await until("a watch after all", lambda: world.proxy.open_watches(RESOURCES) == 1)


async def test_a_watch_that_falls_silent_is_replaced(world: World) -> None:
    await _gap(world, lambda: world.proxy.silence_watches(OURS))


async def test_a_watch_that_is_cut_twenty_times_loses_nothing(world: World) -> None:
    cuts = 0

    def cut() -> bool:
        nonlocal cuts
        cuts += world.proxy.cut_watches(RESOURCES)
        return cuts >= 20

    await world.operator.with_settings()
    await world.foundation()
    names = await world.accounts(20)
    azure = await world.environment.position()
    for name in names:
        await world.apply([name])
        cut()
    await until("twenty cuts", cut)
    await world.until_ready(names)
    assert await world.patches(azure) == dict.fromkeys(names, 1)


async def test_a_list_that_is_cut_in_the_middle_is_repeated(world: World) -> None:
    await world.operator.with_settings()
    await world.foundation()
    names = await world.accounts(4)
    world.operator.stop()
    await world.apply(names)
    cut = world.proxy.inject("truncate", "list", RESOURCES, times=3)
    await world.operator.start()
    await world.until_ready(names)
    assert cut.hits == 3


async def test_an_api_server_that_cannot_be_reached_for_a_while_loses_nothing(world: World) -> None:
    await _gap(world, world.proxy.refuse_connections, world.proxy.accept_connections)
