"""What commands print: tables and sentences for people, one JSON document for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cmk_operator.core.text.rfc3339 import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    CommandT = TypeVar("CommandT", bound=Callable[..., object])

WIDTH: Final = 220
"""Columns where no terminal says how many it has, so that a pipe gets whole rows."""
NARROWEST: Final = 16
"""Characters of a column that is folded."""


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


def show_table(
    on: Console,
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | None]],
    *,
    only_if_wide: Sequence[str] = (),
    wide: bool = False,
) -> None:
    """Print rows under their names; what is not known is a dash.

    Where the terminal is too narrow, the columns `only_if_wide` are left out, the first named first; never with `wide`. A column
    that folds keeps `NARROWEST` characters: beyond that the lines are longer than the terminal.
    """
    on.print()
    cells = [[printable(cell or "-") for cell in row] for row in rows]
    natural = {name: max(len(name), *(len(row[at]) for row in cells), 0) for at, name in enumerate(columns)}
    left_out: list[str] = []
    for name in () if wide else only_if_wide:
        if _width_of(natural[one] for one in columns if one not in left_out) > on.width:
            left_out.append(name)
    shown = [at for at, name in enumerate(columns) if name not in left_out]
    table = Table(box=None, header_style="bold", pad_edge=False, title=title, title_justify="left", title_style="bold cyan")
    for at in shown:
        table.add_column(columns[at], overflow="fold", min_width=min(natural[columns[at]], NARROWEST))
    for row in cells:
        table.add_row(*(Text(row[at]) for at in shown))
    needed = _width_of(min(natural[columns[at]], NARROWEST) for at in shown)
    on.print(table, width=max(on.width, needed), crop=False, no_wrap=False, soft_wrap=needed > on.width)
    if left_out:
        on.print(Text(f"Not shown: {', '.join(left_out)} (-o wide shows all columns)", style="dim"))


def _width_of(columns: Iterable[int]) -> int:
    """The width of a table: two blanks stand between columns."""
    widths = list(columns)
    return sum(widths) + 2 * (len(widths) - 1)


def output_option(*more: str) -> Callable[[CommandT], CommandT]:
    """The option `-o`: `json`, and what a command has besides."""
    told = "Print data for programs (json), or all columns (wide)." if "wide" in more else "Print data for programs."
    return click.option("-o", "--output", type=click.Choice(["json", *more]), help=told)


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
    """Print a command as it can be copied: from the first column, no blank behind a line, no line broken."""
    for line in command.splitlines():
        on.print(Text(printable(line), style="green"), soft_wrap=True)


def without_absent(data: dict[str, Any]) -> dict[str, Any]:
    """The entries that are known."""
    return {name: value for name, value in data.items() if value is not None}
