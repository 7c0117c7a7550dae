"""Reads copies of the record outside the cluster: exported files, files from a sink, and the operator's log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cmk_operator.core.audit.chain import Line, canonical
from cmk_operator.core.audit.kept import Kept, parse_kept
from cmk_operator.core.audit.layout import KEPT_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable


def index_line(kept: Kept) -> str:
    """The line of an export that says which of the older entries are in it, because the others have left the cluster."""
    return canonical({KEPT_KEY: json.loads(kept.dump())})


def index_in(text: Iterable[str]) -> Kept | None:
    """The newest index in a file; None if the file has none, as a log."""
    found = (parse_kept(json.dumps(held)) for held in map(_index_in, text) if held is not None)
    return max((kept for kept in found if kept is not None), key=lambda kept: kept.to, default=None)


def _index_in(line: str) -> object | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found[KEPT_KEY] if isinstance(found, dict) and found.keys() == {KEPT_KEY} else None


def lines_in(text: Iterable[str], name: str) -> list[Line]:
    """The lines of a file that are or should be entries; other lines of a log are left out."""
    found: list[Line] = []
    for number, raw in enumerate(text, start=1):
        line = raw.strip()
        if line and _index_in(line) is not None:
            continue
        entry = _entry_in(line) if line else None
        if entry is not None:
            found.append(Line(entry, f"{name}, line {number}"))
    return found


def _entry_in(line: str) -> str | None:
    """The entry that a line is or contains; None for another line of a log."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(found, dict) or not {"level", "message"} <= found.keys():
        return line
    held = found.get("audit")
    if held is None or (isinstance(held, dict) and held.get("recorded") is False):
        return None
    try:
        return canonical(held)
    except (ValueError, RecursionError):
        return line
