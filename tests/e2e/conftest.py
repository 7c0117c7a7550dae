"""One operator process for all of these tests, as the chart installs it, on an API server and a simulated Azure of its own."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
from sandbox.azure import process as azure_process
from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS
from sandbox.kubernetes.objects import PLURALS, Objects, RefusedError, administrator_token
from sandbox.operator_process import install_chart, start_operator
from tests.conftest import running_cluster
from tests.e2e.session_log import faults_of_log
from tests.e2e.states import RecordedStates
from tests.environment import Environment
from tests.gitops.law import broken_laws
from tests.monitoring.live import Scrape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from sandbox.operator_process import OperatorProcess

KEY_CHECK_INTERVAL = 1
DRIFT_CHECK_INTERVAL = 1
IDENTITY_CHECK_INTERVAL = 2
SETTINGS = {
    "CMK_OPERATOR_KEY_CHECK_INTERVAL": str(KEY_CHECK_INTERVAL),
    "CMK_OPERATOR_DRIFT_CHECK_INTERVAL": str(DRIFT_CHECK_INTERVAL),
    "CMK_OPERATOR_IDENTITY_CHECK_INTERVAL": str(IDENTITY_CHECK_INTERVAL),
    "CMK_OPERATOR_REFERENCE_GRACE": "3",
    # The intervals above ask for more than these budgets, which are made for minutes, allow.
    "CMK_OPERATOR_ARM_READS": "100000",
    "CMK_OPERATOR_ARM_WRITES": "100000",
    "CMK_OPERATOR_STORAGE_READS": "100000",
    "CMK_OPERATOR_STORAGE_LISTS": "100000",
    "CMK_OPERATOR_STORAGE_WRITES": "100000",
    "CMK_OPERATOR_STORAGE_WRITES_PER_SECOND": "100000",
    "CMK_OPERATOR_VAULT_CALLS": "100000",
}
LONG_AGO = 1_000_000.0
"""Virtual seconds by which the provider's own grants are older than any test's, so that no test's delay undoes them."""
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="package")
def empty_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from running_cluster(tmp_path_factory.mktemp("kubernetes"))


@pytest.fixture(scope="package")
def azure(tmp_path_factory: pytest.TempPathFactory, empty_cluster: Cluster) -> Iterator[AzureProcess]:
    directory = tmp_path_factory.mktemp("azure")
    running = azure_process.start(directory, oidc_ca=empty_cluster.ca_file)
    yield running
    running.stop()


@pytest.fixture(scope="package")
def identity(azure: AzureProcess, empty_cluster: Cluster) -> ProviderIdentity:
    async def prepared() -> ProviderIdentity:
        async with SandboxControl(azure.env["SANDBOX_CONTROL"]) as control, ProviderAdministrator(azure.env) as provider:
            # The tests that are about Azure's delays turn them on.
            await control.set_timings(**WITHOUT_LIMITS, **WITHOUT_DELAYS)
            made = await provider.prepare(issuer=empty_cluster.issuer)
            await control.advance(LONG_AGO)
            return made

    return asyncio.run(prepared())


@pytest.fixture(scope="package")
def operator_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator")


@pytest.fixture(scope="package")
def operator_process(
    empty_cluster: Cluster, azure: AzureProcess, identity: ProviderIdentity, operator_directory: Path
) -> Iterator[OperatorProcess]:
    install_chart(empty_cluster)
    states = RecordedStates(empty_cluster, administrator_token(empty_cluster)).start()
    running = start_operator(empty_cluster, azure.env, operator_directory, SETTINGS)
    yield running
    found = states.stop()
    assert running.stop() == 0, "the operator did not end well at SIGTERM"
    assert broken_laws(found) == []
    assert faults_of_log(running.log.read_text(encoding="utf-8"), azure.env) == []
    assert asyncio.run(_refused_hosts(azure)) == [], "a host that is not Azure's was contacted"


async def _refused_hosts(azure: AzureProcess) -> list[dict[str, Any]]:
    async with SandboxControl(azure.env["SANDBOX_CONTROL"]) as control:
        return await control.refused_hosts()


@pytest.fixture(scope="package")
def token(empty_cluster: Cluster, operator_process: OperatorProcess) -> str:
    return administrator_token(empty_cluster)


@dataclass
class Operator:
    """The running operator as its metrics and its log show it."""

    process: OperatorProcess

    async def passes(self, kind: str, result: str = "done") -> int:
        """Passes over all objects of a kind (its plural) since the start."""
        text = await asyncio.to_thread(self.process.metrics)
        found = re.search(rf'cmk_reconcile_passes_total{{kind="{kind}",result="{result}"}} (\S+)', text)
        return int(float(found[1])) if found else 0

    async def status_writes(self) -> int:
        """Status writes of all kinds since the start."""
        text = await asyncio.to_thread(self.process.metrics)
        return int(sum(float(count) for count in re.findall(r"cmk_status_writes_total\{[^}]*\} (\S+)", text)))

    async def scrape(self, showing: str = "") -> Scrape:
        """The metrics, once they show this (a regular expression): they follow status a moment later."""
        found: list[str] = []

        async def shown() -> bool:
            found[:] = [await asyncio.to_thread(self.process.metrics)]
            return re.search(showing, found[0]) is not None

        await Environment.eventually(f"metrics that show {showing}", shown)
        return Scrape(time.time(), found[0])

    async def after_passes(self, count: int, kind: str = "encryptedresources") -> None:
        """Wait until `count` more passes over a kind have ended: the sign that what did not happen by then does not happen."""
        wanted = await self.passes(kind) + count
        await Environment.eventually(f"{count} passes over {kind}", lambda: self._reached(kind, wanted))

    async def _reached(self, kind: str, wanted: int) -> bool:
        return await self.passes(kind) >= wanted

    def log(self) -> str:
        """The whole log so far."""
        return self.process.log.read_text(encoding="utf-8")


@pytest.fixture
def operator(operator_process: OperatorProcess) -> Operator:
    return Operator(operator_process)


@pytest.fixture
async def control(azure: AzureProcess, identity: ProviderIdentity) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(azure.env["SANDBOX_CONTROL"]) as opened:
        before = await opened.timings()
        await opened.clear_requests()
        yield opened
        await opened.clear_faults()
        await opened.set_timings(**before)


@pytest.fixture
async def provider(azure: AzureProcess) -> AsyncIterator[ProviderAdministrator]:
    async with ProviderAdministrator(azure.env) as opened:
        yield opened


@pytest.fixture
async def customer(azure: AzureProcess) -> AsyncIterator[CustomerAdministrator]:
    async with CustomerAdministrator(azure.env) as opened:
        yield opened


@pytest.fixture
async def objects(empty_cluster: Cluster, token: str) -> AsyncIterator[Objects]:
    async with Objects(empty_cluster, token) as opened:
        yield opened
        await remove_all(opened)


async def remove_all(objects: Objects) -> None:
    """Delete every custom resource, past any finalizer: what a test leaves in Azure is only its own."""
    for kind in reversed(PLURALS):
        for item in await objects.all(kind):
            name, namespace = item["metadata"]["name"], item["metadata"].get("namespace", "")
            try:
                await objects.delete(kind, name, namespace)
                await objects.merge(kind, name, {"metadata": {"finalizers": None}}, namespace)
            except RefusedError as error:
                if error.status != 404:
                    raise


@pytest.fixture
def another_environment(
    objects: Objects,
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    control: SandboxControl,
    identity: ProviderIdentity,
    operator: Operator,
) -> Callable[[], Awaitable[Environment]]:
    async def make() -> Environment:
        name = f"e2e{next(_NUMBERS)}"
        await objects.create_namespace(name)
        return Environment(name, objects, provider, customer, control, identity, namespace=name)

    return make


@pytest.fixture
async def environment(another_environment: Callable[[], Awaitable[Environment]]) -> Environment:
    return await another_environment()
