"""The record in ConfigMaps in the operator's namespace. One writer at a time appends to it, whatever others believe.

Each write names the resourceVersion that it builds on, so that of two writers one is refused and must read again: the chain never
forks. A full segment is made immutable; when the ring of slots is full, the oldest segment makes room, and its entries go to the part
that is kept, in which each tenant has a share.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from cmk_operator.core.audit.chain import ORIGIN, Anchor, Entry, follow, parse_entry
from cmk_operator.core.audit.kept import Held, Kept, Loss, digest_of_index, held_of, keep, parse_kept
from cmk_operator.core.audit.layout import (
    HEAD_KEY,
    HEAD_NAME,
    KEPT_KEY,
    KEPT_SLOTS,
    SLOTS,
    Head,
    entry_key,
    kept_bytes,
    kept_name,
    parse_head,
    segment_name,
    with_index,
)
from cmk_operator.kubernetes.client import KubernetesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cmk_operator.core.audit.change import Change
    from cmk_operator.kubernetes.client import KubernetesClient

_LABELS: Final = {"app.kubernetes.io/name": "cmk-operator", "app.kubernetes.io/component": "audit"}
_MERGE: Final = "application/merge-patch+json"
_OVERHEAD: Final = 64
"""Bytes of each entry besides its line: its key, and the key again in managedFields."""
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Segment:
    slot: int
    uid: str
    resource_version: str
    size: int
    first: int
    last: Anchor
    sealed: bool
    previous: str
    """The digest of the entry before the first one."""

    @property
    def name(self) -> str:
        return segment_name(self.slot)


@dataclass(slots=True)
class _KeptSegment:
    slot: int
    uid: str
    resource_version: str
    held: dict[int, Held]

    @property
    def name(self) -> str:
        return kept_name(self.slot)

    @property
    def size(self) -> int:
        return sum(one.cost for one in self.held.values())


@dataclass(slots=True)
class Appended:
    """The result of one write: the entries written, and the numbers of those that left the cluster to make room."""

    entries: list[Entry] = field(default_factory=list)
    dropped: tuple[int, ...] = ()


class AuditStore:
    """The ConfigMaps of the record. Every refusal raises `KubernetesError`; call `load` before the next write."""

    def __init__(self, client: KubernetesClient, namespace: str, segment_bytes: int) -> None:
        self._client = client
        self._namespace = namespace
        self._collection = f"/api/v1/namespaces/{quote(namespace)}/configmaps"
        self._segment_bytes = segment_bytes
        self._segments: dict[int, _Segment] = {}
        self._damaged: set[int] = set()
        self._head_version: str | None = None
        self._kept: dict[int, _KeptSegment] | None = None
        """The kept part by slot; None until it is read, which a record that never was full does not need."""
        self._taken: set[int] = set()
        """Slots of the kept part with a ConfigMap that holds no entry: somebody else's."""
        self._index = Kept()
        self._index_written = True
        self.head = Head()
        self.head_lost = False
        """Whether there are entries but no readable head: somebody removed it."""
        self.index_lost = False
        """Whether the index of the kept part is not the one that the head states: somebody removed or changed it."""

    @property
    def last(self) -> Anchor:
        """The entry before the next one."""
        newest = self._newest()
        return max(newest.last if newest is not None else ORIGIN, self.head.last, key=lambda anchor: anchor.sequence)

    async def load(self) -> list[Entry]:
        """Read the whole record. Damaged parts stay as they are, so that `kubectl cmk audit verify` can name them."""
        head = await self._get(HEAD_NAME)
        known = parse_head((head.get("data") or {}).get(HEAD_KEY, "")) if head is not None else None
        segments: dict[int, _Segment] = {}
        damaged: set[int] = set()
        entries: list[Entry] = []
        bodies = await asyncio.gather(*(self._get(segment_name(slot)) for slot in range(SLOTS)))
        for slot, body in enumerate(bodies):
            found = _read(slot, body) if body is not None else None
            if found is not None:
                segments[slot] = found[0]
                entries += found[1]
            elif body is not None:
                damaged.add(slot)
        entries.sort(key=lambda entry: entry.sequence)
        self._kept, self._taken = None, set()
        kept: list[Entry] = []
        if known is None or known.base.sequence:
            kept = await self._read_kept()
        self.head_lost = known is None and bool(entries or kept)
        if known is None:
            known = Head()
            if self.head_lost:
                _LOG.error(
                    "the head of the audit record is missing or unreadable; `kubectl cmk audit verify` shows what is left"
                )
                known = Head(base=Anchor(entries[0].sequence - 1, entries[0].previous) if entries else kept[-1].anchor)
        self._head_version = head["metadata"]["resourceVersion"] if head is not None else None
        self._segments, self._damaged, self.head = segments, damaged, known
        self._set_index((head.get("data") or {}).get(KEPT_KEY, "") if head is not None else "", kept)
        if damaged:
            _LOG.error(
                "some ConfigMaps of the audit record contain no entry; they stay as they are",
                extra={"names": [segment_name(slot) for slot in sorted(damaged)]},
            )
        if known.last.sequence > (entries[-1].sequence if entries else 0):
            _LOG.error(
                "the audit record is shorter than its head says: entries were removed; `kubectl cmk audit verify` names them",
                extra={"head": known.last.sequence},
            )
        everything = {entry.sequence: entry for entry in (*kept, *entries)}
        return [everything[sequence] for sequence in sorted(everything)]

    def _set_index(self, line: str, kept: Iterable[Entry]) -> None:
        """The index as it is stored, or what can still be said without it: nothing of what was before, for any tenant."""
        found, base = parse_kept(line) if line else None, self.head.base.sequence
        stated = self.head.kept
        self.index_lost = bool(stated) and (found is None or digest_of_index(line) != stated)
        self._index_written = True
        if found is None or self.index_lost or self.head_lost:
            there = {entry.sequence: held_of(entry, 0).digest for entry in kept if entry.sequence <= base}
            found = Kept(base, there, lost_by_all=Loss(base))
            self._index_written = base == 0
        elif found.to < base:
            # An older version, which keeps nothing, has written in between.
            found, self._index_written = replace(found, to=base, lost_by_all=Loss(base)), False
        self._index = found
        if self.index_lost:
            _LOG.error("the index of the audit record's kept part is missing or was changed; `kubectl cmk audit verify` tells")

    async def _read_kept(self) -> list[Entry]:
        """Read the kept part; its entries in order, each once."""
        bodies = await asyncio.gather(*(self._get(kept_name(slot)) for slot in range(KEPT_SLOTS)))
        self._kept, self._taken = {}, set()
        entries: dict[int, Entry] = {}
        for slot, body in enumerate(bodies):
            if body is None:
                continue
            found = [entry for entry in (parse_entry(line) for line in (body.get("data") or {}).values()) if entry is not None]
            if not found:
                self._taken.add(slot)
                continue
            held = {entry.sequence: held_of(entry, _cost(entry.line)) for entry in found}
            metadata = body["metadata"]
            self._kept[slot] = _KeptSegment(slot, metadata["uid"], metadata["resourceVersion"], held)
            entries |= {entry.sequence: entry for entry in found}
        return [entries[sequence] for sequence in sorted(entries)]

    async def append(self, changes: Sequence[Change]) -> Appended:
        """Record the first of some changes, as many as fit into one write."""
        if self._head_version is None and not self.head_lost:
            # The head is written before the first entry, so a record without a head was tampered with.
            await self._put_head(self.head)
        segment = self._newest()
        fitting = self._fitting(changes, segment)
        if segment is not None and fitting:
            appended = Appended(await self._extend(segment, fitting))
        else:
            appended = await self._roll_over(segment, changes)
        if self.index_lost:
            # Not before the entry that tells it: if the operator ended in between, nothing would show the damage any more.
            await self.save_head()
        return appended

    def _newest(self) -> _Segment | None:
        return max(self._segments.values(), key=lambda segment: segment.last.sequence, default=None)

    async def save_head(self, delivered: int | None = None) -> None:
        """Write to the head how far the record reaches, if it does not say so yet."""
        delivered = self.head.delivered if delivered is None else delivered
        wanted = replace(self.head, last=self.last, delivered=delivered)
        if wanted != self.head:
            await self._put_head(wanted)

    async def after(self, sequence: int) -> list[Entry]:
        """Entries after `sequence` in the segment of the next one; none if there is no later entry.

        Of those that have left the newest part, all that are kept, up to about the size of a segment.
        """
        if sequence < self._index.to and (kept := await self._kept_after(sequence)):
            return kept
        later = (segment for segment in self._segments.values() if segment.last.sequence > sequence)
        holding = min(later, key=lambda segment: segment.first, default=None)
        body = await self._get(holding.name) if holding is not None else None
        found = _read(holding.slot, body) if holding is not None and body is not None else None
        return [entry for entry in found[1] if entry.sequence > sequence] if found is not None else []

    async def _kept_after(self, sequence: int) -> list[Entry]:
        places = sorted(
            (number, segment.slot)
            for segment in (self._kept or {}).values()
            for number in segment.held
            if sequence < number <= self._index.to
        )
        bodies: dict[int, dict[str, Any] | None] = {}
        entries: dict[int, Entry] = {}
        size = 0
        for number, slot in places:
            if slot not in bodies:
                bodies[slot] = await self._get(kept_name(slot))
            body = bodies[slot]
            entry = parse_entry((body.get("data") or {}).get(entry_key(number), "")) if body is not None else None
            if entry is not None and (not entries or size + _cost(entry.line) <= self._segment_bytes):
                size += _cost(entry.line)
                entries[number] = entry
            elif entry is not None:
                break
        return list(entries.values())

    def _fitting(self, changes: Iterable[Change], segment: _Segment | None) -> list[Entry]:
        """Entries for as many changes as fit into the segment; an empty segment accepts at least one."""
        if segment is not None and segment.sealed:
            return []
        size, anchor = segment.size if segment is not None else 0, self.last
        fitting: list[Entry] = []
        for change in changes:
            entry = follow(anchor, change)
            size += _cost(entry.line)
            if size > self._segment_bytes and (fitting or segment is not None):
                break
            fitting.append(entry)
            anchor = entry.anchor
        return fitting

    async def _extend(self, segment: _Segment, entries: list[Entry]) -> list[Entry]:
        body = {"metadata": {"resourceVersion": segment.resource_version}, "data": _data(entries)}
        self._segments[segment.slot] = replace(
            segment,
            resource_version=await self._patch(segment.name, body),
            size=segment.size + sum(_cost(entry.line) for entry in entries),
            last=entries[-1].anchor,
        )
        return entries

    async def _roll_over(self, full: _Segment | None, changes: Sequence[Change]) -> Appended:
        """Seal the full segment, free the next slot, and start that segment with what fits.

        The head first says that the occupant of the slot is no longer part of what must be there.
        """
        if full is not None and not full.sealed:
            body = {"metadata": {"resourceVersion": full.resource_version}, "immutable": True}
            version = await self._patch(full.name, body)
            self._segments[full.slot] = full = replace(full, resource_version=version, sealed=True)
        slot, occupant = self._next_slot(full)
        dropped: tuple[int, ...] = ()
        if occupant is not None:
            dropped = await self._make_room(occupant)
            del self._segments[slot]
        previous = self.last.digest
        fitting = self._fitting(changes, None)
        metadata = await self._create(segment_name(slot), _data(fitting))
        size = sum(_cost(entry.line) for entry in fitting)
        self._segments[slot] = _Segment(
            slot,
            metadata["uid"],
            metadata["resourceVersion"],
            size,
            fitting[0].sequence,
            fitting[-1].anchor,
            sealed=False,
            previous=previous,
        )
        return Appended(list(fitting), dropped)

    async def _make_room(self, occupant: _Segment) -> tuple[int, ...]:
        """Move what is kept of a segment, then delete it; returns the numbers of the entries that are given up.

        First the entries are copied, then the head says what is kept, then goes what is not: whenever the operator ends in between,
        every entry that must be there is there.
        """
        base = max(occupant.last, self.head.base, key=lambda anchor: anchor.sequence)
        if self._kept is None:
            await self._read_kept()
        kept = self._kept if self._kept is not None else {}
        body = await self._get(occupant.name)
        found = _read(occupant.slot, body) if body is not None else None
        entries = found[1] if found is not None else []
        index, given_up = keep(
            self._index,
            [held for segment in kept.values() for held in segment.held.values()],
            self._leaving(entries),
            base.sequence,
            kept_bytes(self._segment_bytes),
        )
        there = {number for segment in kept.values() for number in segment.held}
        await self._copy(kept, [entry for entry in entries if entry.sequence in index.digests and entry.sequence not in there])
        self._index, self._index_written = index, False
        await self._put_head(replace(self.head, last=self.last, base=base))
        await self._remove(kept, index.going)
        await self._delete(occupant.name, occupant.uid)
        return tuple(one.sequence for one in given_up)

    def _leaving(self, entries: Sequence[Entry]) -> list[Held]:
        """The entries of a segment with the digests that the entries after them state."""
        stated = {segment.first - 1: segment.previous for segment in self._segments.values()}
        stated |= {entry.sequence - 1: entry.previous for entry in entries}
        return [held_of(entry, _cost(entry.line), stated.get(entry.sequence)) for entry in entries]

    async def _copy(self, kept: dict[int, _KeptSegment], entries: Iterable[Entry]) -> None:
        """Add entries to the kept part, each to the first ConfigMap with room."""
        arriving: dict[int, list[Entry]] = {}
        sizes = {slot: segment.size for slot, segment in kept.items()}
        free = [slot for slot in range(KEPT_SLOTS) if slot not in kept and slot not in self._taken]
        for entry in entries:
            cost = _cost(entry.line)
            slot = next((slot for slot in sorted(sizes) if sizes[slot] + cost <= self._segment_bytes), None)
            if slot is None:
                slot = free.pop(0) if free else min(sizes, key=lambda one: sizes[one])
            sizes[slot] = sizes.get(slot, 0) + cost
            arriving.setdefault(slot, []).append(entry)
        for slot, its in arriving.items():
            segment = kept.get(slot)
            if segment is None:
                metadata = await self._create(kept_name(slot), _data(its))
                segment = kept[slot] = _KeptSegment(slot, metadata["uid"], metadata["resourceVersion"], {})
            else:
                patch = {"metadata": {"resourceVersion": segment.resource_version}, "data": _data(its)}
                segment.resource_version = await self._patch(segment.name, patch)
            segment.held |= {entry.sequence: held_of(entry, _cost(entry.line)) for entry in its}

    async def _remove(self, kept: dict[int, _KeptSegment], going: Mapping[int, str]) -> None:
        """Remove entries that were given up from the kept part."""
        for segment in list(kept.values()):
            its = [number for number, held in segment.held.items() if going.get(number) == held.digest]
            if len(its) == len(segment.held):
                await self._delete(segment.name, segment.uid)
                del kept[segment.slot]
            elif its:
                nothing = dict.fromkeys(map(entry_key, its))
                patch = {"metadata": {"resourceVersion": segment.resource_version}, "data": nothing}
                segment.resource_version = await self._patch(segment.name, patch)
                for number in its:
                    del segment.held[number]

    def _next_slot(self, full: _Segment | None) -> tuple[int, _Segment | None]:
        """The next free slot after the full one, otherwise that of the oldest segment, which is deleted."""
        start = full.slot + 1 if full is not None else 0
        for slot in (number % SLOTS for number in range(start, start + SLOTS)):
            if slot not in self._segments and slot not in self._damaged:
                return slot, None
        oldest = min(self._segments.values(), key=lambda segment: segment.first)
        return oldest.slot, oldest

    async def _put_head(self, head: Head) -> None:
        """Write the head, and in the same write the index of the kept part if it changed."""
        data = {}
        if not self._index_written:
            head, data[KEPT_KEY] = with_index(head, self._index)
        data[HEAD_KEY] = head.dump()
        if self._head_version is None:
            self._head_version = str((await self._create(HEAD_NAME, data))["resourceVersion"])
        else:
            body = {"metadata": {"resourceVersion": self._head_version}, "data": data}
            self._head_version = await self._patch(HEAD_NAME, body)
        self.head, self.head_lost, self.index_lost, self._index_written = head, False, False, True

    async def _get(self, name: str) -> dict[str, Any] | None:
        return await self._client.find(f"{self._collection}/{name}")

    async def _create(self, name: str, data: dict[str, str]) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self._namespace, "labels": _LABELS}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        return await self._request("POST", self._collection, body)

    async def _patch(self, name: str, body: dict[str, Any]) -> str:
        """Write, based on the resourceVersion in `body`; return the new one."""
        return str((await self._request("PATCH", f"{self._collection}/{name}", body, _MERGE))["resourceVersion"])

    async def _delete(self, name: str, uid: str) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self._request("DELETE", f"{self._collection}/{name}", body)
        except KubernetesError as error:
            if error.status != 404:
                raise

    async def _request(
        self, verb: str, path: str, body: dict[str, Any], content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Write once; return the metadata of the answer, without the data that was just sent."""
        answer = await self._client.request(verb, path, body=body, content_type=content_type, only_metadata=True)
        metadata: dict[str, Any] = answer.get("metadata", {})
        return metadata


def _read(slot: int, body: dict[str, Any]) -> tuple[_Segment, list[Entry]] | None:
    """A segment and its entries; None if it contains no entry."""
    metadata: dict[str, Any] = body["metadata"]
    data: dict[str, str] = body.get("data") or {}
    found = (parse_entry(line) for line in data.values())
    entries = sorted((entry for entry in found if entry is not None), key=lambda entry: entry.sequence)
    if not entries:
        return None
    segment = _Segment(
        slot,
        metadata["uid"],
        metadata["resourceVersion"],
        sum(_cost(line) for line in data.values()),
        entries[0].sequence,
        entries[-1].anchor,
        sealed=bool(body.get("immutable")),
        previous=entries[0].previous,
    )
    return segment, entries


def _data(entries: Iterable[Entry]) -> dict[str, str]:
    return {entry_key(entry.sequence): entry.line for entry in entries}


def _cost(line: str) -> int:
    return len(line.encode()) + _OVERHEAD
