"""An operator that dies again and again before it has seen everything withdraws its claims all the same (law 10)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sandbox.kubernetes.objects import has
from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

SOON = {"key_check_interval": 4, "drift_check_interval": 4, "identity_check_interval": 4}
LIVES = 30
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/cmk-operator"


async def test_killed_again_and_again_before_a_whole_round_it_withdraws_what_nobody_has_seen(world: World) -> None:
    environment, operator = world.environment, world.operator
    operator.stop()
    await operator.start(**SOON)
    await world.foundation()
    await environment.key_until("Ready", has("Ready"))
    operator.kill()
    # No vault and no token endpoint answers: no process sees the key before it dies.
    await environment.control.inject(kind="hang", host="*.vault.azure.net")
    await environment.control.inject(kind="hang", host="login.microsoftonline.com")

    async def withdrawn() -> bool:
        status = (await environment.objects.get("CustomerManagedKey", "cmk", environment.namespace))["status"]
        return has("KeyAccessible", "Unknown", "NotSeenLately")(status)

    lives = 0
    while not await withdrawn():
        lives += 1
        assert lives < LIVES, "nobody has withdrawn anything"
        await operator.start(**SOON)
        await until("the lease renewed", partial(_is_renewed, world, await _renewed_at(world)))
        operator.kill()
    assert lives > 1, "no single life is as long as the limit"
    await environment.control.clear_faults()
    await operator.start(**SOON)
    await until("seen again", lambda: _is_ready(world))


async def _renewed_at(world: World) -> str:
    lease = await world.environment.objects.call("GET", LEASE)
    return str(lease["spec"]["renewTime"])


async def _is_renewed(world: World, before: str) -> bool:
    return await _renewed_at(world) > before


async def _is_ready(world: World) -> bool:
    found = await world.environment.objects.get("CustomerManagedKey", "cmk", world.environment.namespace)
    return has("Ready")(found["status"])
