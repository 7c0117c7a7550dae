"""Documents, `--help`, chart and code name the same settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from pydantic_settings import CliApp

from cmk_keyservice.settings import VARIABLES
from cmk_operator.settings import Settings
from tests.conftest import ROOT
from tests.documents.settings_page import PAGE, PROGRAMS, chart_values, flags, rendered

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = Settings.variables() | VARIABLES
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
WRITTEN = [
    *(path for folder in ("docs", "charts", "examples") for path in (ROOT / folder).rglob("*") if path.is_file()),
    ROOT / "README.md",
    ROOT / "Dockerfile",
    ROOT / "operator" / "README.md",
]


def test_the_page_has_the_settings_of_the_code_and_the_values_of_the_chart() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rendered(page) == page, "run `make docs-tables`"
    assert chart_values().keys() <= KNOWN


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_lists_exactly_the_settings_that_the_page_has(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        CliApp.run(PROGRAMS[program], cli_args=["--help"])
    options = capsys.readouterr().out.split("options:")[1]
    assert set(re.findall(r"^  (--[a-z-]+)", options, re.MULTILINE)) == flags(PROGRAMS[program])
    assert "lambda" not in options


def _named(path: Path) -> set[str]:
    text = path.read_bytes().decode("utf-8", errors="ignore")
    text = FENCED.sub("", text) if path == PAGE else text
    return set(re.findall(r"\bCMK_(?:OPERATOR|KEYSERVICE)_[A-Z_]*[A-Z]\b(?![_<…])", text))


def test_no_document_and_no_template_names_a_setting_that_does_not_exist() -> None:
    named = {str(path.relative_to(ROOT)): _named(path) - KNOWN for path in WRITTEN}
    assert {path: found for path, found in named.items() if found} == {}
    assert any("CMK_OPERATOR_WORKERS" in _named(path) for path in WRITTEN)
