"""Generates docs/cli-options.md, every option of every command, from the commands themselves.

Run `make docs-tables` after a change of a command; `make lint` and the tests fail on drift.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cmk_operator.api.generated_page import text_in_a_cell, write_or_check
from cmk_operator.cli.cluster import CONNECTION
from cmk_operator.cli.commands import cmk

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = Path("docs", "cli-options.md")
_HEAD: Final = """# Options of `kubectl cmk`

<!-- Generated from the commands by `make docs-tables`; do not edit. -->

What each command answers, and its JSON: [cli.md](cli.md). Every command takes kubectl's own options, before or behind
its name, and `-h`.

## Of every command
"""


def rendered() -> str:
    """The whole page."""
    parts = [_HEAD, *_table(cmk), ""]
    for path, command in _commands(cmk, "kubectl cmk"):
        parts += [f"## {path.removeprefix('kubectl cmk ')}", "", *_usage(path, command), "", _prose(command.help or ""), ""]
        own = list(_table(command, without=CONNECTION))
        parts += [*own, ""] if len(own) > len(_COLUMNS) else []
    return "\n".join(parts).rstrip("\n") + "\n"


_COLUMNS: Final = ("| option | what it does |", "|---|---|")


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _usage(path: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=path, **cmk.context_settings)  # click keeps the names of the option for help
    return ["```text", " ".join((path, *command.collect_usage_pieces(context))), "```"]


def _table(command: click.Command, without: tuple[str, ...] = ()) -> Iterator[str]:
    yield from _COLUMNS
    context = click.Context(command)
    for parameter in command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None and parameter.name not in without:
            yield f"| {_option(record[0])} | {text_in_a_cell(record[1])} |"


def _option(name: str) -> str:
    """The option as code. A bar would end the cell even there, so each of several choices is named apart."""
    if "|" not in name:
        return f"`{name}`"
    option, _, values = name.partition(" [")
    return " ".join((f"`{option}`", ", ".join(f"`{value}`" for value in values.rstrip("]").split("|"))))


def _prose(text: str) -> str:
    """Paragraphs of a docstring, as paragraphs of Markdown."""
    paragraphs = [text_in_a_cell(paragraph) for paragraph in text.replace("\b", "").split("\n\n")]
    return "\n\n".join("\n".join(_wrapped(paragraph)) for paragraph in paragraphs if paragraph)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 116, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(write_or_check("cmk_operator.cli.options_page", PAGE, lambda _: rendered(), "the commands"))
