"""Whether `kubectl cmk`, the operator and the installed definitions fit one another, and that it is said if they do not."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from cmk_operator import __version__
from cmk_operator.api.model import OPERATOR_VERSION
from tests.cli.conftest import NAMESPACE, TENANT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from click.testing import Result

    from sandbox.kubernetes.cluster import Cluster

OPERATOR = "cli-version-operator"


@pytest.fixture(scope="module")
def lease(cluster: Cluster) -> str:
    """The namespace of an operator of version 0.0.9, as it writes its Lease."""
    metadata = {"name": "cmk-operator", "namespace": OPERATOR, "annotations": {OPERATOR_VERSION: "0.0.9"}}
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR}},
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {"holderIdentity": "pod-1"}},
    ]
    cluster.kubectl("apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return OPERATOR


def _with_another_description(environment: Mapping[str, str], folder: Path, change: str) -> str:
    """A PATH on which kubectl shows the API server's description of the kinds after a change by sed."""
    real = shutil.which("kubectl", path=environment["PATH"])
    program = folder / "kubectl"
    program.write_text(f'#!/bin/sh\ncase "$*" in *--raw*) "{real}" "$@" | sed "{change}";; *) exec "{real}" "$@";; esac\n')
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{environment['PATH']}"


def test_it_names_the_three_versions_and_says_what_does_not_fit(run: Callable[..., Result], lease: str) -> None:
    done = run("version", "--operator-namespace", lease, "-o", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert data["client"] == __version__
    assert data["operators"] == [{"lease": "cmk-operator", "version": "0.0.9", "leader": "pod-1"}]
    assert {one["state"] for one in data["definitions"]} == {"Fits"}
    assert len(data["definitions"]) == 6
    shown = run("version", "--operator-namespace", lease).stdout
    assert "operator 0.0.9 (Lease cmk-operator: pod-1)" in shown
    assert f"the operator is 0.0.9, and this kubectl cmk is {__version__}: install the kubectl cmk of" in shown


def test_what_may_not_be_seen_is_said_and_the_definitions_need_no_rights(run: Callable[..., Result], lease: str) -> None:
    done = run("version", "--operator-namespace", lease, "--as", "nobody-in-particular", "--as-group", "system:authenticated")
    assert done.exit_code == 0, done.output
    assert (
        "the operator's version: the API server answers (Forbidden): leases.coordination.k8s.io is forbidden: User \"nobody"
        in done.stdout
    )
    assert "customertenants.cmk-operator.dev Fits" in done.stdout
    nothing = run("version", "--operator-namespace", "nowhere", "-o", "json")
    assert "no operator has written its version in namespace nowhere" in json.loads(nothing.stdout)["operatorsNotVisible"]


def test_every_command_warns_of_definitions_that_do_not_fit(
    run: Callable[..., Result], environment: Mapping[str, str], customer: str, tmp_path: Path
) -> None:
    path = _with_another_description(environment, tmp_path, 's/\\"consent\\"/\\"agreement\\"/')
    done = run("status", "--tenant", customer, "-n", NAMESPACE, "-o", "json", PATH=path)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["tenants"][0]["name"] == TENANT, "a warning is not part of the document"
    older, newer = done.stderr.splitlines()
    assert f"Warning: the cluster's definitions are older than this kubectl cmk ({__version__}): customertenants" in older
    assert "lacks status.consent, status.consent." in older
    assert f"Warning: the cluster's definitions are newer than this kubectl cmk ({__version__}): customertenants" in newer
    assert "has status.agreement, status.agreement." in newer
    assert "Warning: the cluster's definitions are older" in run("handoff", "never-was", PATH=path).stderr


def test_no_description_is_no_reason_to_fail_or_to_warn(
    run: Callable[..., Result], environment: Mapping[str, str], customer: str, tmp_path: Path
) -> None:
    path = _with_another_description(environment, tmp_path, "s/.*/no JSON/")
    done = run("status", "--tenant", customer, PATH=path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "the cluster's definitions: " in run("version", PATH=path).stdout
