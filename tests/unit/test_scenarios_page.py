"""docs/scenarios.md: each row says all that a person needs, and names alerts and tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
import yaml

from cmk_operator.core.access.state import AccessState
from cmk_operator.core.faults.reason import Reason
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL))
LABELS = ("What happened", "Data stops", "Shown", "Alert", "Who does what", "Heals", "Played by")
OF_THE_REQUIREMENTS = 11
"""Six rows of data loss, and five of recovery."""
OF_AN_ORGANIZATION = 8
"""Credentials in four rows, the key itself in four."""


def named(row: str) -> list[tuple[str, str]]:
    """Files and tests that a row names."""
    return re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", ROWS[row])


@cache
def functions_of(file: str) -> set[str]:
    """The tests that a file really has."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_says_what_happened_what_stops_how_it_is_shown_who_acts_and_how_it_heals(row: str) -> None:
    assert re.findall(r"^- \*\*([\w ]+)\*\*:(?: |\n  )\S", ROWS[row], re.MULTILINE) == list(LABELS)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_a_test_that_exists(row: str) -> None:
    assert named(row)
    for file, test in named(row):
        assert test in functions_of(file), f"{file} has no {test}"


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_an_alert_that_exists(row: str) -> None:
    rules = yaml.safe_load((ROOT / "charts/cmk-operator/files/monitoring/alerts.yaml").read_text(encoding="utf-8"))
    known = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    alerts = set(re.findall(r"Cmk\w+", ROWS[row]))
    assert alerts
    assert alerts <= known


def test_every_row_of_the_requirements_leads_to_rows_that_exist() -> None:
    table = re.findall(r"^\| (?:data loss|recovery): .*$", PAGE, re.MULTILINE)
    assert len(table) == OF_THE_REQUIREMENTS
    of_organizations = re.findall(r"^\| organization: .*$", PAGE, re.MULTILINE)
    assert len(of_organizations) == OF_AN_ORGANIZATION
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in ROWS}
    for line in (*table, *of_organizations):
        links = re.findall(r"\]\(#([\w-]+)\)", line)
        assert links
        assert set(links) <= anchors, line


@pytest.mark.parametrize("file", ["tests/e2e/test_scenarios.py", "tests/e2e/test_organization_scenarios.py"])
def test_every_scenario_that_is_played_belongs_to_a_row(file: str) -> None:
    played = {name for name in functions_of(file) if name.startswith("test_")}
    assert played == {test for row in ROWS for path, test in named(row) if path == file}


def test_every_state_of_a_key_but_accessible_has_a_row() -> None:
    shown = {state for row in ROWS for state in re.findall(r"`(\w+)`", ROWS[row])}
    assert {state.value for state in AccessState} - {"Accessible"} <= shown


def test_every_refusal_of_an_organization_s_key_is_shown_by_some_row() -> None:
    part = PAGE.partition("## Application-level encryption")[2]
    shown = set(re.findall(r"`(\w+)`", part))
    refused = {
        Reason.CREDENTIAL_EXPIRED,
        Reason.CREDENTIAL_REFUSED,
        Reason.DISABLED,
        Reason.MISSING,
        Reason.PURGED,
        Reason.PERMISSION_DENIED,
        Reason.CONSENT_MISSING,
        Reason.FIREWALL_BLOCKS_PROBE,
        Reason.VAULT_UNREACHABLE,
        Reason.VAULT_THROTTLED,
        Reason.KEY_EXPIRED,
        Reason.SERVING_REFUSED,
        Reason.NOT_SERVING,
        Reason.COASTING,
        Reason.REWRAP_FAILED,
    }
    assert {reason.value for reason in refused} <= shown
