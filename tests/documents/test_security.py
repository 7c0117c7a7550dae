"""The threat model names, for each threat, a test that tries it; each of them exists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
HEADER = "| threat | defence | tried by |"
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)(?:::(test_[a-z0-9_]+))?`")


def _threats() -> list[str]:
    """The rows of all tables of threats."""
    tables = [part.partition("\n\n")[0] for part in PAGE.split(HEADER)[1:]]
    return [row for table in tables for row in table.splitlines()[2:]]


def test_the_page_has_its_parts() -> None:
    for heading in ("## Assets", "## Actors", "## To edit these kinds is privileged", "## Threats", "## Out of scope"):
        assert heading in PAGE
    assert "kind: ResourceQuota" in PAGE


@pytest.mark.parametrize("row", _threats(), ids=lambda row: row.split("|")[1].strip())
def test_each_threat_has_a_defence_and_a_test_that_exists(row: str) -> None:
    _, threat, defence, tried, _ = row.split("|")
    assert threat.strip()
    assert defence.strip()
    found = NAMED.findall(tried)
    assert found, "no test is named"
    for file, name in found:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        tests = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert any(each.startswith("test_") for each in tests)
        assert not name or name in tests
