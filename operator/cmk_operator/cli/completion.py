"""`kubectl_complete-cmk`: what kubectl's own completion asks for a plugin's, in every shell that kubectl completes in.

Source: kubectl, "Extend kubectl with plugins", section on completion: one suggestion on each line, and the directive on the last.
"""

from __future__ import annotations

import sys

from click.shell_completion import ShellComplete

from cmk_operator.cli.commands import cmk

COMMAND = "__complete"
"""The word by which `kubectl-cmk` does the same, where only one file is installed; cobra's own programs use it, too."""
NO_FILES, FILES = 4, 0
"""Directives of cobra: suggest no files beside, or what the shell suggests itself."""


def suggestions(arguments: list[str]) -> tuple[list[str], int]:
    """What may stand in place of the last argument, each with a tab and its help, and the directive."""
    *given, incomplete = arguments or [""]
    found = ShellComplete(cmk, {}, "kubectl cmk", "").get_completions(given, incomplete)
    directive = FILES if any(item.type in {"file", "dir"} for item in found) else NO_FILES
    plain = [item for item in found if item.type == "plain"]
    return [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in plain], directive


def answer(arguments: list[str]) -> None:
    """Print the suggestions as kubectl reads them."""
    lines, directive = suggestions(arguments)
    sys.stdout.write("\n".join([*lines, f":{directive}"]) + "\n")


def main() -> None:
    """Answer kubectl, which passes the words behind `kubectl cmk`."""
    answer(sys.argv[1:])
