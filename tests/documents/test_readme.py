"""The README fits on a few screens, and its picture is small and there."""

from __future__ import annotations

import re

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
LONGEST, LARGEST = 120, 150_000
PNG = b"\x89PNG\r\n\x1a\n"


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_each_picture_is_there_has_words_for_who_cannot_see_it_and_is_small() -> None:
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", README)
    assert pictures
    for words, path in pictures:
        content = (ROOT / path).read_bytes()
        assert (len(words) > 20, content.startswith(PNG), len(content) < LARGEST) == (True, True, True), path
