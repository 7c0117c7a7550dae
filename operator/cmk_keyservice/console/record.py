"""The operator's audit record as one organization may see it: its own entries, from when on they are all there, filter and export. Pure."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.core.audit.chain import parse_entry
from cmk_operator.core.audit.change import Event
from cmk_operator.core.audit.kept import Kept, Loss, tenant_of
from cmk_operator.core.audit.layout import head_of, kept_of, lines_of
from cmk_operator.core.audit.verification import verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cmk_operator.core.audit.chain import Entry

PAGE_ENTRIES: Final = 50
BY_HAND: Final = ("Manual", "Automatic")
"""What a change is: somebody changed the settings, or it was found or done without that."""
_BY_SOMEBODY: Final = frozenset({Event.CONFIGURATION_CHANGED.value, Event.MANIFEST_DELETED.value})
_GENERATION: Final = re.compile(r"generation (\d{1,18})")
_COLUMNS: Final = ("sequence", "at", "event", "kind", "by", "from", "to", "why", "target", "azureRequestId", "hash")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection")."""


@dataclass(frozen=True)
class Snapshot:
    """The whole record as it was read once. `intact` is False if somebody has edited, added or removed entries or the head."""

    entries: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    """Those of each OrganizationKey, by its uid, oldest first."""
    kept: Kept = field(default_factory=Kept)
    intact: bool = True
    present: bool = False
    """Whether there is a record at all."""


def snapshot_of(config_maps: Sequence[Mapping[str, Any]]) -> Snapshot:
    """Read and verify the record from its ConfigMaps."""
    lines, head, kept = lines_of(config_maps), head_of(config_maps), kept_of(config_maps)
    intact = verify(lines, head, kept=kept).whole and (head is not None or not config_maps)
    found: dict[str, dict[int, Entry]] = {}
    for line in lines:
        entry = parse_entry(line.text)
        about = entry.body.get("object") if entry is not None else None
        if (
            entry is None
            or not isinstance(about, dict)
            or about.get("kind") != OrganizationKey.__name__
            or not about.get("uid")
        ):
            continue
        found.setdefault(str(about["uid"]), {})[entry.sequence] = entry
    by_uid = {uid: tuple(its[number] for number in sorted(its)) for uid, its in found.items()}
    base = head.base.sequence if head is not None else 0
    if kept is None or kept.to < base:
        # An older version of the operator, which keeps nothing, has written the record.
        kept = Kept(lost_by_all=Loss(base))
    return Snapshot(by_uid, kept, intact, bool(lines))


@dataclass(frozen=True)
class Whole:
    """From when on the record has every change: `since` (RFC 3339; empty: not known), or from the first one on."""

    from_the_first: bool
    since: str = ""


def whole_from(entries: Sequence[Entry], kept: Kept) -> Whole:
    """From when on the entries of an organization are all of its changes.

    Entries leave the record by tenants (docs/audit.md), so what a tenant has lost bounds it, of all that the organization is known to
    have had. An earlier one of which nothing is left shows as a generation of the manifest that is missing.
    """
    losses = (kept.whole_after(tenant) for tenant in {tenant_of(entry) for entry in entries} or {""})
    lost = max(losses, key=lambda loss: loss.sequence)
    start, before = 0, 0
    for entry in entries:
        read = _GENERATION.fullmatch(str(entry.body.get("to", "")))
        if entry.body.get("event") != Event.CONFIGURATION_CHANGED or read is None:
            continue
        if int(read[1]) > before + 1:
            start = entry.sequence
        before = int(read[1])
    if not entries:
        return Whole(lost.sequence == 0 and not kept.lost)
    if before == 0:
        start = entries[0].sequence  # its beginning is not there
    if start > lost.sequence:
        return Whole(from_the_first=False, since=_at(next(entry for entry in entries if entry.sequence == start)))
    if lost.sequence < entries[0].sequence:
        return Whole(from_the_first=True)
    after = next((_at(entry) for entry in entries if entry.sequence > lost.sequence), "")
    return Whole(from_the_first=False, since=lost.at or after)


def _at(entry: Entry) -> str:
    return str(entry.body.get("at", ""))


def kind_of(entry: Entry) -> str:
    """One of `BY_HAND`."""
    by_somebody = entry.body.get("event") in _BY_SOMEBODY or str(entry.body.get("by", "")).startswith("field manager ")
    return BY_HAND[0] if by_somebody else BY_HAND[1]


@dataclass(frozen=True)
class Filter:
    """Which entries are wanted; an empty value wants all."""

    kind: str = ""
    event: str = ""
    first: date | None = None
    last: date | None = None

    def wants(self, entry: Entry) -> bool:
        """Whether an entry is one of them. Days are those of UTC, as the record's times."""
        day = _at(entry)[:10]
        return (
            self.kind in {"", kind_of(entry)}
            and self.event in {"", str(entry.body.get("event"))}
            and (self.first is None or day >= self.first.isoformat())
            and (self.last is None or day <= self.last.isoformat())
        )

    @property
    def query(self) -> dict[str, str]:
        """As the address has it."""
        days = {"first": self.first, "last": self.last}
        chosen = {"kind": self.kind, "event": self.event} | {name: day.isoformat() for name, day in days.items() if day}
        return {name: value for name, value in chosen.items() if value}


def filter_of(query: Mapping[str, str]) -> Filter | str:
    """The filter that an address asks for, or the sentence that says what is wrong with it."""
    kind, event = query.get("kind", ""), query.get("event", "")
    if kind not in {"", *BY_HAND}:
        return "Choose manual or automatic changes, or all."
    if event not in {"", *(each.value for each in Event)}:
        return "Choose an event of the list."
    try:
        first, last = (date.fromisoformat(text) if (text := query.get(name, "")) else None for name in ("first", "last"))
    except ValueError:
        return "Enter days as YYYY-MM-DD."
    return Filter(kind, event, first, last)


def one_page(entries: Iterable[Entry], before: int) -> tuple[tuple[Entry, ...], int]:
    """The newest entries before a number (0: of all), newest first, and the number before which the next older ones are (0: none)."""
    older = sorted((entry for entry in entries if before == 0 or entry.sequence < before), key=lambda entry: -entry.sequence)
    page = tuple(older[:PAGE_ENTRIES])
    return page, page[-1].sequence if len(older) > PAGE_ENTRIES else 0


def as_lines(entries: Iterable[Entry]) -> str:
    """One entry on each line, byte by byte as it is in the record: whoever gets it can check each `hash`."""
    return "".join(f"{entry.line}\n" for entry in entries)


def as_table(entries: Iterable[Entry]) -> str:
    """The entries as comma-separated values (RFC 4180), which no spreadsheet takes for formulas."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for entry in entries:
        values = {**entry.body, "kind": kind_of(entry)}
        writer.writerow([_plain(str(values.get(name, ""))) for name in _COLUMNS])
    return text.getvalue()


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
