"""Counts data operations in memory; every few seconds they go to the database, and after each minute into the record."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from cmk_keyservice.audit.record import KEY_SERVICE, Event, Record
from cmk_keyservice.problem import ProblemError
from cmk_keyservice.store.records import Count

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_keyservice.audit.journal import Journal
    from cmk_keyservice.store.store import Store

SECONDS: Final = 5.0
"""Between two flushes: what a replica that is killed has not counted yet is lost."""
_COUNTS_IN_ENTRY: Final = 100
_LOG: Final = logging.getLogger(__name__)


class Counters:
    """The counters of this replica; those of a minute are the sum over all replicas."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store: Final = store
        self._journal: Final = journal
        self._counts: dict[tuple[str, str, str, str], list[int]] = {}

    def count(
        self, organization: str, service: str, operation: str, data_key: str = "", *, items: int = 1, refused: int = 0
    ) -> None:
        """Count items of a request for an organization that exists; `items` were done, `refused` were not."""
        key = (organization, service, operation, data_key)
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = [0, 0]
        count[0] += items
        count[1] += refused

    async def run(self) -> None:
        """Flush and record until cancelled; then flush once more."""
        try:
            while True:
                await asyncio.sleep(SECONDS)
                try:
                    await self.flush()
                    await self.record()
                except ProblemError as problem:
                    _LOG.warning("counters of data operations wait for the database", extra={"problem": str(problem)})
        finally:
            try:
                await self.flush()
            except ProblemError as problem:
                _LOG.error("counters of data operations are lost", extra={"problem": str(problem)})

    async def flush(self) -> None:
        """Add what was counted to the database's counters. Raises ProblemError, and keeps the counts, if it cannot."""
        counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            await self._store.count([Count(*key, *count) for key, count in counts.items()])
        except BaseException:
            for (organization, service, operation, data_key), (items, refused) in counts.items():
                self.count(organization, service, operation, data_key, items=items, refused=refused)
            raise

    async def record(self) -> None:
        """Move the counters of minutes that are over into the records; of two replicas, one does."""
        for organization, minute in await self._store.due_counters():
            try:
                await self._record(organization, minute)
            except ProblemError as error:
                if error.problem.retryable:
                    raise
                # The others' counters do not wait for a record that somebody has to mend.
                _LOG.error("data operations of %s are not in its record: %s", organization, error)

    async def _record(self, organization: str, minute: datetime) -> None:
        async with self._store.transaction() as connection:
            counts = await self._store.take_counters(organization, minute, within=connection)
            records = [
                Record(
                    Event.DATA_OPERATIONS,
                    KEY_SERVICE,
                    "counted for one minute",
                    minute=minute.strftime("%Y-%m-%dT%H:%MZ"),
                    operations=counts[first : first + _COUNTS_IN_ENTRY],
                )
                for first in range(0, len(counts), _COUNTS_IN_ENTRY)
            ]
            if records:
                await self._journal.append_within(organization, records, connection)
