"""What all tests share: one local API server and one simulated Azure for the whole run, started when a test first asks."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster

ROOT = Path(__file__).resolve().parents[1]
WITH_SERVERS_OF_THEIR_OWN = ("tutorial", "e2e", "engine", "soak", "contract")
"""Packages whose servers a test process keeps until it leaves the package: it should come to each once."""
LONG = (
    *("test_crashes", "test_azure_faults", "test_scenarios", "test_watches", "test_access_states", "test_handover"),
    *("test_prerequisites", "test_disks", "test_az_cli"),
)
"""Files that take a minute or nearly one, the longest first."""

# The API servers of the tests take a fifth less processor time when Go collects garbage at five times the live memory, not at two.
os.environ.setdefault("GOGC", "400")

# On a busy machine any example may take long, and no test judges by time.
settings.register_profile("without a deadline", deadline=None)
settings.load_profile("without a deadline")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first and what needs no server last, so that no process is left alone at the end with a long one."""

    def turn(item: pytest.Item) -> tuple[int, int]:
        package, file = item.path.relative_to(ROOT / "tests").parts[0], item.path.stem
        turns = (*WITH_SERVERS_OF_THEIR_OWN, "sandbox")
        last = len(turns) + (package == "unit")
        return turns.index(package) if package in turns else last, LONG.index(file) if file in LONG else len(LONG)

    items.sort(key=turn)


def pytest_collection_finish() -> None:
    """Modules and collected tests stay until the end: the collector need not look through them again and again."""
    gc.freeze()


def running_cluster(directory: Path) -> Iterator[Cluster]:
    """An API server of its own, stopped at the end; a fixture yields from it."""
    from sandbox.kubernetes import cache, cluster  # noqa: PLC0415 -- unit tests start faster without them

    try:
        running = cluster.start(directory)
    except cache.UnavailableProgramError as missing:
        pytest.fail(f"{missing}\n`make binaries` finds, builds or installs what the local API server needs.")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def empty_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server that knows nothing of this project yet; ask for `cluster`, or keep to namespaces of your own."""
    yield from running_cluster(tmp_path_factory.mktemp("kubernetes"))


@pytest.fixture(scope="session")
def cluster(empty_cluster: Cluster) -> Cluster:
    """An API server with the custom resource definitions of `crds/`; namespaces are the tests' own business."""
    definitions = ROOT / "crds"
    if not list(definitions.glob("*.yaml")):
        pytest.fail(f"{definitions} is empty: `make crds` generates the custom resource definitions")
    empty_cluster.kubectl("apply", "--server-side", "--filename", str(definitions))
    empty_cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "--filename", str(definitions))
    return empty_cluster


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory, empty_cluster: Cluster) -> Iterator[AzureProcess]:
    """A simulated Azure in a process of its own, whose Entra reads the keys of `cluster`'s issuer; `.env` has the variables."""
    from sandbox.azure import process  # noqa: PLC0415 -- unit tests start faster without it

    running = process.start(tmp_path_factory.mktemp("azure"), oidc_ca=empty_cluster.ca_file)
    yield running
    running.stop()
