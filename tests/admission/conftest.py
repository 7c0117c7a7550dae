"""The API server with the definitions, and a namespace of these tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.admission.api import NAMESPACE, Api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.kubernetes.cluster import Cluster


@pytest.fixture(scope="session")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API server, as its administrator."""
    client = Api(cluster, tmp_path_factory.mktemp("administrator"))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    assert client.request("POST", "/api/v1/namespaces", namespace).status in {201, 409}
    yield client
    client.close()
