"""Builds readable shell commands, quoted so that no word is evaluated."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH: Final = 110
CONTINUED: Final = " \\"
_BACKSLASH: Final = "\\"
_CONTROL: Final = re.compile(r"[\x01-\x1f\x7f]")
_MEANS_NOTHING_IN_DOUBLE_QUOTES: Final = re.compile(r"[^\"$`\\!\x00-\x1f\x7f]*")


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the script, always expanded within double quotes."""

    name: str


Part: TypeAlias = "str | Variable"
Word: TypeAlias = "Part | tuple[Part, ...]"
"""A word: text, a variable, or several of both without a space between them."""


def quoted(word: Word) -> str:
    """One word, quoted for bash; text is never evaluated."""
    parts = word if isinstance(word, tuple) else (word,)
    return "".join(f'"${part.name}"' if isinstance(part, Variable) else _text(part) for part in parts) or "''"


def _text(text: str) -> str:
    if _CONTROL.search(text):
        # Copied from a terminal, a tab would arrive as blanks. Source: Bash Reference Manual, "ANSI-C Quoting".
        escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\t", "\\t")
        return f"$'{_CONTROL.sub(lambda found: f'{_BACKSLASH}x{ord(found[0]):02x}', escaped)}'"
    if "'" in text and _MEANS_NOTHING_IN_DOUBLE_QUOTES.fullmatch(text):
        return f'"{text}"'
    return shlex.quote(text)


def line(*words: Word) -> str:
    """A command on one line; if that is too long, with each option on its own line."""
    texts = [quoted(word) for word in words]
    whole = " ".join(texts)
    if len(whole) <= WIDTH:
        return whole
    return "".join(
        text if not number else f" \\\n  {text}" if _is_option(word) else f" {text}"
        for number, (word, text) in enumerate(zip(words, texts, strict=True))
    )


def _is_option(word: Word) -> bool:
    return isinstance(word, str) and word.startswith("--")


def captured(name: str, *words: Word) -> str:
    """Assign a command's output to a variable; under `set -e` the script ends if the command fails."""
    return f'{name}="$({line(*words)})"'


def indented(*commands: str) -> str:
    """Indent commands within a block; no word may contain a line break."""
    return "\n".join(f"  {row}" for command in commands for row in command.split("\n"))


def when(condition: str, *commands: str, otherwise: tuple[str, ...] = ()) -> str:
    """An `if` statement."""
    rest = ("else", indented(*otherwise)) if otherwise else ()
    return "\n".join((f"if {condition}; then", indented(*commands), *rest, "fi"))


def one_of(word: str, texts: Iterable[str], command: str) -> str:
    """A command if a word, which may be an expansion, is one of several texts."""
    patterns = " | ".join(map(quoted, texts))
    rows = textwrap.wrap(f"{patterns})", WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(
        (
            f'case "{word}" in',
            *(f"  {row}{CONTINUED}" for row in rows[:-1]),
            f"  {rows[-1]}",
            f"    {command}",
            "    ;;",
            "esac",
        )
    )
