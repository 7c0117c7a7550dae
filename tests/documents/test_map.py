"""The map of the house in operator/README.md fits on one screen and is true."""

from __future__ import annotations

import re

from tests.conftest import ROOT

PACKAGE = ROOT / "operator" / "cmk_operator"
ONE_SCREEN = 50


def _map() -> str:
    text = (ROOT / "operator" / "README.md").read_text()
    section = re.search(r"^## The map of the house\n.*?^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    return section[1]


def _named_on_the_map() -> set[str]:
    """Every folder and module that the left column of the map names, with the folder that it is indented under."""
    named: set[str] = set()
    parent = ""
    for line in _map().splitlines()[1:]:
        indent = len(line) - len(line.lstrip())
        names = re.split(r" {2,}", line.strip())[0].split(", ")
        if indent == 2:
            parent = names[0]
            named.update(names)
        elif indent == 4:
            named.update(parent + name for name in names)
    return named


def test_the_map_fits_on_one_screen() -> None:
    assert len(_map().splitlines()) <= ONE_SCREEN


def test_the_map_names_each_room_and_no_other() -> None:
    folders = {
        f"{path.relative_to(PACKAGE)}/"
        for path in [*PACKAGE.glob("*/"), *PACKAGE.glob("*/*/")]
        if (path / "__init__.py").exists()
    }
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert _named_on_the_map() == folders | modules
