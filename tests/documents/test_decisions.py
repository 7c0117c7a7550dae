"""Each decision has a file of its own, with a number, and the index lists every one."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "decisions"
INDEX = FOLDER / "README.md"
FILES = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)
ROW = re.compile(r"^\| (\d{4}) \| (\d{4}-\d{2}-\d{2}) \| \[(.+)\]\((.+)\) \| (\w+) \|$", re.MULTILINE)


def test_numbers_are_unique() -> None:
    numbers = [path.name[:4] for path in FILES]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))
def test_a_decision_has_all_its_parts(path: object) -> None:
    text = (FOLDER / str(path)).read_text()
    number = (FOLDER / str(path)).name[:4]
    assert re.match(rf"# {number} \S.+\n\n- Date: \d{{4}}-\d{{2}}-\d{{2}}\n- Status: (accepted|superseded)", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_the_index_lists_each_decision_as_the_file_says() -> None:
    listed = sorted((name, number, date, title, status) for number, date, title, name, status in ROW.findall(INDEX.read_text()))
    found = []
    for path in FILES:
        head = re.match(r"# (\d{4}) (.+)\n\n- Date: (\S+)\n- Status: (\w+)", path.read_text())
        assert head is not None, path
        number, title, date, status = head.groups()
        found.append((path.name, number, date, title, status))
    assert listed == found
