"""What commands print: tables and sentences for people, one JSON document for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cmk_operator.core.text.rfc3339 import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH: Final = 220
"""Columns where no terminal says how many it has, so that a pipe gets whole rows."""


def now() -> datetime:
    """The present, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def instant(at: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return to_rfc3339(at) if at is not None else None


def printable(text: str) -> str:
    """Without what moves a terminal's cursor: status quotes Azure and manifests."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def console() -> Console:
    """Where people read."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH)


def show_json(data: object) -> None:
    """Print one document for programs."""
    click.echo(json.dumps(data, indent=2))


def show_table(on: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    """Print rows under their names; what is not known is a dash."""
    on.print()
    table = Table(box=None, header_style="bold", pad_edge=False, title=title, title_justify="left", title_style="bold cyan")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell or "-")) for cell in row))
    on.print(table)


def show_lines(on: Console, title: str, lines: Iterable[str], style: str = "bold cyan") -> None:
    """Print sentences under a title; nothing without sentences."""
    texts = list(lines)
    if not texts:
        return
    on.print()
    on.print(Text(title, style=style))
    for text in texts:
        on.print(Text(f"  {printable(text)}"), soft_wrap=True)


def show_command(on: Console, command: str) -> None:
    """Print a command as it can be copied: no blank behind a line, no line broken."""
    for line in command.splitlines():
        on.print(Text(f"   {printable(line)}", style="green"), soft_wrap=True)


def without_absent(data: dict[str, Any]) -> dict[str, Any]:
    """The entries that are known."""
    return {name: value for name, value in data.items() if value is not None}
