"""Lines of Markdown are short enough to read and to compare; tables and code are as wide as they must be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = ("charts", "docs", "examples", "operator", "sandbox", "tests")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!-- .*? -->")
TOO_LONG = 120


def _prose(text: str) -> list[str]:
    """The lines outside of code blocks and tables that can be broken: one word, one piece of code, or a comment, cannot."""
    lines = COMMENT.sub("", FENCED.sub("", text)).splitlines()
    return [line for line in lines if not line.lstrip().startswith("|") and len(re.sub("`[^`]*`", "code", line).split()) > 1]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_are_below_120_characters(path: Path) -> None:
    assert [line for line in _prose(path.read_text(encoding="utf-8")) if len(line) >= TOO_LONG] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_code_block_is_closed(path: Path) -> None:
    assert "```" not in FENCED.sub("", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(path: Path) -> None:
    text = FENCED.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("#"):
            assert (path.parent / target.partition("#")[0]).exists(), target
