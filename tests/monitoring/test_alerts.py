"""The alert rules, judged by Prometheus' own promtool; each has a runbook, a case in which it fires, and one in which it does not."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from cmk_keyservice.telemetry import KeyServiceTelemetry
from cmk_operator.core.access.state import AccessState
from sandbox.kubernetes import binaries
from tests.conftest import ROOT
from tests.unit.test_metrics import known_metrics

RULES = ROOT / "charts" / "cmk-operator" / "files" / "monitoring" / "alerts.yaml"
CASES = sorted((ROOT / "tests" / "monitoring").glob("*_test.yaml"))
ALERTS: list[dict[str, Any]] = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
NAMES = [alert["alert"] for alert in ALERTS]


def cases() -> list[dict[str, Any]]:
    """Every expectation of the test files."""
    return [case for file in CASES for test in yaml.safe_load(file.read_text())["tests"] for case in test["alert_rule_test"]]


def promtool(*arguments: object) -> str:
    """What promtool says; fails with it when it is not content."""
    answer = subprocess.run([binaries.promtool(), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def key_service_metrics() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Type and labels of every metric of the key service."""
    found = {}
    for collector in vars(KeyServiceTelemetry()).values():
        for metric in collector.describe() if hasattr(collector, "describe") else ():
            name = metric.name + ("_total" if metric.type == "counter" else "")
            found[name] = (metric.type, collector._labelnames)  # noqa: SLF001 - told nowhere else
    return found


def test_promtool_finds_the_rules_well_formed() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_every_case_of_promtools_unit_tests_holds() -> None:
    assert promtool("test", "rules", *CASES).count("SUCCESS") == len(CASES)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert {case["alertname"] for case in cases() if case["exp_alerts"]} == set(NAMES)
    assert {case["alertname"] for case in cases() if not case["exp_alerts"]} == set(NAMES)


def test_no_two_alerts_have_the_same_name() -> None:
    assert sorted(set(NAMES)) == sorted(NAMES)


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_has_a_severity_words_and_a_runbook_that_says_who_acts(alert: dict[str, Any]) -> None:
    assert alert["alert"].startswith("Cmk")
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    sections = {
        title.lower(): text for title, text in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", _text(page), re.MULTILINE | re.DOTALL)
    }
    assert anchor in sections, f"{page} has no section for {alert['alert']}"
    assert alert["alert"].lower() == anchor or f"`{alert['alert']}`" in sections[anchor]
    for part in ("What happened.", "Who acts.", "Data stops", "Commands"):
        assert f"**{part}" in sections[anchor], f"the runbook of {alert['alert']} lacks: {part}"


def _text(page: str) -> str:
    return (ROOT / page).read_text()


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_asks_for_metrics_and_labels_that_exist(alert: dict[str, Any]) -> None:
    known = known_metrics() | key_service_metrics()
    asked = re.findall(r"\b(cmk_\w+)(?:\{([^}]*)\})?", alert["expr"])
    assert asked
    for metric, selectors in asked:
        assert metric in known, metric
        assert set(re.findall(r"(\w+)=", selectors.replace("=~", "=").replace("!~", "="))) <= set(known[metric][1]), metric


def test_every_state_but_accessible_has_exactly_its_alerts() -> None:
    states = {alert["alert"]: set(re.findall(r'state=~?"([^"]*)"', alert["expr"])) for alert in ALERTS}
    told = {name: {state for group in found for state in group.split("|")} for name, found in states.items()}
    lost = {state.value for state in AccessState if state.is_known_loss}
    assert told["CmkKeyInaccessible"] == told["CmkUnusedKeyInaccessible"] == lost
    rest = told["CmkVaultUnreachable"] | told["CmkKeyStateUnknown"]
    assert lost | rest | {"Accessible"} == {state.value for state in AccessState}
    assert not lost & rest


def test_each_cause_of_a_loss_is_worded_on_its_own() -> None:
    words = {
        alert["exp_labels"]["state"]: alert["exp_annotations"]["description"]
        for case in cases()
        for alert in case["exp_alerts"]
        if case["alertname"] == "CmkKeyInaccessible" and case["eval_time"] == "2m"
    }
    assert words.keys() == {state.value for state in AccessState if state.is_known_loss}
    assert len(set(words.values())) == len(words)
    assert all(
        re.search(r"(customer's administrator|platform engineer|provider's administrator) must", text)
        for text in words.values()
    )


def test_what_cuts_data_off_pages_within_five_of_the_ten_minutes() -> None:
    critical = {alert["alert"]: alert.get("for", "0m") for alert in ALERTS if alert["labels"]["severity"] == "critical"}
    assert {"CmkKeyInaccessible", "CmkOldKeyVersionLost", "CmkVaultUnreachable", "CmkConsentRevoked"} <= critical.keys()
    assert all(re.fullmatch(r"[0-3]m", wait) for wait in critical.values()), critical
