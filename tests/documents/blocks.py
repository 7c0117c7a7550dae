"""The blocks of a page: commands, what they print, and where each is run or why it is not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = re.compile(
    r"(?:^(?P<marker> *<!-- .*? -->) *\n\n?)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text without the indentation, its line, and the comment above it."""

    page: Path
    line: int
    language: str
    text: str
    marker: str = ""


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in their order."""
    whole = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(whole):
        indent = len(match["indent"])
        text = "".join(line[indent:] if line.strip() else line for line in match["text"].splitlines(keepends=True))
        line = whole.count("\n", 0, match.start("language")) + 1
        found.append(Block(page, line, match["language"], text, (match["marker"] or "").strip()))
    return found
