"""docs/requirements.md: every statement has what serves it and a test that exists, or says why it has none."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "requirements.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| statement |")]
NO_COUNTERPART = "none: "


@cache
def _tests_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: _cells(row)[0][:60])
def test_a_statement_names_a_test_that_exists_or_says_why_there_is_none(row: str) -> None:
    statement, served, test = _cells(row)
    assert statement
    assert served
    if test.startswith(NO_COUNTERPART):
        return
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", test)
    assert named, row
    for file, name in named:
        assert name in _tests_of(file), f"{file} has no {name}"
