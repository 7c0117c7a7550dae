"""What the chart brings for Prometheus and Grafana, if asked."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.chart.conftest import CHART, HelmError, only, rendered

FILES = CHART / "files" / "monitoring"


def test_without_being_asked_the_chart_brings_nothing_that_needs_another_operator() -> None:
    kinds = {item["kind"] for item in rendered()}
    assert not kinds & {"PrometheusRule", "ServiceMonitor", "PodMonitor", "ConfigMap"}


def test_the_rule_object_holds_the_very_rules_of_the_plain_file() -> None:
    rule = only(rendered("--set", "prometheusRule.enabled=true,prometheusRule.labels.release=prometheus"), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((FILES / "alerts.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_alerts_can_be_left_out_by_name_and_runbooks_be_elsewhere() -> None:
    asked = "prometheusRule.enabled=true,prometheusRule.excludeRules={CmkKeyExpiresIn30Days},prometheusRule.runbookUrl=https://wiki.example/cmk"
    groups = only(rendered("--set", asked), "PrometheusRule")["spec"]["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    every = {
        rule["alert"] for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
    }
    assert every - rules.keys() == {"CmkKeyExpiresIn30Days"}
    assert rules["CmkKeyInaccessible"]["annotations"]["runbook_url"] == "https://wiki.example/cmk#cmkkeyinaccessible"


def test_a_group_of_which_every_alert_is_left_out_goes_too() -> None:
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    names = ",".join(rule["alert"] for rule in groups[0]["rules"])
    rule = only(rendered("--set", f"prometheusRule.enabled=true,prometheusRule.excludeRules={{{names}}}"), "PrometheusRule")
    assert [group["name"] for group in rule["spec"]["groups"]] == [group["name"] for group in groups[1:]]


@pytest.mark.parametrize("value", ["prometheusRule.excludeRules={nonsense}", "prometheusRule.runbookUrl=docs/runbooks.md"])
def test_nonsense_is_refused(value: str) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        rendered("--set", value)


def test_the_dashboard_is_the_file_and_carries_the_label_that_grafanas_sidecar_looks_for() -> None:
    config = only(rendered("--set", "grafanaDashboard.enabled=true"), "ConfigMap")
    assert json.loads(config["data"]["cmk-operator.json"]) == json.loads((FILES / "dashboard.json").read_text())
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_namespace_of_a_metric_stays_that_of_the_key() -> None:
    monitor = only(rendered("--set", "serviceMonitor.enabled=true"), "ServiceMonitor")
    assert monitor["spec"]["endpoints"][0]["honorLabels"] is True
