"""Queues changes, and records those that arrive together in one write. A change that is already recorded is not recorded again.

Callers await `settled` before they write a status that would hide the change. After a crash in between, the reconcile is repeated,
and its change has the same id. While the record cannot be written, reconciles are retried. But after `HOLD_STATUS_FOR` seconds
status is written without it, because a lost key must be seen: the change is then in the log, and is recorded as soon as possible.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from cmk_operator.audit.delivery import Delivery
from cmk_operator.core.audit.change import OPERATOR, Change, Event, Subject, identity_of
from cmk_operator.core.audit.kept import tenant_of
from cmk_operator.core.schedule import Backoff
from cmk_operator.core.text.rfc3339 import to_rfc3339
from cmk_operator.kubernetes.client import KubernetesError
from cmk_operator.turns import calls_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from cmk_operator.audit.delivery import Send
    from cmk_operator.audit.store import Appended, AuditStore
    from cmk_operator.core.audit.chain import Entry
    from cmk_operator.telemetry import Telemetry

HOLD_STATUS_FOR: Final = 60.0
GATHER_FOR: Final = 0.05
"""Seconds to collect changes before a write: the cost of a write for the API server grows with the segment."""
HEAD_QUIET: Final = 1.0
"""Seconds without a change before the head is written, so that a series of changes costs one write of it."""
HEAD_LAGS: Final = 5.0
"""Seconds after which the head is written even if changes keep arriving."""
IDS_KEPT: Final = 16_384
"""More than the segments hold by default, so that every change that can still be repeated is recognised."""
_RETRY: Final = Backoff(0.1, 5.0)
_AUDIT: Final = logging.getLogger("cmk_operator.audit")
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The newest change of one aspect of an object: who made it, to what, and the id of the request that did it."""

    id: str
    by: str
    after: str
    request_id: str | None


class Journal:
    """The one writer of the record in this process.

    `send` sends lines to the sink and returns what went wrong (None: nothing). `tenant_of` names the CustomerTenant of an object, empty
    for one of no tenant; None if it cannot be known now, as for a deleted object: then it is the one that the record has.
    """

    def __init__(
        self,
        store: AuditStore,
        clock: Callable[[], datetime],
        telemetry: Telemetry,
        send: Send | None = None,
        hold_status_for: float = HOLD_STATUS_FOR,
        tenant_of: Callable[[Subject], str | None] = lambda _: None,
    ) -> None:
        self._store = store
        self._tenant_of = tenant_of
        self._tenants: dict[str, str] = {}
        """The tenant of an object when it was last recorded, by uid."""
        self._clock = clock
        self._telemetry = telemetry
        self._delivery = Delivery(send, self._undelivered, self._advance) if send is not None else None
        self._hold = hold_status_for
        self._pending: dict[str, Change] = {}
        self._early: list[Change] = []
        """Changes that arrived before the record was read for the first time."""
        self._recorded: dict[str, None] = {}
        """Ids in the order of the record."""
        self._latest: dict[tuple[str, str], Recorded] = {}
        """The newest change by uid and aspect, including pending ones."""
        self._read_once = False
        self._told: set[str] = set()
        self._logged = 0
        self._loaded = False
        self._store_lock = asyncio.Lock()
        self._failing_since: float | None = None
        self._attempt: asyncio.Future[Exception | None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._noted = asyncio.Event()
        self._due = False
        """Whether a write is due; a change that may wait for others does not make it due."""
        self._closing = False
        self._head_saved_at = float("-inf")
        self._delivering: asyncio.Task[None] | None = None
        self._objects: dict[str, Subject] = {}

    def start(self) -> None:
        """Start deliveries to the sink, if there is one."""
        if self._delivery is not None:
            self._delivery.wake()
            self._delivering = asyncio.create_task(self._delivery.run(), name="audit sink")

    async def close(self, grace: float) -> None:
        """Write what is pending, for at most `grace` seconds; 0 writes nothing, because another operator is the leader now."""
        self._closing = True
        self._noted.set()
        if grace > 0 and (self._pending or self._early):
            self._start_writing()
        if self._writing is not None and grace > 0:
            await asyncio.wait({self._writing}, timeout=grace)
        for task in (self._writing, self._delivering):
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def note(self, change: Change, *, at_once: bool = True) -> None:
        """Enqueue a change. It is recorded once: soon, or (`at_once` False) together with the next write."""
        if self._read_once:
            self._enqueue(change)
        else:
            self._early.append(change)
        if at_once and (self._pending or self._early):
            self._start_writing()

    def _enqueue(self, change: Change) -> None:
        """Enqueue a change, unless it is already the newest of its aspect. A former state that returns is a new change."""
        aspect = (change.subject.uid, change.event.aspect)
        latest = self._latest.get(aspect)
        if change.id in self._pending or change.id in self._recorded:
            if latest is None or latest.after == change.after:
                return
            change = replace(change, id=identity_of(change.id, "again", latest.id))
            if change.id in self._pending or change.id in self._recorded:
                return
        uid, tenant = change.subject.uid, self._tenant_of(change.subject)
        if tenant is None:
            tenant = self._tenants.get(uid, "")
        elif uid:
            self._tenants[uid] = tenant
        self._pending[change.id] = replace(change, tenant=tenant)
        self._latest[aspect] = Recorded(change.id, change.by, change.after, change.request_id)

    async def settled(self, uid: str) -> None:
        """Wait until all changes of an object are recorded. Raise the error that prevents it: the reconcile must be retried."""
        while self._of(uid):
            self._start_writing()
            error = await asyncio.shield(self._attempt) if self._attempt is not None else None
            if error is None or not (unrecorded := self._of(uid)):
                continue
            if not self._held_long_enough():
                raise error
            self._tell_unrecorded(unrecorded)
            return

    async def latest(self, uid: str, aspect: str) -> Recorded | None:
        """The newest change of one aspect of an object. Raises `KubernetesError` when the record cannot be read."""
        try:
            async with self._store_lock:
                await self._load()
        except KubernetesError:
            self._failing_since = self._failing_since or _now()
            if not self._held_long_enough():
                raise
        return self._latest.get((uid, aspect))

    async def living(self) -> list[Subject]:
        """Objects in the record that are not recorded as deleted. Raises `KubernetesError` when it cannot be read."""
        async with self._store_lock:
            await self._load()
        return list(self._objects.values())

    async def knows(self, uid: str) -> bool:
        """Whether the record has an object that is not recorded as deleted. Raises `KubernetesError` when it cannot be read."""
        async with self._store_lock:
            await self._load()
        return uid in self._objects or bool(self._of(uid))

    def _of(self, uid: str) -> list[Change]:
        return [change for change in (*self._early, *self._pending.values()) if change.subject.uid == uid]

    def _held_long_enough(self) -> bool:
        return self._failing_since is not None and _now() - self._failing_since > self._hold

    def _tell_unrecorded(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.id not in self._told:
                self._told.add(change.id)
                _AUDIT.error(change.event.words, extra={"audit": change.wire() | {"recorded": False}})

    def _start_writing(self) -> None:
        """Start a write of what is pending."""
        self._due = True
        self._noted.set()
        if self._writing is None or self._writing.done():
            if self._attempt is None or self._attempt.done():
                self._attempt = asyncio.get_running_loop().create_future()
            with calls_of(""):  # the record is everybody's, whoever makes the first change
                self._writing = asyncio.create_task(self._write(), name="audit record")

    async def _write(self) -> None:
        failures = 0
        while True:
            if not self._due:
                if await self._more_comes():
                    continue
                await self._save_head()
                if self._due:
                    continue  # a change arrived meanwhile, and nobody else would start a write
                return
            await asyncio.sleep(0.0 if self._closing else GATHER_FOR)
            self._due, waiting = False, set(self._pending)
            error = await self._try()
            self._due = self._due or error is not None or not waiting.isdisjoint(self._pending)
            failures = failures + 1 if error is not None else 0
            if error is None:
                self._failing_since = None
            elif self._failing_since is None:
                self._failing_since = _now()
            ended, self._attempt = self._attempt, asyncio.get_running_loop().create_future()
            if ended is not None:
                ended.set_result(error)
            if error is not None:
                await asyncio.sleep(_RETRY.bound(failures))

    async def _more_comes(self) -> bool:
        """Whether a change arrives within `HEAD_QUIET` seconds, so that the head need not be written yet."""
        self._noted.clear()
        if not self._closing and _now() - self._head_saved_at < HEAD_LAGS:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEAD_QUIET):
                    await self._noted.wait()
        return self._due

    async def _try(self) -> Exception | None:
        """Write all that is pending, or as much as fits; return the error, if any."""
        try:
            async with self._store_lock:
                await self._load()
                await self._append()
        except Exception as error:  # noqa: BLE001 - reconciles wait for the result, whatever it is
            # The write may have succeeded all the same: the record is read again before the next write.
            self._loaded = False
            self._telemetry.audit_append_failures.inc()
            if not isinstance(error, KubernetesError):
                _LOG.exception("the audit record could not be written")
            elif error.status != 409:
                _LOG.warning(
                    "the audit record could not be written and will be retried; changes wait, and status waits for at most a minute",
                    extra={"waiting": len(self._pending), "error": str(error)},
                )
            return error
        return None

    async def _load(self) -> None:
        if self._loaded:
            return
        head = self._store.head.last.sequence
        entries = await self._store.load()
        head = max(self._store.head.last.sequence, head)
        self._objects, self._latest, self._tenants = {}, {}, {}
        for entry in entries:
            self._remember(entry)
            self._note_latest(entry)
            if entry.sequence > max(head, self._logged):
                # The process that wrote it may have ended before it could log it.
                self._log(entry)
        # What was being written and is in the record now was written, although no answer confirmed it.
        self._pending = {name: one for name, one in self._pending.items() if name not in self._recorded}
        for change in self._pending.values():
            latest = Recorded(change.id, change.by, change.after, change.request_id)
            self._latest[change.subject.uid, change.event.aspect] = latest
        self._loaded = self._read_once = True
        early, self._early = self._early, []
        for change in early:
            self._enqueue(change)

    async def _append(self) -> None:
        changes = by_turns(self._pending.values())
        if not changes:
            return
        if self._store.last.sequence == 0:
            why = "no record was found in the cluster"
            changes.insert(0, self._of_the_record(Event.RECORD_STARTED, "", "the first entry", why))
        elif self._store.head_lost:
            why = "somebody removed or changed the head of the record: entries up to here may have been cut off before"
            changes.insert(0, self._of_the_record(Event.RECORD_DAMAGED, "", "continued without its head", why))
        elif self._store.index_lost:
            why = "somebody removed or changed the index of the kept entries: some of them may have been removed or changed before"
            changes.insert(0, self._of_the_record(Event.RECORD_DAMAGED, "", "continued without the index of kept entries", why))
        appended = await self._store.append(changes)
        for entry in appended.entries:
            self._remember(entry)
            self._pending.pop(str(entry.body["id"]), None)
            self._log(entry)
            self._telemetry.audit_entries.labels(str(entry.body["event"])).inc()
        self._note_missed(appended)
        if self._delivery is not None:
            self._delivery.wake()

    def _note_missed(self, appended: Appended) -> None:
        missed = [number for number in appended.dropped if number > self._store.head.delivered]
        if self._delivery is None or not missed:
            return
        what = f"{len(missed)} of the entries {min(missed)} to {max(missed)}"
        if len(missed) == max(missed) - min(missed) + 1:
            what = f"entries {min(missed)} to {max(missed)}"
        why = "the record in the cluster was full and the audit sink had not taken them; the operator's log has them"
        change = self._of_the_record(Event.COPY_MISSED, "in the cluster", f"{what} are in the log only", why)
        self._pending.setdefault(change.id, change)
        self._due = True

    def _of_the_record(self, event: Event, before: str, after: str, why: str) -> Change:
        at = to_rfc3339(self._clock())
        return Change(identity_of("", event.value, at, after), at, event, Subject(), OPERATOR, before, after, why)

    def _remember(self, entry: Entry) -> None:
        body = entry.body
        identity = str(body.get("id", ""))
        self._recorded.pop(identity, None)
        self._recorded[identity] = None
        while len(self._recorded) > IDS_KEPT:
            del self._recorded[next(iter(self._recorded))]
        about = body.get("object")
        if not isinstance(about, dict) or not about.get("uid"):
            return
        self._tenants[str(about["uid"])] = tenant_of(entry)
        if body.get("event") == Event.MANIFEST_DELETED:
            self._objects.pop(str(about["uid"]), None)
        elif body.get("event") == Event.CONFIGURATION_CHANGED:
            subject = Subject(*(str(about.get(name, "")) for name in ("kind", "namespace", "name", "uid")))
            self._objects[subject.uid] = subject

    def _note_latest(self, entry: Entry) -> None:
        body, event = entry.body, _event_of(entry)
        about = body.get("object")
        if event is not None and isinstance(about, dict):
            done = Recorded(str(body.get("id")), str(body.get("by")), str(body.get("to")), body.get("azureRequestId"))
            self._latest[str(about.get("uid")), event.aspect] = done

    def _log(self, entry: Entry) -> None:
        self._logged = max(self._logged, entry.sequence)
        event = _event_of(entry)
        words = event.words if event is not None else "an entry of another version"
        _AUDIT.info(words, extra={"audit": dict(entry.body)})

    async def _save_head(self, delivered: int | None = None) -> None:
        """Write the head; if that fails, the next write does it."""
        try:
            async with self._store_lock:
                await self._load()
                await self._store.save_head(delivered)
                self._head_saved_at = _now()
        except KubernetesError as error:
            self._loaded = False
            _LOG.warning("the head of the audit record could not be written", extra={"error": str(error)})
        if self._delivery is not None:
            self._telemetry.audit_undelivered.set(self._store.last.sequence - self._store.head.delivered)

    async def _undelivered(self) -> list[Entry]:
        try:
            async with self._store_lock:
                await self._load()
                return await self._store.after(self._store.head.delivered)
        except KubernetesError:
            self._loaded = False
            raise

    async def _advance(self, sequence: int) -> bool:
        await self._save_head(sequence)
        return self._store.head.delivered >= sequence


def by_turns(changes: Iterable[Change]) -> list[Change]:
    """Changes in the order in which they are written: tenants take turns, and each keeps its own order.

    So a tenant with thousands of changes delays no change of another by more than one write.
    """
    waiting: dict[str, list[Change]] = {}
    for change in changes:
        waiting.setdefault(change.tenant, []).append(change)
    rounds = zip_longest(*waiting.values())
    return [change for each in rounds for change in each if change is not None]


def _event_of(entry: Entry) -> Event | None:
    try:
        return Event(str(entry.body.get("event")))
    except ValueError:
        return None


def _now() -> float:
    return asyncio.get_running_loop().time()
