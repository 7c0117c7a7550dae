"""Install, upgrade and uninstall, on a real API server."""

from __future__ import annotations

import copy
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sandbox.kubernetes.servers import ClusterError
from tests.chart.conftest import CHART, NAMESPACE, SECRETS, helm, only, rendered

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.conftest import Installation

pytestmark = pytest.mark.cluster

DEFINITION = "customermanagedkeys.cmk-operator.dev"


def test_the_pod_is_admitted_where_restricted_is_enforced(installed: Installation) -> None:
    admitted = _admit(installed, _pod())
    assert admitted["spec"]["serviceAccountName"] == "cmk-operator"


@pytest.mark.parametrize("weakened", ["runAsNonRoot", "seccompProfile"])
def test_the_same_pod_is_refused_when_weakened(installed: Installation, weakened: str) -> None:
    pod = copy.deepcopy(_pod())
    del pod["spec"]["securityContext"][weakened]
    with pytest.raises(ClusterError, match='violates PodSecurity "restricted'):
        _admit(installed, pod)


def test_a_chart_rendered_into_a_repository_is_the_same_each_time_and_nothing_else_than_what_helm_installs(
    installed: Installation,
) -> None:
    command = ("template", "cmk-operator", CHART, "--namespace", NAMESPACE, "--skip-tests", "--set", SECRETS)
    text = helm(*command)
    assert helm(*command) == text
    assert "helm.sh/hook" not in text, "a tool that only applies would run it as any other object"
    installed.cluster.kubectl("diff", "--server-side", "--force-conflicts", "--filename", "-", stdin=text)


def test_the_notes_say_which_subject_entra_must_trust(installed: Installation) -> None:
    notes = installed.helm("get", "notes", "cmk-operator")
    assert f"system:serviceaccount:{NAMESPACE}:cmk-operator" in notes


def test_uninstalling_leaves_the_definitions_and_installing_again_takes_them_over(installed: Installation) -> None:
    before = _definitions(installed)
    installed.helm("uninstall", "cmk-operator")
    assert _definitions(installed) == before
    assert before
    left = installed.cluster.kubectl("get", "serviceaccounts,deployments,roles", "--namespace", NAMESPACE, "--output", "name")
    assert "cmk-operator" not in left
    installed.helm("install", "cmk-operator", CHART)
    assert _definitions(installed) == before


def test_an_upgrade_brings_newer_definitions(installed: Installation, tmp_path: Path) -> None:
    older = tmp_path / "cmk-operator"
    shutil.copytree(CHART, older)
    [file] = (older / "files" / "crds").glob(f"*{DEFINITION.partition('.')[0]}*")
    definition = yaml.safe_load(file.read_text())
    columns = definition["spec"]["versions"][0]["additionalPrinterColumns"]
    file.write_text(yaml.safe_dump({**definition, "spec": _with_columns(definition["spec"], columns[:1])}))
    installed.helm("upgrade", "cmk-operator", older)
    assert len(_columns(installed)) == 1
    installed.helm("upgrade", "cmk-operator", CHART)
    assert _columns(installed) == [column["name"] for column in columns]


def test_the_definitions_are_accepted_as_they_are(installed: Installation) -> None:
    """The API server keeps no complaint about a schema, a CEL rule or a name."""
    items = json.loads(installed.cluster.kubectl("get", "crds", "--output", "json"))["items"]
    conditions = {
        (item["metadata"]["name"], condition["type"]): condition["status"]
        for item in items
        for condition in item["status"]["conditions"]
    }
    for item in items:
        name = item["metadata"]["name"]
        assert conditions[name, "NamesAccepted"] == "True"
        assert conditions[name, "Established"] == "True"
        assert conditions.get((name, "NonStructuralSchema"), "False") == "False"


def _pod() -> dict[str, Any]:
    template = only(rendered(), "Deployment")["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "trial", "namespace": NAMESPACE},
        "spec": template["spec"],
    }


def _admit(installed: Installation, pod: dict[str, Any]) -> dict[str, Any]:
    command = ("create", "--dry-run=server", "--output", "json", "--filename", "-")
    admitted: dict[str, Any] = json.loads(installed.cluster.kubectl(*command, stdin=yaml.safe_dump(pod)))
    return admitted


def _definitions(installed: Installation) -> list[str]:
    return sorted(installed.cluster.kubectl("get", "crds", "--output", "jsonpath={.items[*].metadata.uid}").split())


def _columns(installed: Installation) -> list[str]:
    path = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}"
    return installed.cluster.kubectl("get", "crd", DEFINITION, "--output", path).split()


def _with_columns(spec: dict[str, Any], columns: list[dict[str, Any]]) -> dict[str, Any]:
    [version] = spec["versions"]
    return {**spec, "versions": [{**version, "additionalPrinterColumns": columns}]}
