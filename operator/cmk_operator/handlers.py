"""kopf only watches: each event updates the inventory and enqueues objects. kopf decides, retries and writes nothing.

Why: if a status patch by kopf fails once, kopf never sends it again, and a crash between kopf's two patches leaves the object
wrong for ever. Both were measured; see docs/decisions/0001-kopf-only-watches.md.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import kopf

from cmk_operator.api.model import GROUP, VERSION
from cmk_operator.api.preflight import Preflight
from cmk_operator.kubernetes.bounded_answer import MOST_PER_PAGE, PagesInBounds
from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError, ObjectReference, collection_path
from cmk_operator.kubernetes.inventory import MODELS, WATCHED, Inventory, rests_on
from cmk_operator.kubernetes.open_watches import OpenWatches
from cmk_operator.kubernetes.relist import RelistResult, relist
from cmk_operator.reconcile.collaborators.wake import delay_behind_key
from cmk_operator.reconcile.preflight.waiting import WAITS_AFTER, notice_of
from cmk_operator.task_family import TaskFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cmk_operator.changes import Changes
    from cmk_operator.kubernetes.connection import Connection
    from cmk_operator.queue import WorkQueue
    from cmk_operator.telemetry import Telemetry

SWEEP_INTERVAL: Final = 600.0
SWEEP_SOON: Final = 5.0
WATCH_CHECK_INTERVAL: Final = 3.0
OVERLOOKED_AFTER: Final = 10.0
"""Seconds without any request for a kind after which kopf must have overlooked it; kopf's own pauses are shorter."""
UNWATCHED_AFTER: Final = 30.0
"""Seconds without a watch after which a kind counts as unwatched although the API server serves it: its list may be slow."""
FORBIDDEN_FOR: Final = 30.0
"""Seconds for which a kind is not watched after a 403 had ended the watches: kopf ends all of them if one is forbidden."""
REQUEST_PAUSE: Final = 5.0
"""Seconds in which the requested passes of one object count once: their annotation can be changed thousands of times a minute."""
CHANGES_AT_ONCE: Final = 3
"""Changes of one object's spec that are handled at once; each further one `REQUEST_PAUSE` after the last."""
INACTIVITY_TIMEOUT: Final = 30.0
"""Seconds without a bookmark or event after which a watch counts as dead."""
_COLLECTIONS: Final = frozenset(collection_path(plural) for plural in MODELS)
_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_END_SECONDS: Final = 10.0
_RESTART_DELAYS: Final = (0.2, 1.0, 2.0, 5.0, 10.0)
_LOG: Final = logging.getLogger(__name__)


class NoDiffBase(kopf.DiffBaseStorage):
    """Stores nothing: there are no diff handlers, and kopf would copy every body on every event to compare it."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002 - kopf's signature
        """Return an empty essence."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002 - kopf's signature
        """Return none."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing, so that kopf adds no annotation to any object."""


@dataclass(slots=True)
class Watches:
    """The watches of all kinds, and the regular lists that find what the watches missed."""

    connection: Connection
    client: KubernetesClient
    inventory: Inventory
    queue: WorkQueue[ObjectReference]
    telemetry: Telemetry
    spread: Callable[[ObjectReference], float]
    """Seconds by which the first reconcile of a settled object is delayed after a start."""
    changes: Changes
    unwatched: dict[str, str] = field(default_factory=dict)
    """The kinds that are not watched, each with the reason and who must do what."""
    open_watches: OpenWatches = field(default_factory=lambda: OpenWatches(WATCHED))
    _closed_since: dict[str, float] = field(default_factory=dict)
    _left_out_until: dict[str, float] = field(default_factory=dict)
    _sweep_soon: asyncio.Event = field(default_factory=asyncio.Event)
    _sessions: list[aiohttp.ClientSession] = field(default_factory=list)
    _held: dict[str, RelistResult] = field(default_factory=dict)
    """Listed kinds whose objects are not enqueued yet, because a kind on which they rest is not listed."""

    @property
    def listed(self) -> bool:
        """Whether every kind has been listed."""
        return self.inventory.complete

    async def run(self, stop: asyncio.Event) -> None:
        """List all kinds, then watch them until `stop` is set. A broken connection is opened again."""
        for plural in WATCHED:
            self.telemetry.watch_established.labels(plural).set(0)
        await self._first_lists(stop)
        sweeper = asyncio.create_task(self._sweep(), name="sweeper")
        failures = 0
        try:
            while not stop.is_set():
                began = asyncio.get_running_loop().time()
                await self._watch(stop)
                if stop.is_set():
                    break
                failures = 0 if asyncio.get_running_loop().time() - began > 60 else failures + 1
                self._sweep_soon.set()
                await _pause(stop, _RESTART_DELAYS[min(failures, len(_RESTART_DELAYS) - 1)])
        finally:
            sweeper.cancel()

    def missing(self) -> list[str]:
        """What is not listed or watched, one line each; empty if nothing is missing."""
        waiting = sorted(plural for plural in WATCHED if rests_on(plural) & self.inventory.unlisted)
        unseen = [plural for plural in WATCHED if not self.open_watches.was_open(plural) and plural not in self.unwatched]
        return [
            *(
                []
                if self.listed
                else [f"custom resources are not listed yet; until then nothing is done for: {_named(waiting)}"]
            ),
            *(f"{plural} is not watched: {reason}" for plural, reason in sorted(self.unwatched.items())),
            *(f"{plural} is not watched: its watch has not started yet" for plural in unseen),
        ]

    async def _first_lists(self, stop: asyncio.Event) -> None:
        """List every kind before the first watch; one that is forbidden is left out, and tried again beside the watches.

        What rests on a kind that is not listed waits for it (`Inventory.waits_for`).
        """
        attempt = 0
        while not stop.is_set():
            plural = ""
            try:
                for plural in MODELS:
                    await self._first_list(plural)
            except KubernetesError as error:
                attempt += 1
                self.unwatched[plural] = reason_of(plural, error)
                _LOG.warning("the Kubernetes API cannot be listed yet", extra={"error": str(error)})
                await _pause(stop, _RESTART_DELAYS[min(attempt, len(_RESTART_DELAYS) - 1)])
            else:
                self.inventory.is_listed_as_allowed = True
                objects = sum(self.inventory.count(plural) for plural in MODELS)
                _LOG.info("all kinds are listed", extra={"objects": objects, "forbidden": sorted(self.inventory.unlisted)})
                return

    async def _first_list(self, plural: str) -> None:
        """List one kind; raises `KubernetesError`, except if the list is forbidden."""
        try:
            await self._list(plural)
        except KubernetesError as error:
            if error.status != 403:
                raise
            self._left_out_until[plural] = asyncio.get_running_loop().time()
            self._note(plural, reason_of(plural, error))
        else:
            self.unwatched.pop(plural, None)

    async def _list(self, plural: str) -> None:
        listing = await relist(self.client, self.inventory, plural)
        if not listing.served:
            _LOG.warning(
                "a custom resource definition is not installed: the cluster's administrator must install it; the operator waits",
                extra={"definition": f"{plural}.{GROUP}"},
            )
        self._held[plural] = listing
        self.inventory.unlisted.discard(plural)
        for kind in [kind for kind in self._held if not rests_on(kind) & self.inventory.unlisted]:
            self._enqueue(self._held.pop(kind))

    def _enqueue(self, listing: RelistResult) -> None:
        for reference in self.inventory.grouped(listing.unsettled):
            self.queue.add(reference, after=delay_behind_key(self.inventory, reference))
        for reference in listing.settled:
            self.queue.add(reference, after=self.spread(reference))
        for reference in listing.gone:
            self._gone(reference, None)

    async def _sweep(self) -> None:
        while True:
            try:
                async with asyncio.timeout(SWEEP_INTERVAL):
                    await self._sweep_soon.wait()
                    await asyncio.sleep(SWEEP_SOON)
            except TimeoutError:
                pass
            self._sweep_soon.clear()
            self.changes.drop_old()
            for plural in MODELS:
                try:
                    await self._list(plural)
                except KubernetesError as error:
                    _LOG.warning("a kind could not be listed; it is tried again", extra={"kind": plural, "error": str(error)})

    async def _watch(self, stop: asyncio.Event) -> None:
        family = TaskFamily()
        registry = self._registry()
        roots = await family.start(
            lambda: kopf.spawn_tasks(registry=registry, settings=_settings(), clusterwide=True, standalone=True)
        )
        # kopf replaces the signal handlers with its own; ours stop the whole process, watches first.
        stop_at_signals(stop)
        stopped = asyncio.create_task(stop.wait(), name="stop")
        overlooked = asyncio.create_task(self._until_restart_needed(), name="watch check")
        done, _ = await asyncio.wait({stopped, overlooked, *roots}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        overlooked.cancel()
        for task in done - {stopped, overlooked}:
            error = task.exception() if not task.cancelled() else None
            _LOG.warning("watches ended and are started again", extra={"error": f"{type(error).__name__}: {error}"})
        # Not `kopf.run_tasks`: it cancels once, waits for ever for a stream that swallowed the cancellation, and also cancels
        # the tasks of running reconciles.
        left = await family.end(_END_SECONDS)
        if left:
            _LOG.error("tasks of the watches did not end", extra={"tasks": left})
        for session in self._sessions:
            await session.close()
        self._sessions.clear()

    async def _until_restart_needed(self) -> None:
        """Check which kinds are watched; return when the watches must be started again.

        kopf reads discovery when a definition changes. If discovery does not show the kind yet at the last change, kopf never
        reads it again.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await asyncio.sleep(WATCH_CHECK_INTERVAL)
            for plural in WATCHED:
                if self.open_watches.is_open(plural):
                    self._closed_since.pop(plural, None)
                    self._left_out_until.pop(plural, None)
                    self._note(plural, None)
                    continue
                closed_for = loop.time() - self._closed_since.setdefault(plural, loop.time())
                busy = self.open_watches.quiet_for(plural) < WATCH_CHECK_INTERVAL and not self.open_watches.refusals(plural)
                if not closed_for or (busy and closed_for < UNWATCHED_AFTER):
                    continue
                status, reason = await self._refusal(plural)
                if status == 200 and plural in self.inventory.unlisted:
                    await self._first_list(plural)
                if status == 200 and self._is_overlooked(plural, loop.time() - began):
                    _LOG.warning("a kind is served but not watched; all watches are started again", extra={"kind": plural})
                    return
                if status in {403, 404} or closed_for > UNWATCHED_AFTER:
                    self._note(plural, reason)

    def _is_overlooked(self, plural: str, watching_for: float) -> bool:
        """Whether kopf requests nothing for a kind that the API server serves."""
        if plural in self._left_out_until:
            return asyncio.get_running_loop().time() > self._left_out_until[plural]
        return min(watching_for, self.open_watches.quiet_for(plural)) > OVERLOOKED_AFTER

    async def _refusal(self, plural: str) -> tuple[int, str]:
        """The HTTP status of a list (0: no answer), and why the kind is not watched, with who must do what."""
        try:
            await self.client.request("GET", collection_path(plural), query={"limit": "1"})
        except KubernetesError as error:
            return error.status, reason_of(plural, error)
        if self.open_watches.refusals(plural) and not await self._may_watch(plural):
            return 403, _forbidden(plural, "watch")
        return 200, "its watch has not started yet"

    async def _may_watch(self, plural: str) -> bool:
        """Whether RBAC allows to watch a kind; True if the API server does not say."""
        attributes = {"group": GROUP, "version": VERSION, "resource": plural, "verb": "watch"}
        try:
            answer = await self.client.request("POST", _ACCESS_REVIEWS, body={"spec": {"resourceAttributes": attributes}})
        except KubernetesError:
            return True
        return bool(answer.get("status", {}).get("allowed", True))

    def _note(self, plural: str, reason: str | None) -> None:
        self.telemetry.watch_established.labels(plural).set(reason is None)
        if reason is None:
            self.unwatched.pop(plural, None)
        elif self.unwatched.get(plural) != reason:
            self.unwatched[plural] = reason
            _LOG.warning("a kind is not watched", extra={"kind": plural, "reason": reason})

    def _watchable(self) -> list[str]:
        """The kinds to watch now, without those that are forbidden: kopf would end the watches of all others too."""
        now = asyncio.get_running_loop().time()
        for plural in WATCHED:
            if self.open_watches.refusals(plural) and plural not in self._left_out_until:
                self._left_out_until[plural] = now + FORBIDDEN_FOR
            elif now > self._left_out_until.get(plural, float("inf")):
                del self._left_out_until[plural]
        return [plural for plural in WATCHED if plural not in self._left_out_until and plural not in self.inventory.unlisted]

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: object) -> kopf.AiohttpSession:
            pages = PagesInBounds(metadata_only=[collection_path(Preflight.plural)])
            session = self.connection.session(self._observe_lists(), middlewares=(pages.read, self.open_watches.observe))
            self._sessions.append(session)
            return kopf.AiohttpSession(server=self.connection.server, aiohttp_session=session)

        for plural in self._watchable():
            handler = self._handler(plural) if plural in MODELS else self._on_preflight
            kopf.on.event(GROUP, VERSION, plural, registry=registry, id=plural)(handler)
        return registry

    def _observe_lists(self) -> aiohttp.TraceConfig:
        """Sweep soon after each list by kopf, because kopf does not report objects that were deleted while no watch was open."""

        async def noticed(_: aiohttp.ClientSession, __: object, request: aiohttp.TraceRequestEndParams) -> None:
            if self.inventory.is_listed_as_allowed and request.url.path in _COLLECTIONS and "watch" not in request.url.query:
                self._sweep_soon.set()

        config = aiohttp.TraceConfig()
        config.on_request_end.append(noticed)
        return config

    def _handler(self, plural: str) -> Callable[..., Any]:
        async def on_event(event: Mapping[str, Any], **_: object) -> None:
            self.telemetry.watch_events.labels(plural).inc()
            kind, body = event["type"], event["object"]
            metadata = body["metadata"]
            if kind == "DELETED":
                self._gone(ObjectReference(plural, metadata.get("namespace", ""), metadata["name"]), metadata["uid"])
                return
            reference, is_due = self.inventory.put(plural, body)
            if is_due:
                await self.changes.noted(reference, metadata.get("generation", 0))

        return on_event

    async def _on_preflight(self, event: Mapping[str, Any], **_: object) -> None:
        self.telemetry.watch_events.labels(Preflight.plural).inc()
        metadata = event["object"]["metadata"]
        reference = ObjectReference(Preflight.plural, metadata["namespace"], metadata["name"])
        if event["type"] == "DELETED":
            self.queue.forget(reference)
            self.queue.forget(notice_of(reference))
            return
        self.queue.add(reference)
        if event["type"] != "MODIFIED":
            self.queue.add(notice_of(reference), after=WAITS_AFTER)

    def _gone(self, reference: ObjectReference, uid: str | None) -> None:
        concerned = self.inventory.related_to(reference) | self.inventory.referring_to(reference)
        if not self.inventory.remove(reference, uid):
            return
        self.queue.forget(reference)
        self.changes.forget(reference)
        for other in {reference, *concerned}:
            self.queue.add(other)


def reason_of(plural: str, error: KubernetesError) -> str:
    """Why a kind cannot be listed, and who must do what."""
    if error.status == 404:
        return f"{plural}.{GROUP} is not installed: the cluster's administrator must install the definition"
    if error.status == 403:
        return f"{_forbidden(plural, 'get, list and watch')} ({error})"
    return f"the Kubernetes API does not answer: {error}"


def _forbidden(plural: str, verbs: str) -> str:
    return (
        "RBAC forbids it: whoever installs the operator must correct its ClusterRole, so that the operator's ServiceAccount may "
        f"{verbs} {plural}.{GROUP}"
    )


def _named(plurals: list[str]) -> str:
    return ", ".join(plurals) if plurals else "objects that are being deleted"


def stop_at_signals(stop: asyncio.Event) -> None:
    """Make SIGTERM and SIGINT set `stop`."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None
    settings.queueing.idle_timeout = 0.1
    settings.queueing.exit_timeout = 1.0
    settings.watching.chunk_size = MOST_PER_PAGE
    settings.watching.inactivity_timeout = INACTIVITY_TIMEOUT
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 301
    settings.watching.connect_timeout = 5
    settings.networking.request_timeout = 15
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2)
    return settings
