"""Helm, and an API server of the chart's own on which it is really installed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sandbox.kubernetes import binaries, cluster
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

CHART = ROOT / "charts" / "cmk-operator"
NAMESPACE = "cmk-system"
SERVICE_ACCOUNT = f"system:serviceaccount:{NAMESPACE}:cmk-operator"
SECRETS = f"rbac.secrets[0].namespace={NAMESPACE},rbac.secrets[0].names={{signing,absent}}"
RESTRICTED_NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
}


class HelmError(Exception):
    """Helm's own words when it refuses."""


def helm(*arguments: str | Path) -> str:
    """Run helm and return what it printed; raises `HelmError`."""
    answer = subprocess.run([binaries.helm(), *arguments], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise HelmError(answer.stderr)
    return answer.stdout


def rendered(*arguments: str | Path, release: str = "cmk-operator") -> list[dict[str, Any]]:
    """Return the objects that the chart makes of these arguments."""
    text = helm("template", release, CHART, "--namespace", NAMESPACE, *arguments)
    return [document for document in yaml.safe_load_all(text) if document]


def only(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the one object of a kind."""
    [found] = [item for item in objects if item["kind"] == kind]
    return found


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector, a LabelSelector with operators In or a plain map as a Service has, chooses these labels."""
    wanted = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
    expressions = selector.get("matchExpressions", ())
    assert all(each["operator"] == "In" for each in expressions)
    return wanted.items() <= labels.items() and all(labels.get(each["key"]) in each["values"] for each in expressions)


@dataclass(frozen=True)
class Installation:
    """A cluster on which helm works as administrator."""

    cluster: Cluster

    def helm(self, command: str, *arguments: str | Path) -> str:
        """Run helm in the release's namespace on this cluster."""
        return helm(command, "--kubeconfig", self.cluster.kubeconfig, "--namespace", NAMESPACE, *arguments)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A new API server with the release's namespace, which enforces the Pod Security Standard `restricted`."""
    running = cluster.start(tmp_path_factory.mktemp("chart"))
    running.kubectl("create", "--filename", "-", stdin=yaml.safe_dump(RESTRICTED_NAMESPACE))
    yield Installation(running)
    running.stop()


@pytest.fixture(scope="module")
def installed(bare: Installation) -> Installation:
    """The chart as `helm install` leaves it with the Secrets that the tests use, and otherwise with defaults."""
    bare.helm("install", "cmk-operator", CHART, "--set", SECRETS)
    return bare
