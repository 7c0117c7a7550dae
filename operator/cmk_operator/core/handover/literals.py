"""Values as literals of Terraform and Bicep, escaped so that nothing in a value is evaluated."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_BICEP_ESCAPES: Final = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression to be evaluated; must never contain untrusted text."""

    text: str


def terraform_value(value: Any, indent: str = "") -> str:  # noqa: ANN401 - JSON is what it is
    """A value in the syntax of Terraform, formatted like `terraform fmt`.

    Source: Terraform, "Strings and templates": `${` and `%{` are escaped by doubling their first sign.
    """
    match value:
        case Expression():
            return value.text
        case str():
            return json.dumps(value).replace("${", "$${").replace("%{", "%%{")
        case dict():
            inner = indent + "  "
            return _block("{", "}", aligned(value, inner), indent)
        case list() | tuple() if any(isinstance(entry, dict) for entry in value):
            inner = indent + "  "
            return _block("[", "]", [f"{inner}{terraform_value(entry, inner)}," for entry in value], indent)
        case list() | tuple():
            return "[" + ", ".join(terraform_value(entry) for entry in value) + "]"
        case _:
            return json.dumps(value)


def aligned(entries: Mapping[str, Any], indent: str) -> list[str]:
    """One argument on each line; the equals signs of consecutive single-line arguments are aligned."""
    shown = [(name, terraform_value(value, indent)) for name, value in entries.items()]
    lines: list[str] = []
    run: list[tuple[str, str]] = []

    def flush() -> None:
        width = max((len(name) for name, _ in run), default=0)
        lines.extend(f"{indent}{name:<{width}} = {text}" for name, text in run)
        run.clear()

    for name, text in shown:
        if "\n" in text:
            flush()
            lines.append(f"{indent}{name} = {text}")
        else:
            run.append((name, text))
    flush()
    return lines


def bicep_value(value: Any, indent: str = "") -> str:  # noqa: ANN401 - JSON is what it is
    r"""A value in the syntax of Bicep.

    Source: Bicep, "Data types": in a string `\\`, `'`, line ends and `${` are escaped by a backslash.
    """
    inner = indent + "  "
    match value:
        case Expression():
            return value.text
        case str():
            return "'" + "".join(_BICEP_ESCAPES.get(sign, sign) for sign in value).replace("${", "\\${") + "'"
        case dict():
            return _block("{", "}", [f"{inner}{name}: {bicep_value(entry, inner)}" for name, entry in value.items()], indent)
        case list() | tuple():
            return _block("[", "]", [f"{inner}{bicep_value(entry, inner)}" for entry in value], indent)
        case _:
            return json.dumps(value)


def _block(start: str, end: str, lines: list[str], indent: str) -> str:
    return "\n".join((start, *lines, f"{indent}{end}")) if lines else f"{start}{end}"


def numbered(stem: str, count: int) -> Callable[[int], str]:
    """Makes labels: `vault` for one, or `vault_1`, `vault_2` for several."""
    return (lambda _: stem) if count == 1 else (lambda number: f"{stem}_{number}")
