"""Verifies a record: finds each edit, deletion, truncation, reordering and duplicate, and the entries concerned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from cmk_operator.core.audit.chain import ORIGIN, Anchor, Entry, Line, parse_entry
from cmk_operator.core.audit.kept import Kept, Loss, digest_of_index, shortened, tenant_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cmk_operator.core.audit.layout import Head


class Flaw(StrEnum):
    """The kind of a finding."""

    UNREADABLE = "Unreadable"
    ADDED = "Added"
    EDITED = "Edited"
    MISSING = "Missing"
    TRUNCATED = "Truncated"
    OUT_OF_ORDER = "OutOfOrder"
    DOUBLED = "Doubled"
    DIFFERS_FROM_COPY = "DiffersFromCopy"


@dataclass(frozen=True, slots=True)
class Finding:
    """One flaw, the entries from `first` to `last` that it concerns (0: unknown), and a sentence on it."""

    flaw: Flaw
    first: int
    last: int
    message: str


@dataclass(frozen=True, slots=True)
class Extent:
    """From when on the record has every entry of a tenant (empty: of the operator): after the entry `after.sequence`."""

    tenant: str
    after: Loss


@dataclass(frozen=True, slots=True)
class Verdict:
    """The range that was checked, the findings, and how far each tenant's entries go back; it is intact without findings."""

    first: int = 0
    last: int = 0
    entries: int = 0
    findings: tuple[Finding, ...] = ()
    extents: tuple[Extent, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether there are no findings."""
        return not self.findings


def verify(
    lines: Iterable[Line],
    head: Head | None = None,
    copy: Sequence[Entry] = (),
    *,
    kept: Kept | None = None,
    repeats_allowed: bool = False,
) -> Verdict:
    """Check a record line by line, and against the head in the cluster, the index of what is kept, and a copy if they are given.

    With `repeats_allowed`, as for a log, entries may repeat and be in any order.
    """
    findings: list[Finding] = []
    entries = _read(lines, findings, repeats_allowed=repeats_allowed)
    by_sequence = {entry.sequence: entry for entry in entries}
    ordered = [by_sequence[sequence] for sequence in sorted(by_sequence)]
    bounded_by = max(kept.to, head.base.sequence if head is not None else 0) if kept is not None else 0
    findings += _links(ordered, bounded_by)
    if head is not None:
        findings += _against_head(ordered, head, bounded_by)
        findings += _against_stated_index(head, kept)
    elif ordered and ordered[0].sequence == 1 and ordered[0].previous != ORIGIN.digest:
        findings.append(
            Finding(
                Flaw.EDITED,
                1,
                1,
                "entry 1 is not the start of the record: an entry before it was removed or entry 1 was edited",
            )
        )
    if kept is not None:
        findings += _against_kept(by_sequence, kept)
    findings += _against_copy(by_sequence, copy)
    first, last = (ordered[0].sequence, ordered[-1].sequence) if ordered else (0, 0)
    return Verdict(
        first,
        last,
        len(ordered),
        tuple(sorted(set(findings), key=lambda one: (one.first, one.last, one.flaw))),
        _extents(ordered, head, kept),
    )


def _extents(ordered: Sequence[Entry], head: Head | None, kept: Kept | None) -> tuple[Extent, ...]:
    """How far the entries of each tenant go back; the operator's own only if some are gone."""
    base = head.base.sequence if head is not None else 0
    if kept is None:
        known = Kept(lost_by_all=Loss(max(base, ordered[0].sequence - 1 if ordered else 0)))
    else:
        # An older version of the operator, which keeps nothing, may have written after the index.
        known = kept if kept.to >= base else replace(kept, lost_by_all=Loss(base))
    tenants = {tenant_of(entry) for entry in ordered} | known.lost.keys()
    found = (Extent(tenant, known.whole_after(tenant)) for tenant in sorted(tenants | {""}))
    return tuple(extent for extent in found if extent.tenant or (kept is not None and extent.after.sequence))


def verify_each(
    lines: Iterable[Line], copy: Sequence[Entry] = (), *, kept: Kept | None = None, repeats_allowed: bool = False
) -> Verdict:
    """Check a file that may hold several records: the operator's, and those of organizations by the key service.

    Each organization has a chain of its own, which numbers its entries from 1; findings name the organization. `kept` is the index
    of what is kept of the operator's record.
    """
    records: dict[str, tuple[list[Line], list[Entry]]] = {}
    for line in lines:
        entry = parse_entry(line.text)
        records.setdefault(_owner(entry), ([], []))[0].append(line)
    for entry in copy:
        records.setdefault(_owner(entry), ([], []))[1].append(entry)
    verdicts = {
        owner: verify(own, copy=copied, kept=None if owner else kept, repeats_allowed=repeats_allowed)
        for owner, (own, copied) in records.items()
    }
    findings = [
        replace(finding, message=f"organization {owner}: {finding.message}") if owner else finding
        for owner, verdict in sorted(verdicts.items())
        for finding in verdict.findings
    ]
    checked = [verdict for verdict in verdicts.values() if verdict.entries]
    first, last = min((verdict.first for verdict in checked), default=0), max((verdict.last for verdict in checked), default=0)
    extents = verdicts[""].extents if "" in verdicts else ()
    return Verdict(first, last, sum(verdict.entries for verdict in checked), tuple(findings), extents)


def _owner(entry: Entry | None) -> str:
    """The organization whose chain an entry belongs to; empty for the operator's own."""
    owner = entry.body.get("organization") if entry is not None else None
    return owner if isinstance(owner, str) else ""


def _read(lines: Iterable[Line], findings: list[Finding], *, repeats_allowed: bool) -> list[Entry]:
    """Parse all entries; add findings on single entries and on their order."""
    entries: list[Entry] = []
    seen: dict[int, Entry] = {}
    highest = 0
    for line in lines:
        entry = parse_entry(line.text)
        if entry is None:
            number = line.number or 0
            findings.append(
                Finding(Flaw.UNREADABLE, number, number, f"{line.place} is not an entry of the record: it was edited")
            )
            continue
        number = entry.sequence
        if not entry.is_intact:
            findings.append(_edited(number, f"its content does not have the hash that it states ({line.place})"))
        if line.number is not None and line.number != number:
            findings.append(
                Finding(
                    Flaw.OUT_OF_ORDER, number, number, f"entry {number} is in the place of entry {line.number} ({line.place})"
                )
            )
        before = seen.get(number)
        if before is not None and before.line != entry.line:
            findings.append(Finding(Flaw.DOUBLED, number, number, f"there are two different entries {number} ({line.place})"))
        elif before is not None and not repeats_allowed:
            findings.append(Finding(Flaw.DOUBLED, number, number, f"entry {number} appears twice ({line.place})"))
        elif number < highest and not repeats_allowed:
            findings.append(
                Finding(Flaw.OUT_OF_ORDER, number, number, f"entry {number} comes after entry {highest} ({line.place})")
            )
        seen.setdefault(number, entry)
        highest = max(highest, number)
        if before is None:
            entries.append(entry)
    return entries


def _links(ordered: Sequence[Entry], bounded_by: int) -> list[Finding]:
    """Compare each entry with the one before it; up to `bounded_by` only some are kept, so that there may be gaps."""
    findings: list[Finding] = []
    for before, after in pairwise(ordered):
        if after.sequence != before.sequence + 1:
            if after.sequence - 1 > bounded_by:
                findings.append(_missing(max(before.sequence, bounded_by) + 1, after.sequence - 1))
        elif after.previous != before.digest:
            findings.append(
                _edited(before.sequence, f"entry {after.sequence} was made to follow another entry {before.sequence}")
            )
    return findings


def _against_head(everything: Sequence[Entry], head: Head, bounded_by: int) -> list[Finding]:
    ordered = [entry for entry in everything if entry.sequence > bounded_by]
    findings: list[Finding] = []
    by_sequence = {entry.sequence: entry for entry in everything}
    last = ordered[-1].sequence if ordered else head.base.sequence
    if last < head.last.sequence:
        findings.append(
            Finding(
                Flaw.TRUNCATED,
                last + 1,
                head.last.sequence,
                f"the record was cut: {_entries(last + 1, head.last.sequence)} at its end {_are(last + 1, head.last.sequence)} missing, "
                "which the head counts",
            )
        )
    if ordered and ordered[0].sequence > head.base.sequence + 1:
        findings.append(_missing(head.base.sequence + 1, ordered[0].sequence - 1))
    for anchor in (head.last, head.base):
        findings += _against_anchor(by_sequence.get(anchor.sequence), anchor, "the head")
    if ordered and ordered[0].sequence == head.base.sequence + 1 and ordered[0].previous != head.base.digest:
        findings.append(_edited(ordered[0].sequence, "it was made to follow another entry than the one in the head"))
    return findings


def _against_stated_index(head: Head, kept: Kept | None) -> Iterator[Finding]:
    if head.kept and (kept is None or digest_of_index(kept.dump()) != head.kept):
        message = "the index of the kept entries, in the head of the record, is missing or was edited"
        yield Finding(Flaw.MISSING if kept is None else Flaw.EDITED, 0, 0, message)


def _against_kept(by_sequence: Mapping[int, Entry], kept: Kept) -> Iterator[Finding]:
    for first, last in _runs(sequence for sequence in kept.digests if sequence not in by_sequence):
        yield _missing(first, last)
    for sequence, entry in by_sequence.items():
        if sequence > kept.to:
            continue
        stated = kept.digests.get(sequence)
        if stated is not None and stated != shortened(entry.digest):
            yield _edited(sequence, "the index of the kept entries has another digest")
        after = by_sequence.get(sequence + 1)
        leaves = kept.going.get(sequence) == shortened(entry.digest) or (after is not None and after.previous == entry.digest)
        if stated is None and not leaves:
            message = f"entry {sequence} was added: the index of the kept entries does not have it"
            yield Finding(Flaw.ADDED, sequence, sequence, message)


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Numbers as ranges: the first and last of those that follow each other."""
    first = last = None
    for number in sorted(numbers):
        if first is None or last is None:
            first = number
        elif number != last + 1:
            yield first, last
            first = number
        last = number
    if first is not None and last is not None:
        yield first, last


def _against_anchor(entry: Entry | None, anchor: Anchor, who: str) -> list[Finding]:
    if entry is None or entry.digest == anchor.digest:
        return []
    return [_edited(anchor.sequence, f"{who} has another digest for entry {anchor.sequence}")]


def _against_copy(by_sequence: dict[int, Entry], copy: Sequence[Entry]) -> list[Finding]:
    findings: list[Finding] = []
    for other in copy:
        own = by_sequence.get(other.sequence)
        if own is not None and own.line != other.line:
            message = f"entry {other.sequence} is another one than in the copy: one of the two was rewritten"
            findings.append(Finding(Flaw.DIFFERS_FROM_COPY, other.sequence, other.sequence, message))
    longest = max((other.sequence for other in copy), default=0)
    last = max(by_sequence, default=0)
    oldest = by_sequence[min(by_sequence)] if by_sequence else None
    if oldest is not None and any(other.sequence == oldest.sequence - 1 and other.digest != oldest.previous for other in copy):
        findings.append(_edited(oldest.sequence, "it was made to follow another entry than the copy holds"))
    if last < longest:
        message = (
            f"the record was cut: {_entries(last + 1, longest)} {_are(last + 1, longest)} missing, which the copy reaches up to"
        )
        findings.append(Finding(Flaw.TRUNCATED, last + 1, longest, message))
    return findings


def _edited(sequence: int, how: str) -> Finding:
    return Finding(Flaw.EDITED, sequence, sequence, f"entry {sequence} was edited: {how}")


def _missing(first: int, last: int) -> Finding:
    return Finding(Flaw.MISSING, first, last, f"{_entries(first, last)} {_are(first, last)} missing")


def _entries(first: int, last: int) -> str:
    return f"entry {first}" if first == last else f"entries {first} to {last}"


def _are(first: int, last: int) -> str:
    return "is" if first == last else "are"
