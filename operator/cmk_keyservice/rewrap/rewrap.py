"""Wraps data keys anew under the key version in force: rows whose `kid` is another one are the queue.

There is no job and no cursor: a process that ends at any step leaves rows that are either as before or done. A row gets its new
`kid` and its new wrap in one statement, and only after that wrap was unwrapped and compared. Data is never touched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cmk_keyservice.keys.recorded import rewrapped
from cmk_keyservice.keys.rewrap_state import RewrapState
from cmk_keyservice.keys.wrapping import Made
from cmk_keyservice.problem import Kind, Problem, ProblemError
from cmk_keyservice.store.rows import Fence, Fenced, Rewrapped
from cmk_keyservice.vaults.answers import NotDone
from cmk_operator.azure.key_gate import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from cmk_keyservice.audit.journal import Journal
    from cmk_keyservice.keys.wrapping import Wrapping
    from cmk_keyservice.store.rows import DataKeyRow
    from cmk_keyservice.store.store import Store
    from cmk_keyservice.vaults.accepted import Accepted, Organization

BATCH: Final = 500
"""Rows of one transaction."""
AT_ONCE: Final = 4
"""Rows that are re-wrapped at the same time; the vault's budget for background work limits them further."""
LONGEST_BATCH: Final = 20.0
"""Seconds after which a batch begins no further row: its transaction must end long before PostgreSQL ends it."""
LONGEST_PASS: Final = 60.0
"""Seconds after which a pass ends, so that its progress is reported."""
_LOG: Final = logging.getLogger(__name__)
_Moved = tuple[str, Made[Rewrapped]]
"""The key version that a row had, and what it gets."""


@dataclass(slots=True)
class _Pass:
    """What one pass has met."""

    began: float
    failed: dict[UUID, Problem] = field(default_factory=dict)
    refusing: dict[str, Problem] = field(default_factory=dict)
    """Key versions that did not unwrap, so that their other rows are not tried."""
    stopped: Problem | None = None
    """Why no further row is tried: the new key version does not wrap, or the vault says to wait."""


class Rewrap:
    """Re-wraps one organization at a time. `monotonic` counts seconds."""

    def __init__(
        self, store: Store, journal: Journal, wrapping: Wrapping, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._journal = journal
        self._wrapping = wrapping
        self._monotonic = monotonic

    async def run_pass(self, organization: Organization) -> RewrapState:
        """Re-wrap what is not under the key version in force, for at most a minute. Raises `ProblemError` without a database."""
        accepted = organization.accepted
        if accepted is None:
            return RewrapState()
        state = _Pass(self._monotonic())
        while state.stopped is None and self._monotonic() - state.began < LONGEST_PASS:
            if not await self._run_batch(organization, accepted, state):
                break
        counts = await self._store.by_kid(organization.id)
        pending = sum(count.data_keys for count in counts if count.kid != accepted.kid)
        if not pending:
            await self._drop_previous(organization, accepted)
        return _state(pending, state)

    async def _run_batch(self, organization: Organization, accepted: Accepted, state: _Pass) -> bool:
        """Re-wrap some rows; False if there was none to try."""
        fence = Fence(organization.uid, accepted.revision)
        async with self._store.rewrap_batch(organization.id, accepted.kid, BATCH + len(state.failed)) as batch:
            rows = [row for row in batch.rows if row.id not in state.failed]
            if not rows:
                return False
            moved = await self._rewrap_all(organization, accepted, rows, state)
            if moved and await self._write(organization, moved, fence, batch.connection):
                state.stopped = _fenced()
        return True

    async def _write(
        self, organization: Organization, moved: Sequence[_Moved], fence: Fence, connection: AsyncConnection
    ) -> bool:
        """Write and record in one transaction; returns whether other settings are in force by now."""
        rows = [made.row for _, made in moved]
        written = await self._store.compare_and_set_all(organization.id, rows, fence, within=connection)
        if isinstance(written, Fenced):
            return True
        records = [rewrapped(before, made) for before, made in moved if made.row.id in written]
        if records:
            await self._journal.append_within(organization.id, records, connection)
        return False

    async def _rewrap_all(
        self, organization: Organization, accepted: Accepted, rows: Sequence[DataKeyRow], state: _Pass
    ) -> list[_Moved]:
        began = self._monotonic()
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(row: DataKeyRow) -> _Moved | None:
            async with slots:
                if state.stopped is not None or self._monotonic() - began > LONGEST_BATCH:
                    return None
                if row.kid in state.refusing:
                    state.failed[row.id] = state.refusing[row.kid]
                    return None
                return await self._rewrap(organization, accepted, row, state)

        return [done for done in await asyncio.gather(*map(one, rows)) if done is not None]

    async def _rewrap(self, organization: Organization, accepted: Accepted, row: DataKeyRow, state: _Pass) -> _Moved | None:
        try:
            material = await self._wrapping.unwrap(organization, row, purpose=Purpose.REWRAP, background=True)
        except ProblemError as error:
            self._not_moved(row, error.problem)
            state.failed[row.id] = error.problem
            return None
        if isinstance(material, NotDone):
            self._not_moved(row, material.problem)
            if material.problem.kind is Kind.THROTTLED:
                state.stopped = material.problem
            else:
                # One answer, or none, holds for all rows of the key version: a vault that hangs is waited for once.
                state.failed[row.id] = state.refusing[row.kid] = material.problem
            return None
        answer = await self._wrapping.wrap_again(organization, accepted, row, material)
        if isinstance(answer, Made):
            return row.kid, answer
        self._not_moved(row, answer.problem)
        state.stopped = answer.problem
        return None

    @staticmethod
    def _not_moved(row: DataKeyRow, problem: Problem) -> None:
        _LOG.warning("data key %s of %s stays under %s: %s", row.id, row.organization, row.kid, problem.detail)

    async def _drop_previous(self, organization: Organization, accepted: Accepted) -> None:
        """Forget the wraps by older key versions: every row was seen to unwrap by the one in force."""
        for count in await self._store.by_kid(organization.id):
            if count.kid != accepted.kid and count.previous:
                await self._store.drop_previous(organization.id, count.kid)


def _state(pending: int, state: _Pass) -> RewrapState:
    if not pending:
        return RewrapState()
    if state.stopped is not None:
        return RewrapState(pending, len(state.failed), _told(state.stopped), state.stopped.retry_after)
    if state.failed:
        return RewrapState(pending, len(state.failed), _told(next(iter(state.failed.values()))))
    return RewrapState(pending)


def _told(problem: Problem) -> str:
    return f"{problem.detail}: {problem.remedy}"


def _fenced() -> Problem:
    return Problem(
        Kind.UNAVAILABLE,
        "SettingsChanging",
        "the accepted configuration changed during the re-wrap",
        "Nobody needs to act: it goes on under the new one.",
        retryable=True,
    )
