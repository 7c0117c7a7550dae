"""The checks of `make lint` find what they are there for; that the chart passes them, `make lint` shows."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart import lint
from tests.chart.conftest import CHART, helm, only, rendered
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chart.conftest import Installation

EVERY = lint.RENDERINGS["every option"]


def test_every_option_passes_helms_strict_lint_and_brings_every_template() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, *EVERY)
    text = helm("template", "cmk-operator", CHART, *EVERY)
    sources = {str(path.relative_to(CHART.parent)) for path in (CHART / "templates").rglob("*.yaml")}
    missing = {source for source in sources if f"# Source: {source}" not in text}
    assert missing == {"cmk-operator/templates/extra-objects.yaml"}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda pod: pod["spec"]["containers"][0].update(imagePullPolice="Always"), "imagePullPolice"),
        (lambda pod: pod["spec"].update(terminationGracePeriodSeconds="60"), "terminationGracePeriodSeconds"),
    ],
    ids=["a field that does not exist", "a wrong type"],
)
def test_what_kubernetes_does_not_know_is_found(spoil: Callable[[dict[str, Any]], None], told: str) -> None:
    deployment = copy.deepcopy(only(rendered(), "Deployment"))
    spoil(deployment["spec"]["template"])
    [complaint] = lint.nonconforming([deployment], lint.oldest())
    assert complaint.startswith("Deployment cmk-operator: ")
    assert told in complaint


@pytest.mark.cluster
def test_every_pod_of_the_chart_is_admitted_where_restricted_is_enforced_and_a_weaker_one_is_not(bare: Installation) -> None:
    objects = rendered(*EVERY)
    lint.prepare(bare.cluster, objects)
    found = list(lint.pods(objects))
    assert {pod["metadata"]["name"] for pod in found} == {
        *(f"deployment-cmk-operator{part}" for part in ("", "-keyservice", "-console")),
        "job-cmk-operator-keyservice-migrate",
        "pod-cmk-operator-check",
    }
    assert lint.refused(bare.cluster, found) == []
    weaker = copy.deepcopy(found[0])
    weaker["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    [complaint] = lint.refused(bare.cluster, [weaker])
    assert 'violates PodSecurity "restricted' in complaint


def test_the_dockerfile_passes_hadolint_and_a_careless_one_does_not(tmp_path: Path) -> None:
    assert lint.hadolint(ROOT / "Dockerfile") == []
    careless = tmp_path / "Dockerfile"
    careless.write_text("FROM debian\nRUN cd /tmp && apt-get install curl\n")
    assert any("DL3006" in line for line in lint.hadolint(careless))


def test_the_values_with_every_option_are_values_of_the_chart() -> None:
    assert set(yaml.safe_load(lint.EVERYTHING.read_text())) <= set(yaml.safe_load((CHART / "values.yaml").read_text()))
