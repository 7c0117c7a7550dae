"""The same customers against the operator's own process, which is killed at random times while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.operators import Operator, until
from tests.soak.actions import act, restore
from tests.soak.ground import opened
from tests.soak.ledger import Ledger
from tests.soak.statements import recorded, unsettled
from tests.soak.steps import CUSTOMER, Picks, steps_of
from tests.soak.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster

pytestmark = pytest.mark.cluster
ACTIONS_PLAYED = 60
KILLED_EVERY = 15
SETTINGS = {
    "key_check_interval": 1,
    "drift_check_interval": 1,
    "identity_check_interval": 1,
    "arm_reads": 100_000,
    "arm_writes": 100_000,
    "storage_reads": 100_000,
    "storage_lists": 100_000,
    "storage_writes": 100_000,
    "storage_writes_per_second": 100_000,
    "vault_calls": 100_000,
}


async def test_killed_while_customers_act_it_keeps_the_laws_and_ends_where_it_must(
    directory: Path, cluster: Cluster, azure: AzureProcess
) -> None:
    operator = Operator(cluster, azure.env, directory, cluster.server)
    async with opened(cluster, azure.env, directory) as ground:
        world = await World.made(ground, "storage", 0.0)
        ledger = Ledger(world)
        await ledger.begin()
        world.changed = ledger.take_permissions
        ledger.step_begins()
        try:
            operator.launch(**SETTINGS)
            await _act(world, ledger, operator)
            await restore(world, Picks(0))

            async def settled() -> bool:
                await ledger.check(ended_late=True)
                await ledger.others_acted()
                await world.refresh()
                await world.read_statuses()
                return not unsettled(world, ledger)

            await until("everything where it must be", settled, 60.0)
            await recorded(world, [])
        finally:
            operator.stop()
            await world.close()


async def _act(world: World, ledger: Ledger, operator: Operator) -> None:
    possible = [step for step in steps_of("killed", 2000) if step.what in CUSTOMER and step.what != "drift"]
    for number, step in enumerate(possible[:ACTIONS_PLAYED], 1):
        # Nothing is awaited between two actions but the answers of servers: the operator works meanwhile, at its own pace.
        await act(step.what, world, Picks(step.pick))
        await ledger.check(ended_late=True)
        await world.refresh()
        if number % KILLED_EVERY == 0:
            operator.kill()
            await ledger.check(ended_late=True)
            ledger.forget_proofs()
            await restore(world, Picks(step.pick))
            operator.launch(**SETTINGS)
            await operator.until_ready()
