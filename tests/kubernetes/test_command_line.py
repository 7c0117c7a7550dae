"""`python -m sandbox`, as `make sandbox` and programs that source its file use it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

CONTRACT = {
    *(
        "KUBECONFIG",
        "HTTPS_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "SANDBOX_CONTROL",
        "SANDBOX_CLOUD",
    ),
    *("PROVIDER_TENANT_ID", "CUSTOMER_TENANT_ID", "SUBSCRIPTION_ID", "CUSTOMER_SUBSCRIPTION_ID"),
    *(f"{tenant}_ADMIN_CLIENT_{part}" for tenant in ("PROVIDER", "CUSTOMER") for part in ("ID", "SECRET")),
}


@pytest.mark.cluster
def test_up_leaves_both_running_and_down_ends_them(tmp_path: Path) -> None:
    directory = tmp_path / "sandbox"
    try:
        up = _sandbox("up", directory)
        assert up.returncode == 0, up.stderr
        file = directory / "env"
        assert file.stat().st_mode & 0o777 == 0o600
        assert set(_variables(file)) == CONTRACT | {"PATH"}
        status = _sandbox("status", directory)
        assert (status.returncode, status.stdout.count("running")) == (0, 3)
        sourced = subprocess.run(
            ["sh", "-c", f". {shlex.quote(str(file))}; kubectl get namespaces"], capture_output=True, check=False
        )
        assert b"kube-system" in sourced.stdout
        assert _sandbox("env", directory).stdout == file.read_text()
    finally:
        down = _sandbox("down", directory)
    assert "simulated Azure, kube-apiserver, etcd" in down.stderr
    assert not directory.exists()
    assert _sandbox("status", directory).returncode == 1
    assert "Nothing was running" in _sandbox("down", directory).stderr


def test_a_folder_of_somebody_else_is_never_used_or_cleared(tmp_path: Path) -> None:
    (tmp_path / "azure").mkdir()
    (tmp_path / "azure" / "notes").write_text("mine")
    up = _sandbox("up", tmp_path)
    assert (up.returncode, "somebody else" in up.stderr) == (1, True)
    assert _sandbox("down", tmp_path).returncode == 0
    assert (tmp_path / "azure" / "notes").read_text() == "mine"


def test_an_existing_cluster_must_be_named(tmp_path: Path) -> None:
    up = _sandbox("up", tmp_path / "sandbox", "--existing-cluster", KUBECONFIG=str(tmp_path / "none"))
    assert (up.returncode, "set KUBECONFIG" in up.stderr) == (2, True)


@pytest.mark.cluster
def test_an_existing_cluster_is_used_and_left_as_it_was(empty_cluster: Cluster, tmp_path: Path) -> None:
    directory = tmp_path / "sandbox"
    before = _objects(empty_cluster)
    try:
        up = _sandbox("up", directory, "--existing-cluster", KUBECONFIG=str(empty_cluster.kubeconfig))
        assert up.returncode == 0, up.stderr
        assert shlex.split(_variables(directory / "env")["KUBECONFIG"]) == [str(empty_cluster.kubeconfig)]
        assert _sandbox("status", directory).stdout.startswith("simulated Azure: running")
    finally:
        down = _sandbox("down", directory)
    assert down.stderr.splitlines() == ["Stopped: simulated Azure"]
    assert empty_cluster.running
    assert empty_cluster.kubeconfig.is_file()
    assert _objects(empty_cluster) == before


def test_make_hands_over_that_the_cluster_exists() -> None:
    recipe = ("make", "--dry-run", "--assume-old", ".venv/.ready", "sandbox", "EXISTING=1")
    made = subprocess.run(recipe, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "-m sandbox up --directory .sandbox --existing-cluster" in made.stdout


def _objects(cluster: Cluster) -> str:
    kinds = "namespaces,clusterroles,clusterrolebindings,customresourcedefinitions,serviceaccounts,secrets,configmaps"
    return cluster.kubectl("get", kinds, "--all-namespaces", "--output", "name")


def _sandbox(command: str, directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox", command, "--directory", directory, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _variables(file: Path) -> dict[str, str]:
    words = (line.removeprefix("export ").partition("=") for line in file.read_text().splitlines())
    return {name: value for name, _, value in words}
