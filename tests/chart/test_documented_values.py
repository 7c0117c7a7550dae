"""The helm commands of the documents, with the chart's own schema: a value that it does not know is refused."""

from __future__ import annotations

import itertools

import pytest

from tests.chart.conftest import CHART, HelmError, helm
from tests.conftest import ROOT
from tests.documents.blocks import arguments_of, commands_to_try

OF_AN_INSTALLED_RELEASE = {"--install", "--create-namespace", "--reset-then-reuse-values", "--take-ownership", "--wait"}
RENDERS = ("install", "upgrade")


def _rendered_as(arguments: list[str]) -> list[str]:
    """`helm install` or `helm upgrade` as `helm template`, which needs no cluster, of the chart in this repository."""
    kept = [argument for argument in arguments[1:] if argument not in OF_AN_INSTALLED_RELEASE]
    return ["template", *(str(CHART) if argument.startswith("charts/cmk-operator") else argument for argument in kept)]


def _values_of(arguments: list[str]) -> list[str]:
    pairs = itertools.pairwise(arguments)
    return [word for option, value in pairs if option in {"--set", "--set-string"} for word in (option, value)]


def test_the_chart_takes_the_values_of_every_documented_command() -> None:
    called = [
        (block, arguments)
        for block, arguments in arguments_of("helm", commands_to_try(ROOT / "docs" / "tutorial.md"))
        if arguments[0] in RENDERS and "charts/cmk-operator" in arguments
    ]
    assert len(called) > 6
    refused = {}
    earlier: dict[object, list[str]] = {}
    for block, arguments in called:
        # An upgrade that keeps the values that are set follows the commands above it on the page.
        kept = earlier.get(block.page, []) if "--reset-then-reuse-values" in arguments else []
        earlier[block.page] = [*kept, *_values_of(arguments)]
        try:
            assert "kind: Deployment" in helm(*_rendered_as(arguments), *earlier[block.page]), block
        except HelmError as error:
            refused[str(block)] = str(error)
    assert refused == {}


def test_what_the_chart_does_not_know_is_found() -> None:
    with pytest.raises(HelmError, match="additional properties"):
        helm(*_rendered_as(["upgrade", "--install", "cmk-operator", "charts/cmk-operator", "--set", "replicaSets=2"]))


def test_each_upgrade_names_the_namespace_of_its_release() -> None:
    for block, arguments in arguments_of("helm", commands_to_try()):
        if arguments[0] in {*RENDERS, "uninstall", "test", "rollback"}:
            assert {"-n", "--namespace"} & set(arguments), f"{block}: helm {' '.join(arguments[:3])}"
