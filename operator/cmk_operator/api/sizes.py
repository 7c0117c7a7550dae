"""How large each text and list of a custom resource may be, and how a status is kept within that.

The definitions give every text, list and map a size. What a manifest exceeds, the API server refuses. What the operator reports
may come from outside, and a status that is refused would stay as it was: so a status is cut before it is written.
"""

from __future__ import annotations

import json
from typing import Any, Final

LONGEST_TEXT: Final = 8192
"""Characters of a text in a status that has no size of its own."""
LONGEST_WORD: Final = 253
"""Characters of a text in a manifest that should be one of a few words."""
MOST_ENTRIES: Final = 200
"""Entries of a list in a status that has no size of its own."""
LONGEST_TIME: Final = 40
"""Characters of a time (RFC 3339)."""
LARGEST_STATUS: Final = 900_000
"""Bytes of a status: etcd refuses an object of more than 1.5 MiB."""
_SHORTER: Final = (2000, 500, 100)
_KEPT_WORDS: Final = frozenset({"type", "maxLength", "maxItems", "maxProperties", "properties", "items"})


def with_sizes(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema in which each text and list has a size."""
    sized = dict(schema)
    match schema.get("type"):
        case "string" if "enum" not in schema and "maxLength" not in schema:
            sized["maxLength"] = LONGEST_TIME if schema.get("format") == "date-time" else LONGEST_TEXT
        case "array":
            sized.setdefault("maxItems", MOST_ENTRIES)
            sized["items"] = with_sizes(schema["items"])
        case "object" if "properties" in schema:
            sized["properties"] = {name: with_sizes(inner) for name, inner in schema["properties"].items()}
    return sized


def only_sizes(schema: dict[str, Any]) -> dict[str, Any]:
    """The same fields and sizes, without any other rule, for a manifest that is to be checked and not applied."""
    kept = {word: value for word, value in schema.items() if word in _KEPT_WORDS}
    if "properties" in kept:
        kept["properties"] = {name: only_sizes(inner) for name, inner in kept["properties"].items()}
    if "items" in kept:
        kept["items"] = only_sizes(kept["items"])
    if schema.get("type") == "string":
        kept.setdefault("maxLength", LONGEST_WORD)
    return with_sizes(kept)


def cut_to(schema: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    """A status in JSON, with texts and lists no larger than the schema allows, and not larger than etcd accepts as a whole."""
    cut: dict[str, Any] = _cut(schema, status)
    for longest in _SHORTER:
        if _bytes(cut) <= LARGEST_STATUS:
            break
        cut = _shortened(cut, longest)
    return cut


def _cut(schema: dict[str, Any], value: Any) -> Any:  # noqa: ANN401 - JSON is what it is
    match value:
        case str():
            return _text(value, schema.get("maxLength", LONGEST_TEXT))
        case list():
            return [_cut(schema["items"], item) for item in value[: schema.get("maxItems", MOST_ENTRIES)]]
        case dict():
            known = schema.get("properties", {})
            return {name: _cut(known[name], item) if name in known else item for name, item in value.items()}
        case _:
            return value


def _shortened(value: Any, longest: int) -> Any:  # noqa: ANN401 - JSON is what it is
    match value:
        case str():
            return _text(value, longest)
        case list():
            return [_shortened(item, longest) for item in value]
        case dict():
            return {name: _shortened(item, longest) for name, item in value.items()}
        case _:
            return value


def _text(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _bytes(status: dict[str, Any]) -> int:
    # A cheap bound first: most statuses have some kilobytes.
    text = json.dumps(status, ensure_ascii=False, separators=(",", ":"))
    return len(text) if len(text) * 4 <= LARGEST_STATUS else len(text.encode(errors="replace"))
