"""`helm test` runs `cmk-operator check` as the operator; there is no kubelet here, so the test itself runs what the pod says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sandbox.kubernetes import binaries
from sandbox.operator_process import as_service_account
from tests.chart.conftest import NAMESPACE, only, rendered, selects
from tests.definitions import delete_definitions

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.conftest import Installation

POD = "cmk-operator-check"
EVERYTHING = (
    "networkPolicy.enabled=true,podDisruptionBudget.enabled=true,audit.sink.url=https://logs.example,operatorClass=blue"
)


def test_the_pod_of_helm_test_asks_as_the_operator_does() -> None:
    objects = rendered("--set", EVERYTHING, "--set-json", 'extraEnv=[{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]')
    operator, asks = only(objects, "Deployment")["spec"]["template"]["spec"], only(objects, "Pod")["spec"]
    for part in ("serviceAccountName", "securityContext", "volumes", "automountServiceAccountToken"):
        assert asks[part] == operator[part], part
    for part in ("image", "env", "volumeMounts", "securityContext"):
        assert asks["containers"][0][part] == operator["containers"][0][part], part
    assert (asks["containers"][0]["args"], asks["restartPolicy"]) == (["check"], "Never")


def test_nothing_takes_the_pod_of_helm_test_for_an_operator_but_the_network_policy_lets_it_out() -> None:
    objects = rendered("--set", EVERYTHING)
    labels = only(objects, "Pod")["metadata"]["labels"]
    for selector in (
        only(objects, "Service")["spec"]["selector"],
        only(objects, "Deployment")["spec"]["selector"],
        only(objects, "PodDisruptionBudget")["spec"]["selector"],
    ):
        assert not selects(selector, labels)
    policy = only(objects, "NetworkPolicy")["spec"]["podSelector"]
    operator = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert [selects(policy, pod) for pod in (labels, operator)] == [True, True]


@pytest.mark.cluster
def test_helm_test_passes_on_a_new_installation_and_says_what_is_left_to_do(installed: Installation, tmp_path: Path) -> None:
    tested, said = _helm_test(installed, tmp_path)
    assert (tested.returncode, said.returncode) == (0, 0), said.stdout
    assert [line.split()[0] for line in said.stdout.splitlines()[1:-1]] == ["ok", "ok", "ok", "ok", "skipped"]
    assert f"subject system:serviceaccount:{NAMESPACE}:cmk-operator" in said.stdout
    assert "there is no FederatedIdentity yet" in said.stdout
    assert said.stdout.splitlines()[-1] == "All 4 checks passed."
    token = (tmp_path / "azure-identity-token").read_text()
    assert token not in said.stdout + said.stderr


@pytest.mark.cluster
def test_helm_test_fails_and_names_each_thing_that_is_missing(installed: Installation, tmp_path: Path) -> None:
    administrator = installed.cluster.kubectl
    definition = administrator("get", "crd", "preflights.cmk-operator.dev", "--output", "json")
    role = json.loads(administrator("get", "clusterrole", "cmk-operator", "--output", "json"))
    lease = ("rolebinding", "cmk-operator-lease", "--namespace", "kube-system")
    binding = administrator("get", *lease, "--output", "json")
    fewer = [rule for rule in role["rules"] if "organizationkeys" not in rule["resources"]]
    try:
        delete_definitions(installed.cluster, "preflights.cmk-operator.dev")
        administrator("delete", *lease)
        administrator("replace", "--filename", "-", stdin=json.dumps({**role, "rules": fewer}))
        tested, said = _helm_test(installed, tmp_path)
    finally:
        administrator("replace", "--filename", "-", stdin=_as_new(json.dumps({**role, "rules": role["rules"]})))
        administrator("create", "--filename", "-", stdin=_as_new(binding))
        administrator("create", "--filename", "-", stdin=_as_new(definition))
    failed = [line for line in said.stdout.splitlines() if line.startswith("FAILED")]
    assert tested.returncode != 0
    assert said.returncode == 1
    assert "preflights.cmk-operator.dev is not installed: the cluster's administrator must install the definition" in failed[-2]
    assert any(
        "organizationkeys: RBAC forbids it: whoever installs the operator must correct its ClusterRole" in line
        for line in failed
    )
    assert "leader election" in failed[-1]
    assert "must create the Role for the Lease" in failed[-1]


def _helm_test(
    installed: Installation, tmp_path: Path
) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """Run `helm test`, be the kubelet of its pod, and return how both ended."""
    kubeconfig = ("--kubeconfig", str(installed.cluster.kubeconfig))
    command = [str(binaries.helm()), "test", "cmk-operator", *kubeconfig, "--namespace", NAMESPACE, "--timeout", "90s"]
    installed.cluster.kubectl("delete", "pod", POD, "--namespace", NAMESPACE, "--ignore-not-found")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as helm:
        pod = ("pod", POD, "--namespace", NAMESPACE)
        installed.cluster.kubectl("wait", "--for=create", "--timeout=60s", *pod)
        said = _run(json.loads(installed.cluster.kubectl("get", *pod, "--output", "json")), installed, tmp_path)
        phase = json.dumps({"status": {"phase": "Failed" if said.returncode else "Succeeded"}})
        installed.cluster.kubectl("patch", *pod, "--subresource=status", "--type=merge", "--patch", phase)
        out, error = helm.communicate(timeout=90)
    return subprocess.CompletedProcess(command, helm.returncode, out, error), said


def _run(pod: dict[str, Any], installed: Installation, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    [container], [volume] = (
        pod["spec"]["containers"],
        [each for each in pod["spec"]["volumes"] if each["name"] == "azure-identity-token"],
    )
    audience = volume["projected"]["sources"][0]["serviceAccountToken"]["audience"]
    own = as_service_account(installed.cluster, {}, tmp_path, pod["spec"]["serviceAccountName"], audience, NAMESPACE)
    environment = {entry["name"]: entry["value"] for entry in container["env"]} | own
    return subprocess.run(
        [sys.executable, "-m", "cmk_operator", *container["args"]], env=environment, capture_output=True, text=True, check=False
    )


def _as_new(text: str) -> str:
    item = yaml.safe_load(text)
    kept = {name: item["metadata"][name] for name in ("name", "namespace", "labels", "annotations") if name in item["metadata"]}
    return yaml.safe_dump({**{name: part for name, part in item.items() if name != "status"}, "metadata": kept})
