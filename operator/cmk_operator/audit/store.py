"""The record in ConfigMaps in the operator's namespace. One writer at a time appends to it, whatever others believe.

Each write names the resourceVersion that it builds on, so that of two writers one is refused and must read again: the chain never
forks. A full segment is made immutable; when the ring of slots is full, the oldest segment makes room.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from cmk_operator.core.audit.chain import ORIGIN, Anchor, Entry, follow, parse_entry
from cmk_operator.core.audit.layout import (
    HEAD_KEY,
    HEAD_NAME,
    SLOTS,
    Head,
    entry_key,
    parse_head,
    segment_name,
)
from cmk_operator.kubernetes.client import KubernetesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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

    @property
    def name(self) -> str:
        return segment_name(self.slot)


@dataclass(slots=True)
class Appended:
    """The result of one write: the entries written, and those deleted from the cluster to make room (None: none)."""

    entries: list[Entry] = field(default_factory=list)
    dropped: tuple[int, int] | None = None


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
        self.head = Head()
        self.head_lost = False
        """Whether there are entries but no readable head: somebody removed it."""

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
        self.head_lost = known is None and bool(entries)
        if known is None:
            known = Head()
            if entries:
                _LOG.error(
                    "the head of the audit record is missing or unreadable; `kubectl cmk audit verify` shows what is left"
                )
                known = Head(base=Anchor(entries[0].sequence - 1, entries[0].previous))
        self._head_version = head["metadata"]["resourceVersion"] if head is not None else None
        self._segments, self._damaged, self.head = segments, damaged, known
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
        return entries

    async def append(self, changes: Sequence[Change]) -> Appended:
        """Record the first of some changes, as many as fit into one write."""
        if self._head_version is None and not self.head_lost:
            # The head is written before the first entry, so a record without a head was tampered with.
            await self._put_head(self.head)
        segment = self._newest()
        fitting = self._fitting(changes, segment)
        if segment is not None and fitting:
            return Appended(await self._extend(segment, fitting))
        return await self._roll_over(segment, changes)

    def _newest(self) -> _Segment | None:
        return max(self._segments.values(), key=lambda segment: segment.last.sequence, default=None)

    async def save_head(self, delivered: int | None = None) -> None:
        """Write to the head how far the record reaches, if it does not say so yet."""
        delivered = self.head.delivered if delivered is None else delivered
        wanted = replace(self.head, last=self.last, delivered=delivered)
        if wanted != self.head:
            await self._put_head(wanted)

    async def after(self, sequence: int) -> list[Entry]:
        """Entries after `sequence` in the segment of the next one; none if there is no later entry."""
        later = (segment for segment in self._segments.values() if segment.last.sequence > sequence)
        holding = min(later, key=lambda segment: segment.first, default=None)
        body = await self._get(holding.name) if holding is not None else None
        found = _read(holding.slot, body) if holding is not None and body is not None else None
        return [entry for entry in found[1] if entry.sequence > sequence] if found is not None else []

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
        if occupant is not None:
            base = max(occupant.last, self.head.base, key=lambda anchor: anchor.sequence)
            await self._put_head(replace(self.head, last=self.last, base=base))
            await self._delete(occupant)
            del self._segments[slot]
        fitting = self._fitting(changes, None)
        metadata = await self._create(segment_name(slot), _data(fitting))
        size = sum(_cost(entry.line) for entry in fitting)
        self._segments[slot] = _Segment(
            slot, metadata["uid"], metadata["resourceVersion"], size, fitting[0].sequence, fitting[-1].anchor, sealed=False
        )
        return Appended(list(fitting), (occupant.first, occupant.last.sequence) if occupant is not None else None)

    def _next_slot(self, full: _Segment | None) -> tuple[int, _Segment | None]:
        """The next free slot after the full one, otherwise that of the oldest segment, which is deleted."""
        start = full.slot + 1 if full is not None else 0
        for slot in (number % SLOTS for number in range(start, start + SLOTS)):
            if slot not in self._segments and slot not in self._damaged:
                return slot, None
        oldest = min(self._segments.values(), key=lambda segment: segment.first)
        return oldest.slot, oldest

    async def _put_head(self, head: Head) -> None:
        data = {HEAD_KEY: head.dump()}
        if self._head_version is None:
            self._head_version = str((await self._create(HEAD_NAME, data))["resourceVersion"])
        else:
            body = {"metadata": {"resourceVersion": self._head_version}, "data": data}
            self._head_version = await self._patch(HEAD_NAME, body)
        self.head, self.head_lost = head, False

    async def _get(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._client.request("GET", f"{self._collection}/{name}")
        except KubernetesError as error:
            if error.status == 404:
                return None
            raise

    async def _create(self, name: str, data: dict[str, str]) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self._namespace, "labels": _LABELS}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        return await self._request("POST", self._collection, body)

    async def _patch(self, name: str, body: dict[str, Any]) -> str:
        """Write, based on the resourceVersion in `body`; return the new one."""
        return str((await self._request("PATCH", f"{self._collection}/{name}", body, _MERGE))["resourceVersion"])

    async def _delete(self, segment: _Segment) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": segment.uid}}
        try:
            await self._request("DELETE", f"{self._collection}/{segment.name}", body)
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
    )
    return segment, entries


def _data(entries: Iterable[Entry]) -> dict[str, str]:
    return {entry_key(entry.sequence): entry.line for entry in entries}


def _cost(line: str) -> int:
    return len(line.encode()) + _OVERHEAD
