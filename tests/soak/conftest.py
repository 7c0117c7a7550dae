"""A cluster with the chart and a simulated Azure for these tests alone: they skip time, and lose consents and vaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.azure import process as azure_process
from sandbox.operator_process import install_chart
from tests.conftest import running_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster


@pytest.fixture(scope="package")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("soak")


@pytest.fixture(scope="package")
def cluster(directory: Path) -> Iterator[Cluster]:
    for running in running_cluster(directory / "kubernetes"):
        install_chart(running)
        yield running


@pytest.fixture(scope="package")
def azure(directory: Path, cluster: Cluster) -> Iterator[AzureProcess]:
    running = azure_process.start(directory / "azure", oidc_ca=cluster.ca_file)
    yield running
    running.stop()
