"""The layout of the record in Kubernetes: segments in a ring of ConfigMaps, and a head with the length of the chain."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.audit.chain import ORIGIN, Anchor, Line, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEAD_NAME: Final = "cmk-operator-audit"
HEAD_KEY: Final = "head"
SLOTS: Final = 64
"""The number of segments in the cluster, and of their names in the chart's Role."""


def segment_name(slot: int) -> str:
    """The ConfigMap of a slot; which segment is in which slot does not matter, because entries are numbered."""
    return f"{HEAD_NAME}-{slot}"


def entry_key(sequence: int) -> str:
    """The key of an entry in its segment; keys sort like sequence numbers."""
    return f"{sequence:012d}"


@dataclass(frozen=True, slots=True)
class Head:
    """The range of the record.

    `last` is the newest entry that the head knows; the chain may be longer, never shorter. `base` is the entry before the oldest one
    that must still be in the cluster. `delivered` is the last entry that the sink has accepted.
    """

    last: Anchor = ORIGIN
    base: Anchor = ORIGIN
    delivered: int = 0

    def dump(self) -> str:
        """The head as one line of canonical JSON."""
        return canonical(
            {
                "sequence": self.last.sequence,
                "hash": self.last.digest,
                "base": {"sequence": self.base.sequence, "hash": self.base.digest},
                "delivered": self.delivered,
            }
        )


def parse_head(line: str) -> Head | None:
    """Parse the head from its line; None if the line is not a head."""
    try:
        found: Any = json.loads(line)
        return Head(
            Anchor(int(found["sequence"]), str(found["hash"])),
            Anchor(int(found["base"]["sequence"]), str(found["base"]["hash"])),
            int(found["delivered"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def lines_of(config_maps: Iterable[Mapping[str, Any]]) -> list[Line]:
    """All lines of the segments among `config_maps`, in the order of their keys."""
    slots = {segment_name(slot) for slot in range(SLOTS)}
    found: list[tuple[str, Line]] = []
    for body in config_maps:
        name = str(body["metadata"]["name"])
        if name not in slots:
            continue
        for key, text in (body.get("data") or {}).items():
            number = int(key) if key.isdecimal() else None
            found.append((key, Line(str(text), f"ConfigMap {name}, key {key}", number)))
    return [line for _, line in sorted(found, key=lambda one: (one[0], one[1].place))]


def head_of(config_maps: Iterable[Mapping[str, Any]]) -> Head | None:
    """The head among `config_maps`; None if it is missing or unreadable."""
    head = next((body for body in config_maps if body["metadata"]["name"] == HEAD_NAME), None)
    return parse_head(str((head.get("data") or {}).get(HEAD_KEY, ""))) if head is not None else None
