"""Generates the tables of docs/settings.md from the programs' settings and from what the chart's templates set (`make docs-tables`)."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticUndefined
from pydantic_settings import CLI_SUPPRESS

from cmk_keyservice.settings import ConsoleSettings, DatabaseSettings, SealSettings, ServeSettings
from cmk_operator.api.generated_page import write_or_check
from cmk_operator.settings import Settings
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from cmk_operator.process_settings import ProcessSettings

PAGE: Final = ROOT / "docs" / "settings.md"
TEMPLATES: Final = ROOT / "charts" / "cmk-operator" / "templates"
PROGRAMS: Final[dict[str, type[ProcessSettings]]] = {
    "cmk-operator": Settings,
    "cmk-keyservice serve": ServeSettings,
    "cmk-keyservice console": ConsoleSettings,
    "cmk-keyservice migrate": DatabaseSettings,
    "cmk-keyservice seal-again": SealSettings,
}
_MARKED: Final = re.compile(r"(<!-- settings: ([a-z -]+) -->\n).*?(<!-- end of settings -->)", re.DOTALL)
_PAIR: Final = re.compile(r'"(CMK_\w+)" \(?[^"\n]*?(\.Values|\$service)\.([\w.]+)')
_BLOCK: Final = re.compile(r"\{\{- (?:if|with) (\.Values|\$service|\.)\.?([\w.]*) \}\}\n\s*- name: (CMK_\w+)")
_DUG: Final = re.compile(r'\{\{- if dig "(\w+)" false \(\.Values\.(\w+) \| default dict\) \}\}\n\s*- name: (CMK_\w+)')
"""A value that values of an earlier release lack."""


def chart_values() -> dict[str, str]:
    """The value of the chart that sets each environment variable, as the templates say."""
    found: dict[str, str] = {}
    for template in sorted((*TEMPLATES.rglob("*.yaml"), *TEMPLATES.rglob("*.tpl"))):
        text = template.read_text(encoding="utf-8")
        for variable, root, value in _PAIR.findall(text):
            found[variable] = value if root == ".Values" else f"keyService.{value}"
        for root, value, variable in _BLOCK.findall(text):
            found[variable] = value if root == ".Values" else f"keyService.{value}"
        for last, first, variable in _DUG.findall(text):
            found[variable] = f"{first}.{last}"
    return found


def rendered(page: str) -> str:
    """The page with its tables written anew."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{_table(PROGRAMS[found[2]])}\n{found[3]}", page)


def _table(kind: type[ProcessSettings]) -> str:
    prefix, values = str(kind.model_config["env_prefix"]), chart_values()
    lines = ["| variable | flag | default | value of the chart | |", "|---|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        flag = "" if _is_hidden(field) else f"`--{name.replace('_', '-')}`"
        value = f"`{values[variable]}`" if variable in values else ""
        cells = (f"`{variable}`", flag, _default(field), value, (field.description or "").replace("|", r"\|"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(re.sub("  +", " ", line) for line in lines) + "\n"


def flags(kind: type[ProcessSettings]) -> set[str]:
    """The flags that `--help` lists."""
    return {f"--{name.replace('_', '-')}" for name, field in kind.model_fields.items() if not _is_hidden(field)}


def _is_hidden(field: FieldInfo) -> bool:
    return CLI_SUPPRESS in field.metadata


def _default(field: FieldInfo) -> str:
    default: Any = field.default
    if default is PydanticUndefined:
        return "required"
    if default is None or default == "":
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


if __name__ == "__main__":
    sys.exit(
        write_or_check(
            "tests.documents.settings_page",
            PAGE.relative_to(ROOT),
            lambda path: rendered(path.read_text(encoding="utf-8")),
            "the settings",
        )
    )
