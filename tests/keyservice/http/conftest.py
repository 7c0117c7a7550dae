from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.keyservice.http.world import ServedProcess, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.kubernetes.cluster import Cluster
    from sandbox.postgresql import Postgresql


@pytest.fixture(scope="session")
def prepared(cluster: Cluster) -> Cluster:
    """The API server with two organizations and callers."""
    prepare(cluster)
    return cluster


@pytest.fixture(scope="session")
def served(prepared: Cluster, postgres: Postgresql, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    """A running key service for all tests that do not break it."""
    running = ServedProcess(
        prepared,
        tmp_path_factory.mktemp("keyservice"),
        postgres.create("served", "template_keyservice"),
        {"CMK_KEYSERVICE_REVIEW_SECONDS": "0.5", "CMK_KEYSERVICE_REVIEW_OUTAGE_GRACE": "0"},
    )
    running.start()
    yield running
    running.stop()
    postgres.drop("served")
