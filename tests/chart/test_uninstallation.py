"""Uninstalling under a running operator: Azure stays as it is, and what stays in the cluster is what the notes say."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, SandboxControl
from sandbox.azure import process as azure_process
from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS
from sandbox.kubernetes.objects import Objects
from sandbox.operator_process import NAMESPACE, RELEASE, install_chart, start_operator
from tests.chart.conftest import helm
from tests.conftest import running_cluster
from tests.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster

pytestmark = pytest.mark.cluster

NAME = "leaving"
CHANGES = {"PUT", "PATCH", "DELETE"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    yield from running_cluster(tmp_path / "kubernetes")


@pytest.fixture
def azure(tmp_path: Path, cluster: Cluster) -> Iterator[AzureProcess]:
    running = azure_process.start(tmp_path / "azure", oidc_ca=cluster.ca_file)
    yield running
    running.stop()


async def test_uninstalling_changes_nothing_in_azure_and_leaves_what_the_notes_say(
    cluster: Cluster, azure: AzureProcess, tmp_path: Path
) -> None:
    install_chart(cluster)
    async with AsyncExitStack() as stack:
        environment = await _ready(stack, cluster, azure)
        operator = start_operator(cluster, azure.env, tmp_path / "operator")
        try:
            await environment.ready()
            encryption, objects = await environment.encryption(), await _statuses(environment)
            position = await environment.position()
            notes = _helm(cluster, "get", "notes")
            said = _helm(cluster, "uninstall")
        finally:
            ended = operator.stop()

        assert ended == 0, "it ends well although its rights went first"
        assert await environment.encryption() == encryption
        assert encryption["keySource"] == "Microsoft.Keyvault"
        assert await _statuses(environment) == objects
        assert [each for each in await environment.control.requests(position) if each["method"] in CHANGES] == []
    kept = _named(cluster, "customresourcedefinitions")
    assert kept
    assert all(f"[CustomResourceDefinition] {name}" in said for name in kept)
    record = _named(cluster, "configmaps", NAMESPACE) - {"kube-root-ca.crt"}
    assert (_named(cluster, "leases", "kube-system") & {"cmk-operator"}, "cmk-operator-audit" in record) == (
        {"cmk-operator"},
        True,
    )
    assert all(name.startswith("cmk-operator-audit") for name in record)
    for kind in ("deployments", "serviceaccounts", "roles", "services"):
        assert not [name for name in _named(cluster, kind, NAMESPACE) if "cmk" in name]
    for told in ("changes nothing in Azure", "cmk-operator-audit", "Lease cmk-operator in kube-system", "definitions"):
        assert told in notes


async def _ready(stack: AsyncExitStack, cluster: Cluster, azure: AzureProcess) -> Environment:
    environment = Environment(
        name=NAME,
        objects=await stack.enter_async_context(Objects(cluster)),
        provider=await stack.enter_async_context(ProviderAdministrator(azure.env)),
        customer=await stack.enter_async_context(CustomerAdministrator(azure.env)),
        control=await stack.enter_async_context(SandboxControl(azure.env["SANDBOX_CONTROL"])),
        identity=None,  # type: ignore[arg-type]  # made below
        namespace=NAME,
    )
    await environment.control.set_timings(**WITHOUT_LIMITS, **WITHOUT_DELAYS)
    await environment.objects.create_namespace(NAME)
    return replace(environment, identity=await environment.provider.prepare(issuer=cluster.issuer))


async def _statuses(environment: Environment) -> dict[str, Any]:
    return {
        f"{kind} {item['metadata']['name']}": (item["metadata"]["uid"], item["spec"], item["status"]["conditions"])
        for kind in ("FederatedIdentity", "CustomerTenant", "CustomerManagedKey", "EncryptedResource")
        for item in await environment.objects.all(kind)
    }


def _helm(cluster: Cluster, *command: str) -> str:
    return helm(*command, RELEASE, "--kubeconfig", cluster.kubeconfig, "--namespace", NAMESPACE)


def _named(cluster: Cluster, kind: str, namespace: str = "default") -> set[str]:
    path = "jsonpath={.items[*].metadata.name}"
    return set(cluster.kubectl("get", kind, "--namespace", namespace, "--output", path).split())
