"""The site's navigation has every page, links lead to headings that exist, and generated pages are as their source says."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

import pytest

from cmk_operator.api import fields_page
from cmk_operator.api.generated_page import text_in_a_cell
from cmk_operator.cli import options_page
from tests.conftest import ROOT
from tests.documents.test_lines import DOCUMENTS, FENCED

if TYPE_CHECKING:
    from pathlib import Path

DOCS = ROOT / "docs"
INDEX = DOCS / "index.md"
LINK = re.compile(r"\]\(([^)\s]+)\)")
LISTED = re.compile(r"^- \[.+?\]\((\S+?)\)", re.MULTILINE)


@cache
def _anchors(path: Path) -> frozenset[str]:
    """The anchors that GitHub, and the site, give to the headings of a page."""
    text = FENCED.sub("", path.read_text(encoding="utf-8"))
    found: Counter[str] = Counter()
    anchors = set()
    for title in re.findall(r"^#+ (.+?) *$", text, re.MULTILINE):
        plain = LINK.sub("", title.replace("[", "")) if "](" in title else title
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{found[anchor]}" if found[anchor] else anchor)
        found[anchor] += 1
    return frozenset(anchors)


def test_each_page_stands_once_in_the_navigation() -> None:
    listed = Counter((DOCS / target).resolve() for target in LISTED.findall(INDEX.read_text(encoding="utf-8")))
    pages = {path for path in DOCS.rglob("*.md") if path != INDEX and not path.name[:4].isdigit()}
    assert {str(path.relative_to(ROOT)) for path in pages - set(listed)} == set(), "docs/index.md must list these pages"
    assert [str(path) for path, count in listed.items() if count > 1] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_with_an_anchor_lead_to_a_heading(path: Path) -> None:
    for target in LINK.findall(FENCED.sub("", path.read_text(encoding="utf-8"))):
        page, _, anchor = target.partition("#")
        if anchor and "://" not in target and (not page or page.endswith(".md")):
            assert anchor in _anchors((path.parent / page).resolve() if page else path), target


def test_the_reference_of_custom_resources_is_as_the_models_say() -> None:
    assert (ROOT / fields_page.PAGE).read_text(encoding="utf-8") == fields_page.rendered(), "run: make docs-tables"


def test_the_reference_of_the_command_line_is_as_the_commands_say() -> None:
    assert (ROOT / options_page.PAGE).read_text(encoding="utf-8") == options_page.rendered(), "run: make docs-tables"


def test_text_of_a_model_is_no_markup_in_a_table() -> None:
    assert text_in_a_cell("a <b> | `c|d` e_f\n g*") == r"a \<b\> \| `c|d` e\_f g\*"


def test_every_field_of_every_definition_has_a_row() -> None:
    rows = fields_page.rendered()
    for field in ("spec.keyUri", "status.access.stops[].service", "spec.organizations{}.plan", "spec.disk.diskEncryptionSetId"):
        assert f"`{field}`" in rows
