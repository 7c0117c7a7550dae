"""What `cmk-keyservice serve` runs: it makes every object once, runs until a signal, and closes everything in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from cmk_keyservice.audit.counters import Counters
from cmk_keyservice.callers.reviews import Reviews, ReviewTimes
from cmk_keyservice.crypto.key_ring import KeyRing, RingName
from cmk_keyservice.http.application import application, monitoring
from cmk_keyservice.http.key_service import KeyService
from cmk_keyservice.http.readiness import Readiness
from cmk_keyservice.http.server import Certificate, listener
from cmk_keyservice.keys.limits import Limits
from cmk_keyservice.problem import ProblemError
from cmk_keyservice.replica import Cluster, Replica
from cmk_keyservice.store.store import Store
from cmk_keyservice.telemetry import KeyServiceTelemetry
from cmk_operator import __version__
from cmk_operator.azure.call_budget import BudgetRates
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.core.kinds.call_rates import Rate
from cmk_operator.kubernetes.client import KubernetesClient
from cmk_operator.kubernetes.connection import Connection, find_connection
from cmk_operator.kubernetes.exec_plugin import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from cmk_keyservice.settings import ServeSettings

_LOG: Final = logging.getLogger("cmk_keyservice")
DROP_UNUSED_EVERY: Final = 600.0


async def connect_and_serve(settings: ServeSettings) -> int:
    """As `serve`, on the connection that the environment configures; returns 2 if something it needs cannot be used."""
    try:
        connection = await find_connection(os.environ)
        rings = (
            _ring(RingName.INTERNAL, settings.internal_keyring_file),
            _ring(RingName.PLATFORM, settings.platform_keyring_file),
        )
        url = settings.database()
    except ConfigurationError as problem:
        _LOG.error("%s", problem)
        return 2
    except ProblemError as error:
        _LOG.error("%s. %s", error.problem.detail, error.problem.remedy)
        return 2
    except OSError as error:
        _LOG.error("a file that the settings name cannot be read: %s", error)
        return 2
    return await serve(settings, connection, url, rings)


async def serve(settings: ServeSettings, connection: Connection, url: str, rings: tuple[KeyRing, KeyRing]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status, which is 1 if a part ended by itself."""
    stop, closed = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    telemetry = KeyServiceTelemetry()
    vault_rate = Rate(settings.vault_calls, 10)
    async with AsyncExitStack() as stack:
        try:
            certificate = _certificate(settings, telemetry)
            callers = _bound(settings.listen_address, settings.port)
            monitors = _bound(settings.listen_address, settings.metrics_port)
            store = await Store.open(url)
        except (OSError, ValueError) as error:
            _LOG.error("the certificate cannot be used, or a port is taken: %s", error)
            return 2
        except ProblemError as error:
            _LOG.error("%s. %s", error.problem.detail, error.problem.remedy)
            return 2
        stack.push_async_callback(store.close)
        client = KubernetesClient(await stack.enter_async_context(connection.open()), telemetry.outside)
        # Reviews of callers have their own connections: nothing else may make callers wait.
        reviewing = KubernetesClient(await stack.enter_async_context(connection.open()), telemetry.outside)
        session = await stack.enter_async_context(
            AzureSession(
                telemetry.outside, TokenFile(settings.federated_token_file), BudgetRates(vault_calls=vault_rate), connections=64
            )
        )
        limits = Limits(
            capacity=settings.cached_data_keys,
            confirm=settings.confirm_seconds,
            lease=settings.lease_seconds,
            epoch_days=settings.epoch_days,
        )
        replica = Replica(store, session, vault_rate, rings, cluster=Cluster.of(client), limits=limits)
        counters = Counters(store, replica.journal)
        times = ReviewTimes(settings.review_seconds, settings.review_outage_grace)
        readiness = Readiness(
            store, rings[0], replica.missing, lambda part, ready: telemetry.part_ready.labels(part).set(ready)
        )
        telemetry.data_keys_in_memory.set_function(lambda: len(replica.data_keys))
        service = KeyService(
            Reviews(reviewing, settings.audience, times, telemetry.count_review),
            replica.data_keys,
            replica.organizations,
            readiness,
            telemetry,
            lambda organization, caller, operation, done, refused: counters.count(
                organization, caller, operation, items=done, refused=refused
            ),
        )
        grace = settings.shutdown_grace
        serving = listener(application(service), certificate.context if certificate is not None else None, grace)
        parts = {
            "listener of callers": serving.serve_until(closed, callers),
            "listener of monitoring": listener(monitoring(service), None, 1.0).serve_until(closed, monitors),
            "replica": replica.run(closed, replica.watch(client, connection)),
            "readiness": readiness.follow(),
            "counters": counters.run(),
            "unused entries": _drop_unused(replica),
        }
        if certificate is not None:
            parts["certificate"] = certificate.follow()
        _LOG.info(
            "started",
            extra={
                "version": __version__,
                "instance": settings.instance,
                "server": connection.server,
                "port": callers.getsockname()[1],
                "metrics_port": monitors.getsockname()[1],
            },
        )
        kept = await _run(parts, stop, closed, readiness, settings)
    _LOG.info("stopped")
    return 0 if kept else 1


async def _run(
    parts: dict[str, Coroutine[object, object, None]],
    stop: asyncio.Event,
    closed: asyncio.Event,
    readiness: Readiness,
    settings: ServeSettings,
) -> bool:
    """Run all parts until `stop`, drain, and end them; False if one ended by itself, which ends the process."""
    tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
    stopped = asyncio.create_task(stop.wait(), name="stop")
    ended, _ = await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
    broken = [task for task in ended if task is not stopped]
    for task in broken:
        error = None if task.cancelled() else task.exception()
        _LOG.error("a part of the key service ended by itself: %s", task.get_name(), exc_info=error)
    readiness.stopping = True
    if not broken:
        _LOG.info("stopping: callers are served until none is sent here")
        await asyncio.sleep(settings.drain_seconds)
    closed.set()
    stopped.cancel()
    listeners = [task for task in tasks if task.get_name().startswith(("listener", "replica"))]
    await asyncio.wait(listeners, timeout=settings.shutdown_grace + 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, stopped, return_exceptions=True)
    return not broken


async def _drop_unused(replica: Replica) -> None:
    while True:
        await asyncio.sleep(DROP_UNUSED_EVERY)
        replica.vaults.drop_unused()


def _ring(name: RingName, file: Path) -> KeyRing:
    return KeyRing.parse(name, file.read_bytes() if file.exists() else None)


def _certificate(settings: ServeSettings, telemetry: KeyServiceTelemetry) -> Certificate | None:
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    certificate = Certificate(settings.tls_certificate_file, settings.tls_key_file, telemetry.certificate_expires.set)
    certificate.load()
    return certificate


def _bound(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=1_000)
