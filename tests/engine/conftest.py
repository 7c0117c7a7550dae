"""A cluster and an Azure of their own: operators act on the whole cluster, and these tests kill both operators and API servers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, SandboxControl
from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS
from sandbox.kubernetes import cluster as clusters
from sandbox.kubernetes.fault_proxy import FaultProxy
from sandbox.kubernetes.objects import Objects
from sandbox.operator_process import NAMESPACE as OPERATOR_NAMESPACE
from sandbox.operator_process import install_chart
from tests.conftest import ROOT
from tests.engine.operators import Operator
from tests.engine.world import World
from tests.environment import Environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster

NAME = "engine"


@pytest.fixture(scope="package")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="package")
def cluster(directory: Path) -> Iterator[Cluster]:
    running = clusters.start(directory / "kubernetes")
    definitions = ROOT / "crds"
    # The Secrets that these tests make or miss.
    install_chart(running, f"rbac.secrets[0].namespace={OPERATOR_NAMESPACE},rbac.secrets[0].names={{webhook,absent}}")
    running.kubectl("wait", "--for=condition=Established", "--timeout=60s", "--filename", str(definitions))
    yield running
    # A test may have replaced the API server.
    last = clusters.recorded(directory / "kubernetes")
    assert last is not None
    last.stop()


@pytest.fixture(scope="package")
def azure(directory: Path, cluster: Cluster) -> Iterator[AzureProcess]:
    from sandbox.azure import process  # noqa: PLC0415 -- collected faster without it

    running = process.start(directory / "azure", oidc_ca=cluster.ca_file)
    yield running
    running.stop()


@pytest.fixture(scope="package")
def proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    with FaultProxy(cluster.server, cluster.ca_file) as running:
        yield running


@pytest.fixture(scope="package")
def one_operator(cluster: Cluster, azure: AzureProcess, proxy: FaultProxy, directory: Path) -> Iterator[Operator]:
    operator = Operator(cluster, azure.env, directory, proxy.url)
    yield operator
    operator.stop()


@pytest.fixture(scope="package")
def prepared(cluster: Cluster, azure: AzureProcess) -> Environment:
    """Identities, consent, vault and key, made once; the sessions in it are closed."""

    async def prepare() -> Environment:
        async with AsyncExitStack() as stack:
            environment = await _connected(stack, cluster, azure.env)
            await environment.control.set_timings(**WITHOUT_LIMITS, **WITHOUT_DELAYS)
            identity = await environment.provider.prepare(issuer=cluster.issuer)
            environment = replace(environment, identity=identity)
            await environment.vault_with_key()
            await environment.provider.create_resource_group(environment.group)
            await environment.objects.create_namespace(NAME)
            return environment

    return asyncio.run(prepare())


async def _connected(stack: AsyncExitStack, cluster: Cluster, env: dict[str, str], identity: Any = None) -> Environment:
    return Environment(
        name=NAME,
        objects=await stack.enter_async_context(Objects(cluster)),
        provider=await stack.enter_async_context(ProviderAdministrator(env)),
        customer=await stack.enter_async_context(CustomerAdministrator(env)),
        control=await stack.enter_async_context(SandboxControl(env["SANDBOX_CONTROL"])),
        identity=identity,
        namespace=NAME,
    )


@pytest.fixture
async def world(
    prepared: Environment, cluster: Cluster, azure: AzureProcess, proxy: FaultProxy, one_operator: Operator
) -> AsyncIterator[World]:
    """The prepared environment with open sessions and no custom resources in the cluster.

    At the end faults are taken away, and nothing that the operator asked for may have been denied: the chart's RBAC is enough.
    """
    position = proxy.position
    async with AsyncExitStack() as stack:
        environment = await _connected(stack, cluster, azure.env, prepared.identity)
        world = World(environment, proxy, one_operator, cluster)
        yield world
        proxy.accept_connections()
        proxy.clear()
        await environment.control.clear_faults()
        await world.clean()
        denied = [request for request in proxy.requests(since=position) if request.status == 403 and not request.fault]
        assert world.forgive_refusals or denied == []
