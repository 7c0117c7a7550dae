"""An operator that is killed while Azure carries out a long operation asks after it when it is back, and starts no other."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.kubernetes.client import FIELD_MANAGER
from sandbox.kubernetes.objects import has
from tests.engine.operators import until
from tests.monitoring.live import Scrape, begun

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.world import World

SOON = {"drift_check_interval": 1, "key_check_interval": 1}


async def _operation(world: World, known: set[str]) -> str | None:
    operation: dict[str, Any] = (await world.resource("sql")).get("status", {}).get("operation") or {}
    url = operation.get("url")
    return None if url in known else url


async def _asked(world: World, url: str, since: int) -> bool:
    path = url.removeprefix("https://management.azure.com").split("?")[0]
    return bool(await world.environment.operator_requests(path, since, "GET"))


async def _aged(world: World, name: str, by: timedelta) -> None:
    """Make the times in the status of a resource earlier, as if the operator had written it then and had not run since."""
    found = await world.resource(name)
    status = found["status"]

    def earlier(told: dict[str, Any], field: str) -> None:
        told[field] = (datetime.fromisoformat(told[field]) - by).isoformat().replace("+00:00", "Z")

    for condition in status["conditions"]:
        earlier(condition, "lastTransitionTime")
    if "operation" in status:
        earlier(status["operation"], "startedAt")
    body = {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": {"name": name}, "status": status}
    path = f"{world.environment.objects.path('EncryptedResource', name, world.environment.namespace)}/status"
    await world.environment.objects.call(
        "PATCH", path, body, "application/apply-patch+yaml", fieldManager=FIELD_MANAGER, force="true"
    )


async def _scrape(world: World) -> Scrape:
    """The metrics, once they tell of the account and the operation."""
    for metric in ("cmk_key_version_lag_start_timestamp_seconds", "cmk_key_oldest_operation_start_timestamp_seconds"):
        await until(metric, partial(world.operator.metric, metric))
    return await world.operator.scrape()


async def _lagging(world: World) -> str:
    """The name of an account on a key that has a newer version since, to which Azure moves it within a day."""
    environment = world.environment
    await environment.customer.create_key(environment.vault, "aged")
    await environment.apply_key("aged", keyUri=environment.key_uri(key="aged"))
    (name,) = await world.accounts()
    await environment.apply_resource(name, keyRef={"name": "aged"})
    await world.until_ready([name])
    await environment.customer.new_version(environment.vault, "aged")
    await environment.resource_until("behind", has("KeyCurrent", "False", "AzureWillRotate"), name)
    return name


async def test_killed_in_the_middle_of_each_operation_of_a_sql_server_it_picks_each_up_and_starts_it_once(
    world: World, tmp_path: Path
) -> None:
    environment, control, sql = world.environment, world.environment.control, world.environment.provider.sql
    world.operator.stop()
    await world.operator.start(**SOON)
    await control.set_timings(sql_operation_seconds=0)
    await environment.provider.create_resource_group(environment.group)
    server = await sql.create_server(f"{environment.name}-killed", resource_group=environment.group)
    await sql.create_database(server, "orders")
    await world.foundation()
    behind = await _lagging(world)
    # Longer than any test: only the clock that is moved by hand ends them.
    await control.set_timings(sql_operation_seconds=100_000)
    since = await environment.position()
    await environment.apply_resource("sql", resourceId=server)
    asked: set[str] = set()
    young: list[Scrape] = []
    for number in range(3):
        url = await until("another operation", lambda: _operation(world, asked))
        asked.add(url)
        if number == 0:
            young.append(await _scrape(world))
        world.operator.kill()
        if number == 0:
            await _aged(world, behind, timedelta(hours=27))
            await _aged(world, "sql", timedelta(hours=3))
        position = await environment.position()
        await world.operator.start(**SOON)
        await until("asked after by the new process", partial(_asked, world, url, position))
        if number == 0:
            late = begun(young[0], await _scrape(world), tmp_path, namespace=environment.namespace)
            assert {"CmkKeyVersionLag", "CmkOperationStuck"} <= late, "their time goes on while no operator runs"
        await control.advance(100_001)
        # The operator was told to ask again much later; this asks for a pass now.
        requested = {"metadata": {"annotations": {RECONCILE_REQUESTED_AT: str(number)}}}
        await environment.objects.merge("EncryptedResource", "sql", requested, environment.namespace)
    await environment.resource_until("Ready", has("Ready"), "sql")
    await control.set_timings(sql_operation_seconds=0)
    writes = await environment.operator_requests(server, since, "PATCH", "PUT", "POST", "DELETE")
    assert len(writes) == 3, [f"{one['method']} {one['path']}" for one in writes]
    assert (await sql.protector(server))["serverKeyType"] == "AzureKeyVault"
