"""Releases that share a cluster: of one class one acts, whatever their namespaces; of two classes each serves its own."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from sandbox.kubernetes import cluster as clusters
from sandbox.kubernetes.objects import Objects
from sandbox.operator_process import NAMESPACE, OperatorProcess, install_chart, start_operator
from tests.engine.operators import until
from tests.leadership.test_leadership import SPEC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster

    Start: TypeAlias = Callable[[str], OperatorProcess]

pytestmark = pytest.mark.cluster
SETTINGS = {"CMK_OPERATOR_KEY_CHECK_INTERVAL": "1", "CMK_OPERATOR_IDENTITY_CHECK_INTERVAL": "1"}
BESIDE = ("crds.enabled=false", "rbac.aggregateClusterRoles=false")
TENANT = {
    "tenantId": "00000000-0000-0000-0000-000000000009",
    "allowedNamespaces": ["team"],
    "allowedScopes": ["/subscriptions/00000000-0000-0000-0000-000000000004/resourceGroups/g"],
    "allowedVaults": ["contoso.vault.azure.net"],
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server of its own: these operators must not meet those of other tests."""
    running = clusters.start(tmp_path_factory.mktemp("kubernetes"))
    install_chart(running)
    install_chart(running, *BESIDE, release="second", namespace="second")
    install_chart(running, *BESIDE, "operatorClass=blue", release="blue", namespace="blue")
    yield running
    running.stop()


@pytest.fixture
def start(cluster: Cluster, azure: AzureProcess, tmp_path: Path) -> Iterator[Start]:
    """Starts the operator of a release, by its namespace."""
    running: list[OperatorProcess] = []

    def of(namespace: str) -> OperatorProcess:
        settings = {**SETTINGS, "HOSTNAME": "operator"}
        running.append(start_operator(cluster, azure.env, tmp_path / namespace, settings, namespace=namespace))
        return running[-1]

    yield of
    for operator in running:
        operator.stop()
    for kind in ("customertenants", "federatedidentities"):
        cluster.kubectl("delete", kind, "--all")


def _passes(operator: OperatorProcess, kind: str) -> float:
    found = re.findall(rf'^cmk_reconcile_passes_total{{kind="{kind}",.*}} (\S+)$', operator.metrics(), re.MULTILINE)
    return sum(float(value) for value in found)


async def _apply(objects: Objects, name: str, **spec: Any) -> None:
    await objects.apply("FederatedIdentity", name, {**SPEC, **spec})
    await objects.apply("CustomerTenant", name, {**TENANT, "identityRef": {"name": name}})


async def _served(objects: Objects, name: str) -> None:
    for kind in ("FederatedIdentity", "CustomerTenant"):
        await objects.until("served", kind, name, lambda status: status.get("observedGeneration", -1) >= 1)


def test_a_second_release_of_the_same_class_stands_by_and_says_for_whom(cluster: Cluster, start: Start) -> None:
    first, second = start(NAMESPACE), start("second")

    async def story() -> None:
        async with Objects(cluster) as objects:
            await _apply(objects, "one")
            await _served(objects, "one")

    asyncio.run(story())
    assert "\ncmk_operator_leading 1.0\n" in first.metrics()
    assert "\ncmk_operator_leading 0.0\n" in second.metrics()
    assert _passes(second, "federatedidentities") == 0
    assert f"{NAMESPACE}/operator" in second.log.read_text(encoding="utf-8")


def test_an_operator_serves_only_its_class_and_what_rests_on_it(cluster: Cluster, start: Start) -> None:
    blue = start("blue")

    async def alone() -> None:
        async with Objects(cluster) as objects:
            await _apply(objects, "plain")
            await _apply(objects, "azure", operatorClass="blue")
            await _served(objects, "azure")
            wanted = _passes(blue, "federatedidentities") + 3
            await until("three passes over its own", lambda: _passes(blue, "federatedidentities") >= wanted)
            for kind in ("FederatedIdentity", "CustomerTenant"):
                status = (await objects.get(kind, "plain")).get("status", {})
                assert status.get("observedGeneration", -1) < 0, "nobody serves the default class"

    asyncio.run(alone())
    assert 'name="azure"' in blue.metrics()
    assert 'name="plain"' not in blue.metrics()
    plain = start(NAMESPACE)

    async def together() -> None:
        async with Objects(cluster) as objects:
            await _served(objects, "plain")
            # Handed over: the other operator serves it from now on.
            await objects.merge("FederatedIdentity", "azure", {"spec": {"operatorClass": None}})
            await objects.until("handed over", "FederatedIdentity", "azure", lambda status: status["observedGeneration"] == 2)

    asyncio.run(together())
    assert "\ncmk_operator_leading 1.0\n" in plain.metrics()
    assert "\ncmk_operator_leading 1.0\n" in blue.metrics()
    assert 'name="azure"' in plain.metrics()
    assert 'cmk_identity_ready{name="azure"}' not in blue.metrics()
