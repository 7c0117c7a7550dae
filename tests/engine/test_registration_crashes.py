"""An operator that is killed at a write of a registration, its work done and unseen, registers everything once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kubernetes.objects import has
from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

NAME = "killed"
WRITES = (
    ("graph.microsoft.com", "PATCH", "uniqueName"),
    ("management.azure.com", "PUT", rf"userAssignedIdentities/{NAME}/federatedIdentityCredentials"),
)
"""The first of each service; every other is repeated in the same way, which tests/unit/test_registration.py proves from any start."""


async def test_killed_after_a_write_it_goes_on_where_it_was_and_makes_nothing_twice(world: World) -> None:
    environment, provider = world.environment, world.environment.provider
    registrar = await provider.prepare_registrar(issuer=world.cluster.issuer)
    for host, method, path in WRITES:
        await environment.control.inject(kind="hang", host=host, method=method, path=path, after_effect=True, times=1)

    async def struck() -> int:
        return sum(fault["hits"] for fault in await environment.control.faults())

    await world.operator.with_settings(identity_check_interval=1)
    display_name = "CMK of the killed"
    identity_id = f"{registrar.resource_group_id}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{NAME}"
    await environment.apply_identity(
        application={"register": {"displayName": display_name}},
        managedIdentity={"resourceId": identity_id, "register": {"location": "westeurope"}},
        registrar={"clientId": registrar.client_id},
    )
    for count in range(1, len(WRITES) + 1):

        async def reached(wanted: int = count) -> bool:
            return await struck() == wanted

        await until(f"write number {count}", reached)
        world.operator.kill()
        await world.operator.start(identity_check_interval=1)
    status = await environment.objects.until("Ready", "FederatedIdentity", environment.name, has("Ready"))
    found = (await provider.graph.json("GET", f"/applications?$filter=displayName eq '{display_name}'"))["value"]
    assert [one["appId"] for one in found] == [status["application"]["clientId"]]
    assert len(await provider.federated_credentials(found[0]["appId"])) == 1
    listed = await provider.arm.json("GET", f"{identity_id}/federatedIdentityCredentials?api-version=2024-11-30")
    assert len(listed["value"]) == 1
