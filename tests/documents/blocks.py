"""The blocks of a page: commands, what they print, and where each is run or why it is not.

A comment right above a block of commands says so: `<!-- run by tests/….py::test_… -->` or `<!-- not run: why -->`. One that
begins with `every command of this page` holds for all blocks of a page that have none of their own.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

COMMAND_LANGUAGES = {"sh", "bash", "console", "shell"}
PROGRAMS = ("az", "kubectl", "helm", "docker", "pip", "make", "curl", "openssl", "cmk-keyservice", "cmk-operator", "cosign")
FOLDERS = ("charts", "docs", "examples", "operator", "sandbox")
PAGES = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
NOT_RUN = "<!-- not run: "
_BLOCK = re.compile(
    r"(?:^(?P<marker> *<!-- [^\n]*? -->) *\n\n?)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_OF_THE_PAGE = re.compile(r"^<!-- every command of this page .*? -->$", re.MULTILINE)
_INLINE = re.compile(r"^\*\*Commands\.\*\*.*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_PLACEHOLDERS = {"NS": "fabrikam", "KEY": "fabrikam", "NAME": "fabrikam", "TENANT": "fabrikam"}


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text without the indentation, its line, and the comment that is about it."""

    page: Path
    line: int
    language: str
    text: str
    marker: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def has_commands(self) -> bool:
        """Whether a reader would give this to a shell: by its language, or by its first word."""
        first = self.text.split(maxsplit=1)[0] if self.text.split() else ""
        return self.language in COMMAND_LANGUAGES or (not self.language and first in {"$", *PROGRAMS})


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in their order."""
    whole = page.read_text(encoding="utf-8")
    of_the_page = _OF_THE_PAGE.search(whole)
    found = []
    for match in _BLOCK.finditer(whole):
        indent = len(match["indent"])
        text = "".join(line[indent:] if line.strip() else line for line in match["text"].splitlines(keepends=True))
        line = whole.count("\n", 0, match.start("language")) + 1
        marker = (match["marker"] or (of_the_page[0] if of_the_page else "")).strip()
        found.append(Block(page, line, match["language"], text, marker))
    return found


def section(page: Path, heading: str) -> list[Block]:
    """The blocks between a heading (of the page or of the first level below it) and the next such heading."""
    lines = page.read_text(encoding="utf-8").splitlines()
    fences = [number for number, line in enumerate(lines, start=1) if line.lstrip().startswith("```")]
    headings = [
        number
        for number, line in enumerate(lines, start=1)
        if re.match(r"##? ", line) and sum(fence < number for fence in fences) % 2 == 0
    ]
    first = next(number for number in headings if lines[number - 1].lstrip("# ") == heading)
    last = next((number for number in headings if number > first), len(lines) + 1)
    return [block for block in blocks(page) if first < block.line < last]


def inline_commands(page: Path) -> list[Block]:
    """Commands within the text of a runbook's paragraph **Commands.**, each as a block of its own."""
    whole = page.read_text(encoding="utf-8")
    return [
        Block(page, whole.count("\n", 0, paragraph.start()) + 1, "sh", f"{command}\n")
        for paragraph in _INLINE.finditer(whole)
        for command in re.findall(r"`((?:kubectl|az) [^`]+)`", paragraph[0])
    ]


def commands_to_try(*excluded: Path) -> list[Block]:
    """Every block with commands, and every inline one, that is not marked as not run; without some pages."""
    return [
        block
        for page in PAGES
        if page not in excluded
        for block in [*blocks(page), *inline_commands(page)]
        if block.has_commands and block.language != "console" and not block.marker.startswith(NOT_RUN)
    ]


def filled_in(text: str) -> str:
    """The text with the words in capitals that stand for names of objects replaced."""
    return re.sub(rf"(?<![\w$-])({'|'.join(_PLACEHOLDERS)})(?![\w=-])", lambda found: _PLACEHOLDERS[found[1]], text)


def arguments_of(program: str, found: list[Block]) -> list[tuple[Block, list[str]]]:
    """What `program` is called with by the blocks: a shell runs them with every program replaced, this one by a recorder."""
    called: list[tuple[Block, list[str]]] = []
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        # One write for each call: both ends of a pipe may write at the same time.
        recorder = f"""{{ printf '%s\\0' "$@" $'\\036' >> {record}; echo id; }}"""
        stubs = "".join(f"{name}() {recorder if name == program else '{ echo id; }'}\n" for name in (*PROGRAMS, "jq"))
        for block in found:
            if not re.search(rf"(?<![\w/-]){program} ", block.text):
                continue
            script = f"cd {folder}\n{stubs}xargs() {{ cat >/dev/null; }}\n{block.text}"
            subprocess.run(
                ["bash", "-c", script],
                capture_output=True,
                check=False,
                stdin=subprocess.DEVNULL,
                env={"PATH": "/usr/bin:/bin"},
            )
            calls = record.read_text(encoding="utf-8").split("\036\0")[:-1] if record.exists() else []
            record.unlink(missing_ok=True)
            called += [(block, call.split("\0")[:-1]) for call in calls]
    return called
