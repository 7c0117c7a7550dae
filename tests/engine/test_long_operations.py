"""An operator that is killed while Azure carries out a long operation asks after it when it is back, and starts no other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from sandbox.kubernetes.objects import has
from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

SOON = {"drift_check_interval": 1, "key_check_interval": 1}


async def _operation(world: World, known: set[str]) -> str | None:
    operation: dict[str, Any] = (await world.resource("sql")).get("status", {}).get("operation") or {}
    url = operation.get("url")
    return None if url in known else url


async def _asked(world: World, url: str, since: int) -> bool:
    path = url.removeprefix("https://management.azure.com").split("?")[0]
    return bool(await world.environment.operator_requests(path, since, "GET"))


async def test_killed_in_the_middle_of_each_operation_of_a_sql_server_it_picks_each_up_and_starts_it_once(world: World) -> None:
    environment, control, sql = world.environment, world.environment.control, world.environment.provider.sql
    world.operator.stop()
    await world.operator.start(**SOON)
    await control.set_timings(sql_operation_seconds=0)
    await environment.provider.create_resource_group(environment.group)
    server = await sql.create_server(f"{environment.name}-killed", resource_group=environment.group)
    await sql.create_database(server, "orders")
    await world.foundation()
    # Longer than any test: only the clock that is moved by hand ends them.
    await control.set_timings(sql_operation_seconds=100_000)
    since = await environment.position()
    await environment.apply_resource("sql", resourceId=server)
    asked: set[str] = set()
    for number in range(3):
        url = await until("another operation", lambda: _operation(world, asked))
        asked.add(url)
        world.operator.kill()
        position = await environment.position()
        await world.operator.start(**SOON)
        await until("asked after by the new process", partial(_asked, world, url, position))
        await control.advance(100_001)
        # The operator was told to ask again much later; this asks for a pass now.
        requested = {"metadata": {"annotations": {RECONCILE_REQUESTED_AT: str(number)}}}
        await environment.objects.merge("EncryptedResource", "sql", requested, environment.namespace)
    await environment.resource_until("Ready", has("Ready"), "sql")
    await control.set_timings(sql_operation_seconds=0)
    writes = await environment.operator_requests(server, since, "PATCH", "PUT", "POST", "DELETE")
    assert len(writes) == 3, [f"{one['method']} {one['path']}" for one in writes]
    assert (await sql.protector(server))["serverKeyType"] == "AzureKeyVault"
