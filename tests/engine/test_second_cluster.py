"""A second cluster with the same manifests: after a disaster, in a move, or beside the first one on one subscription."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes import cluster as clusters
from sandbox.kubernetes.objects import Objects, has
from sandbox.operator_process import NAMESPACE, SERVICE_ACCOUNT, install_chart
from tests.engine.operators import Operator, until
from tests.engine.world import KINDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from tests.engine.world import World
    from tests.environment import Environment

BUDGETS = ("arm_reads", "arm_writes", "storage_reads", "storage_lists", "storage_writes", "storage_writes_per_second")
SETTINGS = {"key_check_interval": 1, "drift_check_interval": 1, "identity_check_interval": 2, **dict.fromkeys(BUDGETS, 100_000)}


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with the chart and without any of our objects."""
    running = clusters.start(tmp_path_factory.mktemp("second"))
    install_chart(running, "networkPolicy.enabled=false")
    yield running
    running.stop()


@pytest.fixture
async def elsewhere(
    second: Cluster, world: World, azure: AzureProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Operator, Environment]]:
    """The second cluster's operator, not started yet, and the same Azure with the second cluster's objects.

    Its token for Entra is the first cluster's: the simulated Azure trusts one authority of issuers, and which of an identity's
    federated credentials is used makes no difference here.
    """
    directory = tmp_path_factory.mktemp("operator")
    operator = Operator(second, azure.env, directory, second.server)
    token = world.cluster.service_account_token(NAMESPACE, SERVICE_ACCOUNT, "api://AzureADTokenExchange", 7200)
    (directory / "azure-identity-token").write_text(token, encoding="ascii")
    async with Objects(second) as objects:
        await objects.create_namespace(world.environment.namespace)
        yield operator, replace(world.environment, objects=objects)
        operator.stop()


async def _manifests(environment: Environment) -> list[tuple[str, str, dict[str, Any], str]]:
    """What a backup or a Git repository holds: kind, name, spec and namespace, and no status."""
    return [
        (kind, item["metadata"]["name"], item["spec"], item["metadata"].get("namespace", ""))
        for kind in reversed(KINDS)
        for item in await environment.objects.all(kind)
    ]


async def _known(environment: Environment) -> list[Any]:
    """What the statuses know of Azure."""
    keys = await environment.objects.all("CustomerManagedKey")
    resources = await environment.objects.all("EncryptedResource")
    return [
        [(key["status"]["activeVersion"], sorted(key["status"]["usedBy"])) for key in keys],
        sorted((item["spec"]["resourceId"], item["status"]["applied"]["keyUri"]) for item in resources),
    ]


async def test_manifests_alone_bring_every_status_back_and_a_second_operator_fights_nobody_who_wants_the_same(
    world: World, elsewhere: tuple[Operator, Environment]
) -> None:
    operator, there = elsewhere
    here = world.environment
    await world.operator.with_settings(**SETTINGS)
    await world.foundation()
    await here.apply_key(rotation={"apply": "Immediately"})
    names = await world.accounts(2)
    await world.apply(names)
    await world.until_ready(names)
    await here.key_until("both users", lambda status: len(status.get("usedBy", ())) == len(names))
    before, manifests = await _known(here), await _manifests(here)
    world.operator.kill()

    since = await here.position()
    for manifest in manifests:
        await there.objects.apply(*manifest)
    await operator.start(**SETTINGS)
    for name in names:
        await there.resource_until("Ready in the new cluster", has("Ready"), name)
    await there.key_until("both users", lambda status: len(status.get("usedBy", ())) == len(names))
    assert await _known(there) == before, "status is rebuilt from nothing"
    assert await there.writes(since) == [], "and nothing is written twice"

    await world.operator.start(**SETTINGS)
    version = (await here.customer.new_version(here.vault, "cmk")).rpartition("/")[2]
    for environment in (here, there):
        for name in names:
            await environment.resource_until(
                "on the new version", lambda status: status["applied"]["version"] == version and has("Ready")(status), name
            )
    written = await here.writes(since)
    assert len(names) <= len(written) <= 2 * len(names), "each operator writes the same, once"
    since = await here.position()
    await until("three looks by each", lambda: _lists(here, since, 6))
    assert await here.writes(since) == [], "two that want the same leave each other alone"

    await here.customer.create_key(here.vault, "other")
    await there.apply_key(keyUri=there.key_uri(key="other"), rotation={"apply": "Immediately"})

    async def contested() -> bool:
        found = [item for one in (here, there) for item in await one.objects.all("EncryptedResource")]
        return any(has("Ready", "False", "Contested")(item["status"]) for item in found)

    await until("one that says that it is contested", contested)


async def _lists(environment: Environment, since: int, count: int) -> bool:
    return len(await environment.operator_requests("/storageAccounts", since, "GET")) >= count
