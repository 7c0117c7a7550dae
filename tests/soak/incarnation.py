"""One run of the operator: everything that its composition root makes, except watches and workers, which the driver simulates."""

from __future__ import annotations

import asyncio
import functools
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.audit.journal import Journal
from cmk_operator.audit.store import AuditStore
from cmk_operator.azure.call_budget import BudgetRates
from cmk_operator.azure.prober import KeyProber
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.azure.vault_reader import VaultReader
from cmk_operator.core.kinds.call_rates import Rate
from cmk_operator.kubernetes.client import KubernetesClient, ObjectReference
from cmk_operator.kubernetes.connection import Connection
from cmk_operator.kubernetes.credential import Credential
from cmk_operator.kubernetes.events import EventRecorder
from cmk_operator.kubernetes.inventory import MODELS, Inventory
from cmk_operator.kubernetes.observations import Observations
from cmk_operator.kubernetes.relist import relist
from cmk_operator.kubernetes.status import StatusWriter
from cmk_operator.providers.registry import make_providers
from cmk_operator.reconcile.audit import note_unseen_deletions, tenant_in
from cmk_operator.reconcile.collaborators.cluster import Cluster
from cmk_operator.reconcile.collaborators.intervals import Intervals
from cmk_operator.reconcile.collaborators.reporting import Reporting
from cmk_operator.reconcile.dispatch import Passes, make_passes
from cmk_operator.reconcile.key.reading import KeyReading
from cmk_operator.reconcile.notifications.delivery import Deliveries
from cmk_operator.reconcile.old_claims import OldClaims
from cmk_operator.sinks.receivers import Receivers
from cmk_operator.telemetry import Telemetry
from sandbox.operator_process import NAMESPACE
from tests.soak.agenda import Agenda
from tests.soak.interruption import CrashedError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from tests.soak.virtual_time import VirtualTime

INTERVALS: Final = Intervals(key_check=45.0, drift_check=60.0, identity_check=60.0)
SEGMENT_BYTES: Final = 16_384
"""Small, because each life reads the whole record once."""
_MANY: Final = Rate(1_000_000, 1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the operator runs: the API server, and its own two tokens."""

    server: str
    ca_file: Path
    token: str
    azure_token_file: Path


class CountingTelemetry(Telemetry):
    """Counts the requests that have been answered."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = 0

    def count_azure_request(self, service: str, host: str, operation: str, code: int) -> None:
        super().count_azure_request(service, host, operation, code)
        self.answered += 1

    def kubernetes_trace(self) -> aiohttp.TraceConfig:
        async def noticed(*_: object) -> None:
            self.answered += 1

        config = aiohttp.TraceConfig()
        config.on_request_end.append(noticed)
        config.on_request_exception.append(noticed)
        return config


@dataclass
class Incarnation:
    """Made by `start`; ended by `stop`, or by a crash."""

    passes: Passes
    agenda: Agenda
    telemetry: CountingTelemetry
    old_claims: OldClaims
    _stack: AsyncExitStack = field(repr=False)

    @classmethod
    async def start(cls, place: Place, time: VirtualTime) -> Incarnation:
        """Start as after a restart: with empty memory, list everything, and record what was deleted in the meantime."""
        telemetry = CountingTelemetry()
        stack = AsyncExitStack()
        tls = ssl.create_default_context(cafile=str(place.ca_file))
        connection = Connection(place.server, tls, Credential.bearer(place.token), NAMESPACE)
        http = await stack.enter_async_context(connection.open(telemetry.kubernetes_trace()))
        rates = BudgetRates(_MANY, _MANY, _MANY, _MANY)
        session = await stack.enter_async_context(AzureSession(telemetry, TokenFile(place.azure_token_file), rates, time.now))
        client = KubernetesClient(http, telemetry)
        inventory = Inventory()
        agenda = Agenda(time.now)
        receivers = Receivers()
        stack.push_async_callback(receivers.close)
        store = AuditStore(client, NAMESPACE, SEGMENT_BYTES)
        journal = Journal(store, time.moment, telemetry, tenant_of=functools.partial(tenant_in, inventory))
        stack.push_async_callback(journal.close, 5.0)

        async def changed(reference: ObjectReference, _: int) -> None:
            agenda.add(reference)

        cluster = Cluster(client, inventory, agenda.add, changed)
        limits = INTERVALS.claim_limits()
        observations = Observations(inventory, limits, time.moment, time.now)
        events = EventRecorder(client, "soak", inventory)
        writer = StatusWriter(
            client, inventory, telemetry, changed, journal.settled, observations, withdrawn=events.record_withdrawal
        )
        reporting = Reporting(writer, events, journal, time.moment)
        passes = make_passes(
            cluster,
            reporting,
            INTERVALS,
            session=session,
            reading=KeyReading(
                KeyProber(session, time.moment, 16, time.now), VaultReader(session, limits[CustomerTenant.plural])
            ),
            providers=make_providers(session, INTERVALS.drift_check),
            deliveries=Deliveries(receivers, NAMESPACE),
            telemetry=telemetry,
        )
        life = cls(passes, agenda, telemetry, OldClaims(cluster, reporting, limits), stack)
        await life.list_all()
        await note_unseen_deletions(cluster, reporting, lambda: True)
        return life

    async def list_all(self) -> None:
        """What `Watches` does at the start and in each sweep; nothing is spread out."""
        for plural in MODELS:
            listing = await relist(self.passes.cluster.client, self.passes.cluster.inventory, plural)
            for reference in sorted(listing.unsettled | listing.settled, key=str):
                self.agenda.add(reference)
            for reference in sorted(listing.gone, key=str):
                self.gone(reference)
        self.passes.cluster.inventory.unlisted.clear()
        self.passes.cluster.inventory.is_listed_as_allowed = True

    def see(self, plural: str, body: Mapping[str, Any]) -> None:
        """A watch event of an object that exists."""
        reference, is_due = self.passes.cluster.inventory.put(plural, body)
        if is_due:
            self.agenda.add(reference)

    def gone(self, reference: ObjectReference, uid: str | None = None) -> None:
        """A watch event, or a list, that shows that an object was deleted."""
        inventory = self.passes.cluster.inventory
        concerned = inventory.related_to(reference) | inventory.referring_to(reference)
        if not inventory.remove(reference, uid):
            return
        self.agenda.forget(reference)
        for other in sorted({reference, *concerned}, key=lambda item: (item.plural, str(item))):
            self.agenda.add(other)

    async def work(
        self,
        reference: ObjectReference,
        *,
        interrupted_after: int | None = None,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
        answered: bool = False,
    ) -> bool:
        """One pass, interrupted after so many answered requests; whether the interruption came. Raises CrashedError for a crash."""
        self.agenda.take(reference)
        inner = self.passes.reconcile(reference)
        if interrupted_after is None:
            self.agenda.settle(reference, await inner)
            return False
        limit = self.telemetry.answered + interrupted_after
        interrupted = Interrupted(inner, lambda: self.telemetry.answered >= limit, meanwhile, answered=answered)
        try:
            wish = await interrupted
        except CrashedError:
            await self.crash()
            raise
        self.agenda.settle(reference, wish)
        return interrupted.happened

    def claims_too_old(self) -> list[str]:
        """Objects whose status claims what this process has not seen within three intervals."""
        writer, inventory = self.passes.reporting.writer, self.passes.cluster.inventory
        there = (reference for plural in MODELS for reference in inventory.all(plural))
        return sorted(str(reference) for reference in there if writer.old_claims(reference) is not None)

    async def crash(self) -> None:
        """End everything at once; only requests that were already sent still arrive."""
        me = asyncio.current_task()
        while others := asyncio.all_tasks() - {me}:
            # Repeatedly, because a task that cleans up after the first cancellation may await something again.
            for task in others:
                task.cancel()
            ended, _ = await asyncio.wait(others, timeout=0.5)
            await asyncio.gather(*ended, return_exceptions=True)
        await self._stack.aclose()

    async def stop(self) -> None:
        """End in order."""
        await self._stack.aclose()
