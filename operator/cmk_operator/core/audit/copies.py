"""Reads copies of the record outside the cluster: exported files, files from a sink, and the operator's log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cmk_operator.core.audit.chain import Line, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable


def lines_in(text: Iterable[str], name: str) -> list[Line]:
    """The lines of a file that are or should be entries; other lines of a log are left out."""
    found: list[Line] = []
    for number, raw in enumerate(text, start=1):
        line = raw.strip()
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
