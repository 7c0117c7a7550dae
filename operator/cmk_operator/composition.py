"""The composition root: makes every object once, runs until a signal, and closes everything in order."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import random
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cmk_operator import __version__
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.api.preflight import Preflight
from cmk_operator.audit.journal import Journal
from cmk_operator.audit.sink import AuditSink
from cmk_operator.audit.store import AuditStore
from cmk_operator.azure.call_budget import BudgetRates
from cmk_operator.azure.prober import KeyProber
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.azure.vault_reader import VaultReader
from cmk_operator.changes import Changes
from cmk_operator.check import check
from cmk_operator.core.kinds.call_rates import Rate
from cmk_operator.fair_lane import FairLane
from cmk_operator.handlers import CHANGES_AT_ONCE, REQUEST_PAUSE, Watches, stop_at_signals
from cmk_operator.health import STUCK_AFTER, Health
from cmk_operator.kubernetes.client import KubernetesClient, ObjectReference
from cmk_operator.kubernetes.connection import Connection, find_connection
from cmk_operator.kubernetes.events import EventRecorder
from cmk_operator.kubernetes.exec_plugin import ConfigurationError
from cmk_operator.kubernetes.installed_definitions import InstalledDefinitions
from cmk_operator.kubernetes.inventory import MODELS, Inventory
from cmk_operator.kubernetes.leadership import Leadership, lease_name
from cmk_operator.kubernetes.observations import Observations
from cmk_operator.kubernetes.status import StatusWriter
from cmk_operator.logs import configure_logging
from cmk_operator.metrics.exposition import Exposition, Work
from cmk_operator.process_settings import settings_or_exit
from cmk_operator.providers.registry import RATES, make_providers
from cmk_operator.queue import WorkQueue
from cmk_operator.reconcile.audit import note_unseen_deletions, tenant_in
from cmk_operator.reconcile.collaborators.cluster import Cluster
from cmk_operator.reconcile.collaborators.intervals import Intervals
from cmk_operator.reconcile.collaborators.reporting import Reporting
from cmk_operator.reconcile.dispatch import make_passes
from cmk_operator.reconcile.key.azure_lists import LANE as LISTS
from cmk_operator.reconcile.key.reading import KeyReading
from cmk_operator.reconcile.notifications.delivery import LANE as DELIVERIES
from cmk_operator.reconcile.notifications.delivery import WORKERS as DELIVERY_WORKERS
from cmk_operator.reconcile.notifications.delivery import Deliveries
from cmk_operator.reconcile.old_claims import OldClaims
from cmk_operator.reconcile.preflight.waiting import LANE as WAITING_PREFLIGHTS
from cmk_operator.reconcile.support.requests import LANE as SUPPORT
from cmk_operator.settings import Settings
from cmk_operator.sinks.receivers import Receivers
from cmk_operator.telemetry import Telemetry
from cmk_operator.turns import calls_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cmk_operator.core.kinds.call_rates import ServiceRates
    from cmk_operator.core.schedule import Next

FORGET_EVERY: Final = 600.0
CHECK: Final = "check"
RECORD_SECONDS: Final = 5.0
"""Seconds to write the remaining audit entries at shutdown."""
_LOG: Final = logging.getLogger("cmk_operator")


def rates_of(settings: Settings) -> BudgetRates:
    """The call budget from the settings."""
    return BudgetRates(
        resource_manager_reads=Rate(settings.arm_reads, 10),
        resource_manager_writes=Rate(settings.arm_writes, 20),
        vault_calls=Rate(settings.vault_calls, 10),
        services=tuple(_with_flags(rates, settings) for rates in RATES),
    )


def _with_flags(rates: ServiceRates, settings: Settings) -> ServiceRates:
    """The rates of a service, each replaced by its flag if there is one, such as `--storage-reads`."""
    flags = settings.model_dump()

    def rate(calls: str, own: Rate) -> Rate:
        return Rate(flags.get(f"{rates.name}_{calls}", own.burst), own.period)

    at_once, per_second = rates.writes_at_once, flags.get(f"{rates.name}_writes_per_second")
    return replace(
        rates,
        reads=rate("reads", rates.reads),
        lists=rate("lists", rates.lists),
        writes=rate("writes", rates.writes),
        writes_at_once=at_once if per_second is None else Rate(1, 1 / per_second),
    )


async def connect_and_run(settings: Settings) -> int:
    """As `run`, on the connection that the environment configures; returns 2 if it configures none."""
    try:
        connection = await find_connection(os.environ)
    except ConfigurationError as problem:
        _LOG.error("%s", problem)
        return 2
    return await run(settings, connection)


async def run(settings: Settings, connection: Connection) -> int:
    """Run the operator until SIGTERM or SIGINT; returns the exit status, which is 1 if the lease was lost."""
    stop = asyncio.Event()
    stop_at_signals(stop)
    telemetry = Telemetry()
    intervals = Intervals(
        settings.key_check_interval, settings.drift_check_interval, settings.identity_check_interval, settings.reference_grace
    )
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(connection.open())
        # Renewals have their own connection: another team's slow admission webhook must not cost the lease.
        lease_http = await stack.enter_async_context(connection.open(connections=1))
        session = await stack.enter_async_context(
            AzureSession(telemetry, TokenFile(settings.federated_token_file), rates_of(settings))
        )
        client = KubernetesClient(http, telemetry)
        inventory = Inventory()
        receivers = Receivers()
        stack.push_async_callback(receivers.close)

        deliveries = Deliveries(receivers, connection.namespace)
        owner_of = functools.partial(owner_in, inventory, deliveries)

        async def process(reference: ObjectReference) -> Next:
            with calls_of(owner_of(reference)):
                return await passes.reconcile(reference)

        queue: WorkQueue[ObjectReference] = WorkQueue(
            process,
            lambda item: item.plural,
            lanes_of(settings, deliveries),
            telemetry,
            owner_of=owner_of,
            limit_of=inventory.limit_of,
        )
        store = AuditStore(client, connection.namespace, settings.audit_segment_bytes)
        send = None
        if settings.audit_sink_url is not None:
            copies = AuditSink(str(settings.audit_sink_url), settings.audit_sink_token_file)
            send = (await stack.enter_async_context(copies)).send
        journal = Journal(store, _utc_now, telemetry, send, tenant_of=functools.partial(tenant_in, inventory))
        changes = Changes(REQUEST_PAUSE, CHANGES_AT_ONCE, queue.add)
        cluster = Cluster(
            client, inventory, queue.add, changes.noted, settings.operator_class, settings.licences, settings.support_requests
        )
        limits = intervals.claim_limits()
        observations = Observations(inventory, limits, _utc_now)
        events = EventRecorder(client, settings.instance, inventory)
        writer = StatusWriter(
            client, inventory, telemetry, changes.noted, journal.settled, observations, withdrawn=events.record_withdrawal
        )
        reporting = Reporting(writer, events, journal, _utc_now)
        reading = KeyReading(
            KeyProber(session, _utc_now, settings.key_workers), VaultReader(session, limits[CustomerTenant.plural])
        )
        forgetting = forget_unused(reading.prober.drop_unused, reading.vaults.drop_unused, session.drop_unused)
        stack.callback(asyncio.create_task(forgetting, name="unused entries").cancel)
        passes = make_passes(
            cluster,
            reporting,
            intervals,
            session=session,
            reading=reading,
            providers=make_providers(session, settings.drift_check_interval),
            deliveries=deliveries,
            telemetry=telemetry,
        )
        watches = Watches(connection, client, inventory, queue, telemetry, functools.partial(first_delay, intervals), changes)
        exposition = Exposition(
            telemetry,
            inventory,
            lambda: work_of(queue, session),
            {"key": intervals.key_check, "drift": intervals.drift_check, "identity": intervals.identity_check},
            age=lambda item: observations.of(item).age,
            serves=cluster.serves,
            each_resource=settings.resource_metrics,
        )
        definitions = stack.enter_context(InstalledDefinitions(client, (*MODELS.values(), Preflight)).watched())
        health = Health(
            exposition.text,
            queue.overdue,
            queue.fruitless,
            max(STUCK_AFTER, *limits.values()),
            lambda: [*definitions.missing(), *watches.missing()],
        )
        stack.push_async_callback((await health.serve(settings.listen_address, settings.listen_port)).cleanup)
        _LOG.info("started", extra={"version": __version__, "server": connection.server})
        leadership = Leadership(
            KubernetesClient(lease_http, telemetry),
            settings.lease_namespace,
            f"{connection.namespace}/{settings.instance}",
            settings.lease_duration,
            observations.whole_round,
            name=lease_name(settings.operator_class),
        )
        leading = asyncio.create_task(
            lead(
                leadership,
                queue,
                stop,
                settings.shutdown_grace,
                journal,
                unseen=functools.partial(note_unseen_deletions, cluster, reporting, lambda: watches.listed),
                old_claims=OldClaims(cluster, reporting, limits),
            ),
            name="leadership",
        )
        try:
            await watches.run(stop)
        finally:
            stop.set()
            kept = await leading
    _LOG.info("stopped")
    return 0 if kept else 1


async def forget_unused(*tables: Callable[[], None]) -> None:
    """Every `FORGET_EVERY` seconds, make each table drop the entries that nothing uses any more."""
    while True:
        await asyncio.sleep(FORGET_EVERY)
        for drop in tables:
            drop()


async def lead(
    leadership: Leadership,
    queue: WorkQueue[ObjectReference],
    stop: asyncio.Event,
    grace: float,
    journal: Journal,
    *,
    unseen: Callable[[], Awaitable[None]],
    old_claims: OldClaims,
) -> bool:
    """Reconcile while this process holds the lease; returns whether it still held it at the end.

    `unseen` records the objects that were deleted while no operator ran. A lost lease ends the process: another process is the
    leader now, and after its restart this one is the standby. So does the end of the task that withdraws old claims: without
    it, a status may go on to claim what nobody has seen.
    """
    if not await leadership.acquire(stop):
        return True
    _LOG.info("leading")
    journal.start()
    recording_unseen = asyncio.ensure_future(unseen())
    queue.start()
    keeping = asyncio.create_task(leadership.keep(), name="lease")
    withdrawing = asyncio.create_task(old_claims.run(), name="old claims")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({keeping, withdrawing, stopped}, return_when=asyncio.FIRST_COMPLETED)
    lost = keeping.done() or withdrawing.done()
    withdrawing.cancel()
    stop.set()
    _LOG.info("stopping: running reconciles may finish, no new one starts")
    await queue.stop(0.0 if lost else grace)
    recording_unseen.cancel()
    await journal.close(0.0 if lost else RECORD_SECONDS)
    keeping.cancel()
    await asyncio.gather(keeping, withdrawing, stopped, return_exceptions=True)
    if not lost:
        await leadership.release()
    return not lost


def work_of(queue: WorkQueue[ObjectReference], session: AzureSession) -> Work:
    """The state of the queue and the call budgets for the metrics. A standby reports neither: its queue only fills."""
    if not queue.started:
        return Work(leading=False)
    return Work(leading=True, queue_depths=queue.depths(), queue_overdue=queue.overdue(), budgets=session.budget_state())


def owner_in(inventory: Inventory, deliveries: Deliveries, reference: ObjectReference) -> str:
    """Who shares workers and calls with others: a namespace, for a delivery its receiver, for a cluster-scoped object itself."""
    if reference.plural == DELIVERIES:
        return deliveries.receiver_of(inventory, reference)
    return reference.namespace or reference.name


def lanes_of(settings: Settings, deliveries: Deliveries) -> dict[str, FairLane[ObjectReference]]:
    """Workers for each kind, so that many resources never delay the probe of a key."""
    return {
        FederatedIdentity.plural: FairLane(2),
        CustomerTenant.plural: FairLane(4),
        DELIVERIES: FairLane(DELIVERY_WORKERS, most_of=deliveries.at_once),
        LISTS: FairLane(2),
        SUPPORT: FairLane(1),
        Preflight.plural: FairLane(2),
        WAITING_PREFLIGHTS: FairLane(2),
        CustomerManagedKey.plural: FairLane(settings.key_workers),
        EncryptedResource.plural: FairLane(settings.workers),
        OrganizationKey.plural: FairLane(settings.key_workers),
    }


def first_delay(intervals: Intervals, reference: ObjectReference) -> float:
    """Seconds by which the first reconcile of a settled object is delayed after a restart, so that Azure gets no burst."""
    interval = {
        CustomerManagedKey.plural: intervals.key_check,
        EncryptedResource.plural: intervals.drift_check,
        OrganizationKey.plural: intervals.key_check,
    }.get(reference.plural, min(5.0, intervals.identity_check))
    return random.uniform(0.0, interval)  # noqa: S311 - spreading, not cryptography


def _utc_now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    """Read the settings, configure logging, and run or check; exits with the process's status."""
    arguments = sys.argv[1:]
    checks = arguments[:1] == [CHECK]
    settings = settings_or_exit("cmk-operator", Settings, arguments[1:] if checks else arguments, Settings.variables())
    configure_logging(settings.log_format, settings.log_level)
    if checks:
        logging.getLogger().setLevel(logging.WARNING)
        sys.exit(asyncio.run(check(settings, rates_of(settings))))
    sys.exit(asyncio.run(connect_and_run(settings)))
