"""Generates docs/custom-resources.md, every field of every kind, from the same schemas as `crds/`.

Run `make docs-tables` after a change of a model; `make lint` and the tests fail on drift.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.crd import KINDS, custom_resource_definition
from cmk_operator.api.generated_page import text_in_a_cell, write_or_check
from cmk_operator.api.model import GROUP, VERSION
from cmk_operator.api.preflight import Preflight

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cmk_operator.api.crd import Kind

PAGE: Final = Path("docs", "custom-resources.md")
_HEAD: Final = f"""# Custom resources

<!-- Generated from the models by `make docs-tables`; do not edit. -->

Every field of group `{GROUP}`, version `{VERSION}`, as `kubectl explain` shows it too. A field
in bold is required where its parent is given. `[]` is a list, `{{}}` a map. No field of a spec has a default in the
definition: what holds where a field is absent is in `status.effective`, or said below. [manifests.md](manifests.md)
has the manifests in short, [status.md](status.md) the meaning of conditions and reasons.
"""
_BOUNDS: Final = (
    ("maxLength", "at most {} characters"),
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
    ("minItems", "at least {} entries"),
    ("maxItems", "at most {} entries"),
    ("maxProperties", "at most {} entries"),
)


def rendered() -> str:
    """The whole page."""
    return "\n".join((_HEAD, *map(_kind, KINDS)))


def _kind(kind: Kind) -> str:
    [version] = custom_resource_definition(kind)["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    columns = ", ".join(column["name"].upper() for column in version["additionalPrinterColumns"] if not column.get("priority"))
    scope = "in a namespace" if kind.scope == "Namespaced" else "cluster-wide"
    lines = [f"## {kind.name}", "", *_wrapped(text_in_a_cell(schema["description"])), ""]
    lines += [*_wrapped(f"`kubectl get {kind.short_name}` (`{kind.plural}`), {scope}; columns NAME, {columns}."), ""]
    rules = [line for rule in _rules(schema) for line in _wrapped(f"- {text_in_a_cell(rule)}", "  ")]
    lines += [*rules, ""] if rules else []
    for part in ("spec", "status"):
        if part not in schema["properties"]:
            continue
        lines += [f"### {part} of {kind.name}", "", "| field | type | what it says |", "|---|---|---|"]
        if of_the_part := [f"{rule}." for rule in _rules(schema["properties"][part])]:
            lines.append(f"| `{part}` | object | {text_in_a_cell(' '.join(of_the_part))} |")
        lines += [*_rows(schema["properties"][part], part, kind), ""]
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 116, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _rows(schema: Mapping[str, Any], path: str, kind: Kind) -> Iterator[str]:
    """One row for each field below `schema`, a parent before its children."""
    if kind.model is Preflight and path.endswith("[].spec"):
        return  # the manifests that it checks are kinds of their own
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        shown = f"**`{here}`**" if name in required else f"`{here}`"
        said = _said(field, bounded=path.startswith("spec"))
        yield f"| {shown} | {_type(field)} | {text_in_a_cell(said)} |"
        yield from _rows(*_inside(field, here), kind)


def _inside(field: Mapping[str, Any], path: str) -> tuple[Mapping[str, Any], str]:
    if field.get("type") == "array":
        return _inside(field["items"], f"{path}[]")
    if isinstance(field.get("additionalProperties"), dict):
        return _inside(field["additionalProperties"], f"{path}{{}}")
    return field, path


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"map of {_type(field['additionalProperties'])}"
    return str(field.get("format") or field.get("type", "any"))


def _said(field: Mapping[str, Any], *, bounded: bool) -> str:
    """Description, bounds and rules. What the operator writes has bounds, too, which only guard the API server."""
    description = str(field.get("description", "")).strip()
    bounds = [sentence.format(field[word]) for word, sentence in _BOUNDS if bounded and word in field]
    sizes = f"{', '.join(bounds).capitalize()}." if bounds and "enum" not in field else ""
    return " ".join(part for part in (description, sizes, *(f"{rule}." for rule in _rules(field))) if part)


def _rules(schema: Mapping[str, Any]) -> list[str]:
    """What the API server says when it refuses, without repetition."""
    return list(dict.fromkeys(str(rule["message"]) for rule in schema.get("x-kubernetes-validations", ())))


if __name__ == "__main__":
    sys.exit(write_or_check("cmk_operator.api.fields_page", PAGE, lambda _: rendered(), "the models"))
