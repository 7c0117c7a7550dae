"""Writes the record: one chain for each organization, in the operator's format of entries; and checks and exports it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cmk_keyservice.audit.record import KEY_SERVICE, Dated, Event, Record
from cmk_keyservice.store.records import StoredEntry
from cmk_operator.core.audit.chain import ORIGIN, Anchor, Entry, Line, follow
from cmk_operator.core.audit.layout import Head
from cmk_operator.core.audit.verification import Finding, Flaw, Verdict, verify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from cmk_keyservice.store.store import Store

_AUDIT: Final = logging.getLogger("cmk_keyservice.audit")
_STARTED: Final = Record(Event.RECORD_STARTED, KEY_SERVICE, "the first act on this organization's keys")


class Journal:
    """The records of all organizations."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store
        self._waiting: Final[dict[str, list[tuple[Sequence[Record], asyncio.Future[Anchor]]]]] = {}
        self._writers: Final[dict[str, asyncio.Task[None]]] = {}

    async def append(self, organization: str, records: Sequence[Record]) -> Anchor:
        """Record acts, and return when they are stored; acts that come together share a transaction.

        Raises ProblemError if they could not be stored: what must not happen unrecorded has to wait for the return.
        """
        done: asyncio.Future[Anchor] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(organization, []).append((records, done))
        if organization not in self._writers:
            self._writers[organization] = asyncio.create_task(self._write(organization), name=f"record of {organization}")
        return await done

    async def append_within(self, organization: str, records: Sequence[Record], connection: AsyncConnection) -> Anchor:
        """Record acts in the transaction of `connection`, which stores both or neither; other writers of this chain wait for it."""
        head = await self._store.lock_chain(organization, ORIGIN.digest, within=connection)
        at = head.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        anchor, entries = Anchor(head.sequence, head.digest), []
        for record in [*([_STARTED] if head.sequence == 0 else []), *records]:
            entry = follow(anchor, Dated(record, organization, at))
            entries.append(entry)
            anchor = entry.anchor
        stored = [StoredEntry(entry.sequence, entry.line, entry.digest) for entry in entries]
        await self._store.add_entries(organization, stored, within=connection)
        self._store.after_commit(connection, lambda: _log(entries))
        return anchor

    async def lines(self, organization: str, *, after: int = 0) -> AsyncIterator[str]:
        """The record as `kubectl cmk audit verify FILE` reads it: one entry for each line."""
        async for row in self._store.entries(organization, after=after):
            yield row.entry

    async def verify(self, organization: str) -> Verdict:
        """Check the whole record against itself and against the head of its chain."""
        head = await self._store.chain_head(organization)  # first: entries that come meanwhile are after it
        rows = [row async for row in self._store.entries(organization)]
        lines = [Line(row.entry, f"audit row {row.sequence} of {organization}", row.sequence) for row in rows]
        if head is None:
            missing = Finding(Flaw.MISSING, 0, 0, f"the head of the record of {organization} is missing from table chain")
            verdict = verify(lines)
            return replace(verdict, findings=(missing, *verdict.findings)) if rows else verdict
        return verify(lines, Head(last=Anchor(head.sequence, head.digest)))

    async def _write(self, organization: str) -> None:
        """Store what waits, again and again until nothing does."""
        while batch := self._waiting.pop(organization, None):
            records = [record for some, _ in batch for record in some]
            try:
                async with self._store.transaction() as connection:
                    anchor = await self.append_within(organization, records, connection)
            except BaseException as failure:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(failure if isinstance(failure, Exception) else asyncio.CancelledError())
                if not isinstance(failure, Exception):
                    del self._writers[organization]
                    raise
            else:
                for _, done in batch:
                    if not done.done():  # somebody no longer waits
                        done.set_result(anchor)
        del self._writers[organization]


def _log(entries: Sequence[Entry]) -> None:
    """Each entry as a log line too: a copy out of the database's reach."""
    for entry in entries:
        _AUDIT.info(Event(entry.body["event"]).words, extra={"audit": dict(entry.body)})
