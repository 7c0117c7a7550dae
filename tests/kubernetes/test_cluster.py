"""The API server of the sandbox, judged by what the other parts need of it."""

from __future__ import annotations

import json
import ssl
import urllib.request
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from sandbox.kubernetes import binaries
from sandbox.kubernetes import cluster as clusters
from sandbox.kubernetes.servers import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

pytestmark = pytest.mark.cluster

NAMESPACE = "of-the-cluster-tests"
AUDIENCE = "api://AzureADTokenExchange"


@pytest.fixture(scope="module")
def account(empty_cluster: Cluster) -> str:
    empty_cluster.kubectl("create", "namespace", NAMESPACE)
    empty_cluster.kubectl("create", "serviceaccount", "workload", "--namespace", NAMESPACE)
    return "workload"


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = clusters.start(tmp_path_factory.mktemp("own"))
    yield running
    running.stop()


def test_the_token_for_azure_verifies_against_the_public_keys_of_the_issuer(empty_cluster: Cluster, account: str) -> None:
    token = empty_cluster.service_account_token(NAMESPACE, account, AUDIENCE, 900)
    metadata = _get(empty_cluster, empty_cluster.issuer + "/.well-known/openid-configuration")
    keys = jwt.PyJWKSet.from_dict(_get(empty_cluster, metadata["jwks_uri"]))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE, issuer=metadata["issuer"])
    assert metadata["issuer"] == empty_cluster.issuer
    assert claims["sub"] == f"system:serviceaccount:{NAMESPACE}:{account}"
    assert claims["exp"] - claims["iat"] == 900


def test_a_token_for_azure_is_no_token_for_kubernetes(empty_cluster: Cluster, account: str, tmp_path: Path) -> None:
    kubeconfig = empty_cluster.service_account_kubeconfig(NAMESPACE, account, tmp_path / "kubeconfig", 1)
    assert f"system:serviceaccount:{NAMESPACE}:{account}" in clusters.kubectl(kubeconfig, "auth", "whoami")
    own = empty_cluster.service_account_token(NAMESPACE, account)
    foreign = empty_cluster.service_account_token(NAMESPACE, account, AUDIENCE)
    kubeconfig.write_text(kubeconfig.read_text().replace(_token_in(kubeconfig), foreign))
    with pytest.raises(ClusterError, match="Unauthorized"):
        clusters.kubectl(kubeconfig, "auth", "whoami")
    kubeconfig.write_text(kubeconfig.read_text().replace(foreign, own))
    assert account in clusters.kubectl(kubeconfig, "auth", "whoami")


def test_a_kubeconfig_of_a_service_account_has_its_permissions_only(
    empty_cluster: Cluster, account: str, tmp_path: Path
) -> None:
    kubeconfig = empty_cluster.service_account_kubeconfig(NAMESPACE, account, tmp_path / "kubeconfig", 1)
    assert kubeconfig.stat().st_mode & 0o077 == 0
    with pytest.raises(ClusterError, match="Forbidden"):
        clusters.kubectl(kubeconfig, "get", "secrets")


def test_everybody_else_is_refused(empty_cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        _get(empty_cluster, empty_cluster.server + "/api/v1/namespaces")


def test_it_says_which_version_it_is(empty_cluster: Cluster) -> None:
    assert json.loads(empty_cluster.kubectl("version", "--output", "json"))["serverVersion"]["gitVersion"].startswith("v1.")


def test_an_existing_cluster_is_taken_as_it_is(empty_cluster: Cluster, tmp_path: Path) -> None:
    found = clusters.from_kubeconfig(empty_cluster.kubeconfig, tmp_path)
    assert (found.server, found.issuer, found.processes) == (empty_cluster.server, empty_cluster.issuer, ())
    found.stop()
    assert empty_cluster.running


def test_an_existing_cluster_whose_issuer_cannot_be_read_is_refused_with_what_to_do(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    own_cluster.kubectl("delete", "clusterrolebinding", "service-account-issuer-discovery")
    with pytest.raises(ClusterError, match=r"(?s)cannot be read.*kubectl create clusterrolebinding"):
        clusters.from_kubeconfig(own_cluster.kubeconfig, tmp_path)


def test_a_cluster_left_running_is_found_again_and_stopped(tmp_path: Path) -> None:
    started = clusters.start(tmp_path / "kubernetes")
    found = clusters.recorded(tmp_path / "kubernetes")
    assert found == started
    found.stop()
    assert not started.running
    assert clusters.recorded(tmp_path / "elsewhere") is None


def test_a_server_that_does_not_start_is_told_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "kube-apiserver"
    program.write_text("#!/bin/sh\necho 'Error: unknown flag: --secure-port' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(binaries, "kube_apiserver", lambda: program)
    with pytest.raises(ClusterError, match=r"(?s)kube-apiserver has ended.*unknown flag"):
        clusters.start(tmp_path / "kubernetes")
    remains = clusters.recorded(tmp_path / "kubernetes")
    assert remains is not None
    assert not any(process.running for process in remains.processes)


def _get(cluster: Cluster, url: str) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=str(cluster.ca_file))
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with direct.open(url, timeout=10) as answer:
        result: dict[str, Any] = json.load(answer)
    return result


def _token_in(kubeconfig: Path) -> str:
    return clusters.kubectl(kubeconfig, "config", "view", "--raw", "--output", "jsonpath={.users[0].user.token}")
