"""`kubectl cmk` on the real API server, with one customer in it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from cmk_operator.cli.commands import cmk
from sandbox.kubernetes import binaries
from tests.unit.samples import identity_body, key_body, resource_body, tenant_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from click.testing import Result

    from sandbox.kubernetes.cluster import Cluster

NAMESPACE = "cli"
TENANT = "cli-fabrikam"


def _manifest(kind: str, name: str, body: dict[str, Any], namespace: str | None = None) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": body["spec"]}


def manifests() -> list[dict[str, Any]]:
    """An identity, a tenant, two keys that it allows and one that it does not, and an account."""
    tenant: dict[str, Any] = {"tenantRef": {"name": TENANT}}
    elsewhere = key_body(keyUri="https://elsewhere.vault.azure.net/keys/cmk", **tenant)
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _manifest("FederatedIdentity", "cli-provider", identity_body()),
        _manifest("CustomerTenant", TENANT, tenant_body(identityRef={"name": "cli-provider"}, allowedNamespaces=[NAMESPACE])),
        _manifest("CustomerManagedKey", "storage", key_body(**tenant), NAMESPACE),
        _manifest(
            "CustomerManagedKey", "sql", key_body(keyUri="https://contoso.vault.azure.net/keys/sql", **tenant), NAMESPACE
        ),
        _manifest("CustomerManagedKey", "borrowed", elsewhere, NAMESPACE),
        _manifest("EncryptedResource", "documents", resource_body(), NAMESPACE),
    ]


@pytest.fixture(scope="session")
def customer(cluster: Cluster) -> str:
    """The name of a CustomerTenant with keys and a resource."""
    items = {"apiVersion": "v1", "kind": "List", "items": manifests()}
    cluster.kubectl("apply", "--server-side", "--filename", "-", stdin=json.dumps(items))
    return TENANT


@pytest.fixture
def environment(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a person's terminal has set. kubectl keeps a cache below HOME, else below the present directory."""
    path = f"{binaries.kubectl().parent}{os.pathsep}{os.environ['PATH']}"
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    return {"KUBECONFIG": str(cluster.kubeconfig), "PATH": path, "HOME": str(home)}


@pytest.fixture
def run(environment: Mapping[str, str]) -> Callable[..., Result]:
    """The command line in this process; an exception that it does not turn into a message fails the test."""

    def invoke(*arguments: str, **changed: str) -> Result:
        return CliRunner().invoke(cmk, arguments, env={**environment, **changed}, catch_exceptions=False)

    return invoke
