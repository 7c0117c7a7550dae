"""An API server that keeps some requests waiting, as a webhook of others does, costs no leadership."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.kubernetes.connection import CONNECTIONS
from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

LEASE = "/leases/cmk-operator"


async def _leads_on(world: World, since: int, renewals: int) -> None:
    """Wait until the lease has been renewed so often, by the same process."""

    def renewed() -> bool:
        return len([one for one in world.proxy.requests("update", LEASE, since) if one.status == 200]) >= renewals

    await until("renewals", lambda: renewed() or not world.operator.alive)
    assert world.operator.alive, world.operator.tail()


async def test_writes_that_are_kept_waiting_on_every_connection_do_not_cost_the_lease(world: World) -> None:
    await world.operator.with_settings(lease_duration=6)
    await world.foundation()
    names = await world.accounts(CONNECTIONS + 2)
    held = world.proxy.inject("hold", "patch", "/encryptedresources/.*/status", times=None)
    await world.apply(names)
    await until("every connection waits", lambda: held.hits >= CONNECTIONS)
    # So many take longer than the lease may go without one.
    await _leads_on(world, world.proxy.position, 10)
    world.proxy.clear()
    await world.until_ready(names)


async def test_a_renewal_that_conflicts_with_our_own_late_one_is_no_takeover(world: World) -> None:
    await world.operator.with_settings(lease_duration=6)
    since = world.proxy.position
    conflict = world.proxy.inject("answer", "update", LEASE, status=409)
    await until("a conflict", lambda: conflict.hits == 1)
    await _leads_on(world, since, 2)


async def test_renewals_that_are_answered_late_keep_the_lease(world: World) -> None:
    await world.operator.with_settings(lease_duration=6)
    # Later than the pause between two renewals, and in time for one of the two attempts until the lease must be given up.
    world.proxy.inject("delay", "update", LEASE, times=None, seconds=1.2)
    await _leads_on(world, world.proxy.position, 5)
