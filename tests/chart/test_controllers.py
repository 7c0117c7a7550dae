"""What only shows when Kubernetes' own controllers run as well."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import yaml

from sandbox.kubernetes import binaries
from sandbox.kubernetes.controllers import start_controllers
from sandbox.kubernetes.servers import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.chart.conftest import Installation

CONTROLLER_MANAGER = binaries.kube_controller_manager()
SECONDS = 60
RESOURCE = {
    "apiVersion": "cmk-operator.dev/v1alpha1",
    "kind": "EncryptedResource",
    "metadata": {"name": "account", "namespace": "team"},
    "spec": {
        "keyRef": {"name": "key"},
        "resourceId": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/a",
    },
}

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        CONTROLLER_MANAGER is None,
        reason="kube-controller-manager was not built on this machine: `make controller-manager` does",
    ),
]


@pytest.fixture(scope="module")
def controlled(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    assert CONTROLLER_MANAGER is not None
    controllers = start_controllers(installed.cluster, CONTROLLER_MANAGER, tmp_path_factory.mktemp("controllers"))
    yield installed
    controllers.stop()


def test_a_user_with_the_clusters_role_edit_may_write_keys_and_no_tenants(controlled: Installation) -> None:
    controlled.cluster.kubectl("create", "namespace", "editors")
    controlled.cluster.kubectl("create", "rolebinding", "edit", "--clusterrole=edit", "--user=eve", "--namespace=editors")

    def may(verb: str, kind: str) -> bool:
        try:
            controlled.cluster.kubectl("auth", "can-i", verb, f"{kind}.cmk-operator.dev", "--as=eve", "--namespace=editors")
        except ClusterError:
            return False
        return True

    _eventually(lambda: may("create", "customermanagedkeys"))
    assert may("delete", "encryptedresources")
    assert may("list", "customermanagedkeys")
    assert not may("create", "customertenants")
    assert not may("get", "federatedidentities")


def test_a_namespace_goes_away_while_no_operator_runs(controlled: Installation) -> None:
    controlled.cluster.kubectl("create", "namespace", "team")
    controlled.cluster.kubectl("create", "--filename", "-", stdin=yaml.safe_dump(RESOURCE))
    controlled.cluster.kubectl("delete", "namespace", "team", "--wait=false")
    _eventually(lambda: controlled.cluster.kubectl("get", "namespace", "team", "--ignore-not-found", "--output", "name") == "")


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not so after {SECONDS} s"
        time.sleep(0.2)
