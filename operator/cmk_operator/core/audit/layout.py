"""The layout of the record in Kubernetes: segments in a ring of ConfigMaps, what is kept of older ones, and a head with the length."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.audit.chain import ORIGIN, Anchor, Line, canonical
from cmk_operator.core.audit.kept import Kept, digest_of_index, parse_kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEAD_NAME: Final = "cmk-operator-audit"
HEAD_KEY: Final = "head"
KEPT_KEY: Final = "kept"
"""The key of the head with the index of the kept part; the two change in one write."""
SLOTS: Final = 64
"""The number of segments in the cluster, and of their names in the chart's Role."""
KEPT_SLOTS: Final = 32
"""The number of ConfigMaps for the kept part, and of their names in the chart's Role."""
_KEPT_FILL: Final = 24
"""Segments whose bytes the kept part may take; its other ConfigMaps are room to move, so that entries need not move together."""
_MOST_KEPT: Final = 6 << 20
"""Most bytes of the kept part, however large segments are: the index of all its entries must fit into the head, which holds 1 MiB."""


def segment_name(slot: int) -> str:
    """The ConfigMap of a slot; which segment is in which slot does not matter, because entries are numbered."""
    return f"{HEAD_NAME}-{slot}"


def kept_name(slot: int) -> str:
    """The ConfigMap of a slot of the kept part."""
    return f"{HEAD_NAME}-kept-{slot}"


NAMES: Final = (
    HEAD_NAME,
    *(segment_name(slot) for slot in range(SLOTS)),
    *(kept_name(slot) for slot in range(KEPT_SLOTS)),
)
"""All ConfigMaps that the record may have."""


def kept_bytes(segment_bytes: int) -> int:
    """Most bytes of the kept part, for the size of a segment."""
    return min(_KEPT_FILL * segment_bytes, _MOST_KEPT)


def entry_key(sequence: int) -> str:
    """The key of an entry in its segment; keys sort like sequence numbers."""
    return f"{sequence:012d}"


@dataclass(frozen=True, slots=True)
class Head:
    """The range of the record.

    `last` is the newest entry that the head knows; the chain may be longer, never shorter. `base` is the entry before the oldest one
    that must still be in the cluster, but for what is kept. `delivered` is the last entry that the sink has accepted. `kept` is the
    digest of the index of what is kept; empty before anything left the newest part.
    """

    last: Anchor = ORIGIN
    base: Anchor = ORIGIN
    delivered: int = 0
    kept: str = ""

    def dump(self) -> str:
        """The head as one line of canonical JSON."""
        return canonical(
            {
                "sequence": self.last.sequence,
                "hash": self.last.digest,
                "base": {"sequence": self.base.sequence, "hash": self.base.digest},
                "delivered": self.delivered,
            }
            | ({"kept": self.kept} if self.kept else {})
        )


def parse_head(line: str) -> Head | None:
    """Parse the head from its line; None if the line is not a head."""
    try:
        found: Any = json.loads(line)
        return Head(
            Anchor(int(found["sequence"]), str(found["hash"])),
            Anchor(int(found["base"]["sequence"]), str(found["base"]["hash"])),
            int(found["delivered"]),
            str(found.get("kept", "")),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None


def lines_of(config_maps: Iterable[Mapping[str, Any]]) -> list[Line]:
    """All lines of the segments and of what is kept among `config_maps`, in the order of their keys.

    An entry is copied to the kept part before its segment goes, so a kept line that is there already is left out.
    """
    places = {name: order for order, name in enumerate(NAMES[1:])}
    kept = {kept_name(slot) for slot in range(KEPT_SLOTS)}
    found: list[tuple[str, Line]] = []
    known: set[tuple[str, str]] = set()
    for body in sorted(
        (body for body in config_maps if str(body["metadata"]["name"]) in places),
        key=lambda body: places[str(body["metadata"]["name"])],
    ):
        name = str(body["metadata"]["name"])
        for key, text in (body.get("data") or {}).items():
            if name in kept and (key, text) in known:
                continue
            known.add((key, text))
            number = int(key) if key.isdecimal() else None
            found.append((key, Line(str(text), f"ConfigMap {name}, key {key}", number)))
    return [line for _, line in sorted(found, key=lambda one: (one[0], one[1].place))]


def head_of(config_maps: Iterable[Mapping[str, Any]]) -> Head | None:
    """The head among `config_maps`; None if it is missing or unreadable."""
    head = next((body for body in config_maps if body["metadata"]["name"] == HEAD_NAME), None)
    return parse_head(str((head.get("data") or {}).get(HEAD_KEY, ""))) if head is not None else None


def kept_of(config_maps: Iterable[Mapping[str, Any]]) -> Kept | None:
    """The index of the kept part among `config_maps`; None if there is none, or none that can be read."""
    head = next((body for body in config_maps if body["metadata"]["name"] == HEAD_NAME), None)
    return parse_kept(str((head.get("data") or {}).get(KEPT_KEY, ""))) if head is not None else None


def with_index(head: Head, kept: Kept) -> tuple[Head, str]:
    """The head that states the digest of an index, and the line of that index."""
    line = kept.dump()
    return replace(head, kept=digest_of_index(line)), line
