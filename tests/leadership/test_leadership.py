"""Two operators, one of which works; the other is there at once when the first ends."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes import cluster as clusters
from sandbox.kubernetes.objects import Objects, RefusedError
from sandbox.operator_process import NAMESPACE, OperatorProcess, install_chart, start_operator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster

pytestmark = pytest.mark.cluster
LEASES = "kube-system"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases/cmk-operator"
DURATION = 6
SPEC = {
    "tenantId": "00000000-0000-0000-0000-000000000001",
    "application": {"clientId": "00000000-0000-0000-0000-000000000002"},
    "managedIdentity": {
        "clientId": "00000000-0000-0000-0000-000000000003",
        "resourceId": "/subscriptions/00000000-0000-0000-0000-000000000004/resourceGroups/g/providers"
        "/Microsoft.ManagedIdentity/userAssignedIdentities/i",
    },
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server of its own: these operators must not meet those of other tests."""
    running = clusters.start(tmp_path_factory.mktemp("kubernetes"))
    install_chart(running)
    yield running
    running.stop()


@pytest.fixture
def pair(cluster: Cluster, azure: AzureProcess, tmp_path: Path) -> Iterator[dict[str, OperatorProcess]]:
    """The operators `first` and `second`, started in that order with a short lease; whoever held it before has ended."""
    cluster.kubectl("delete", "lease", "cmk-operator", "--namespace", LEASES, "--ignore-not-found")
    settings = {"CMK_OPERATOR_LEASE_DURATION": str(DURATION), "CMK_OPERATOR_KEY_CHECK_INTERVAL": "1"}
    operators: dict[str, OperatorProcess] = {}
    try:
        for name in ("first", "second"):
            operators[name] = start_operator(cluster, azure.env, tmp_path / name, {**settings, "HOSTNAME": name})
            if name == "first":
                asyncio.run(_led_by(cluster, "first"))
        yield operators
    finally:
        for operator in operators.values():
            operator.stop()
        cluster.kubectl("delete", "federatedidentities", "--all")


async def _led_by(cluster: Cluster, name: str, patience: float = 60.0) -> dict[str, Any]:
    deadline = time.monotonic() + patience
    async with Objects(cluster) as objects:
        while True:
            try:
                spec: dict[str, Any] = (await objects.call("GET", LEASE))["spec"]
            except RefusedError:
                spec = {}
            if spec.get("holderIdentity") == f"{NAMESPACE}/{name}":
                return spec
            assert time.monotonic() < deadline, f"awaited: the lease held by {name!r}; seen: {spec}"
            await asyncio.sleep(0.05)


async def _is_served(cluster: Cluster, name: str) -> None:
    async with Objects(cluster) as objects:
        await objects.apply("FederatedIdentity", name, SPEC)
        await objects.until("seen", "FederatedIdentity", name, lambda status: status.get("observedGeneration") == 1)


def _passes(operator: OperatorProcess) -> float:
    return sum(
        float(value) for value in re.findall(r"^cmk_reconcile_passes_total\{.*\} (\S+)$", operator.metrics(), re.MULTILINE)
    )


def test_a_standby_watches_and_does_and_tells_nothing_while_the_leader_works(
    cluster: Cluster, pair: dict[str, OperatorProcess]
) -> None:
    asyncio.run(_is_served(cluster, "leadership-standby"))
    assert _passes(pair["first"]) > 0
    assert _passes(pair["second"]) == 0
    first, second = pair["first"].metrics(), pair["second"].metrics()
    assert "\ncmk_operator_leading 1.0\n" in first
    assert '\ncmk_identity_ready{name="leadership-standby"} 0.0\n' in first
    assert "\ncmk_operator_leading 0.0\n" in second
    assert not re.findall(r"^cmk_(?:identity|tenant|key|resource|queue|azure)_\w+(?:\{.*\})? \S+$", second, re.MULTILINE)


def test_a_leader_that_is_told_to_end_gives_the_lease_up_and_the_standby_goes_on(
    cluster: Cluster, pair: dict[str, OperatorProcess]
) -> None:
    assert pair["first"].stop() == 0
    spec = asyncio.run(_led_by(cluster, "second"))
    assert spec["leaseTransitions"] >= 1
    asyncio.run(_is_served(cluster, "leadership-released"))


def test_the_lease_of_a_leader_that_died_expires_and_the_standby_goes_on(
    cluster: Cluster, pair: dict[str, OperatorProcess]
) -> None:
    pair["first"].kill()
    asyncio.run(_led_by(cluster, "second"))
    asyncio.run(_is_served(cluster, "leadership-expired"))


def test_a_restarted_leader_of_the_same_name_goes_on_at_once(
    cluster: Cluster, azure: AzureProcess, pair: dict[str, OperatorProcess], tmp_path: Path
) -> None:
    pair["second"].stop()
    before = asyncio.run(_led_by(cluster, "first"))
    pair["first"].kill()
    pair["first"] = start_operator(cluster, azure.env, tmp_path / "again", {"HOSTNAME": "first"})
    asyncio.run(_is_served(cluster, "leadership-restarted"))
    assert asyncio.run(_led_by(cluster, "first"))["leaseTransitions"] == before["leaseTransitions"]


def test_a_leader_whose_lease_was_taken_stops_working_and_ends(cluster: Cluster, pair: dict[str, OperatorProcess]) -> None:
    async def take() -> None:
        async with Objects(cluster) as objects:
            spec = {"holderIdentity": "somebody-else", "renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 600}
            await objects.call("PATCH", LEASE, {"spec": spec}, "application/merge-patch+json")

    asyncio.run(take())
    assert pair["first"].process.wait(30) == 1
    assert "the lease was taken over" in pair["first"].log.read_text(encoding="utf-8")
