"""`cmk-keyservice`: the composition root of the key service. It makes every object once, and closes everything in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import uvloop
from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp

from cmk_keyservice.audit.counters import Counters
from cmk_keyservice.callers.reviews import Reviews, ReviewTimes
from cmk_keyservice.crypto.key_ring import KeyRing, RingName, new_key_ring, with_new_key, with_primary
from cmk_keyservice.http.application import application, monitoring
from cmk_keyservice.http.key_service import KeyService
from cmk_keyservice.http.readiness import Readiness
from cmk_keyservice.http.server import Certificate, listener
from cmk_keyservice.keys.limits import Limits
from cmk_keyservice.private_memory import keep_memory_private
from cmk_keyservice.problem import ProblemError
from cmk_keyservice.replica import Cluster, Replica
from cmk_keyservice.settings import MigrateSettings, ServeSettings
from cmk_keyservice.store.schema import migrate
from cmk_keyservice.store.store import Store
from cmk_keyservice.telemetry import KeyServiceTelemetry
from cmk_operator import __version__
from cmk_operator.azure.call_budget import BudgetRates
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.core.kinds.call_rates import Rate
from cmk_operator.kubernetes.client import KubernetesClient
from cmk_operator.kubernetes.connection import Connection, find_connection
from cmk_operator.kubernetes.exec_plugin import ConfigurationError
from cmk_operator.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import Coroutine

_LOG: Final = logging.getLogger("cmk_keyservice")
COLLECT_AFTER: Final = 50_000
"""New objects after which Python collects cyclic garbage: requests make many objects and no cycles."""
DROP_UNUSED_EVERY: Final = 600.0
USAGE: Final = """\
usage: cmk-keyservice COMMAND [ARGUMENTS]

Encrypts and decrypts for services, under keys whose root is the organization's own key.

commands:
  serve                    serve callers until SIGTERM
  migrate                  bring the tables of the database to this release, and end
  new-keyring FILE         write a new key ring (a Tink keyset) to a file that does not exist yet; -: to standard output
  add-key FILE             write the key ring with one more key, which decrypts but does not encrypt yet, to standard output
  use-key FILE KEY_ID      write the key ring that encrypts by this key from now on to standard output

`serve --help` and `migrate --help` list their settings, which are also environment variables CMK_KEYSERVICE_<NAME>.

To rotate a key ring: add-key, replace the Secret, and wait until every replica has been restarted with it; then use-key, and
replace the Secret again. Keep the old key: rows and backups need it.
"""
S = TypeVar("S", bound=BaseSettings)


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
        readiness = Readiness(store, rings[0], replica.missing)
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


def _settings(kind: type[S], arguments: list[str]) -> S:
    """The settings; ends the process with status 2 and one line for each that is wrong."""
    try:
        return CliApp.run(kind, cli_args=arguments)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            sys.stderr.write(f"cmk-keyservice: setting {name or 'combination'}: {problem['msg']}\n")
        sys.exit(2)


def _serve(arguments: list[str]) -> int:
    keep_memory_private()
    settings = _settings(ServeSettings, arguments)
    configure_logging(settings.log_format, settings.log_level)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Imported modules stay for the life of the process: the collector need not check them each time.
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(connect_and_serve(settings))


def _migrate(arguments: list[str]) -> int:
    settings = _settings(MigrateSettings, arguments)
    configure_logging(settings.log_format, settings.log_level)
    try:
        steps = migrate(settings.database())
    except ProblemError as error:
        _LOG.error("%s. %s", error.problem.detail, error.problem.remedy)
        return 1
    except OSError as error:
        _LOG.error("the file with the URL of the database cannot be read: %s", error)
        return 2
    _LOG.info("the tables are those of this release", extra={"version": __version__, "applied": steps})
    return 0


def _new_keyring(file: str) -> int:
    if file == "-":
        sys.stdout.write(new_key_ring().decode())
        return 0
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        sys.stderr.write(f"cmk-keyservice: {error}: name a file that does not exist yet, in a folder that does\n")
        return 2
    with os.fdopen(descriptor, "wb") as output:
        output.write(new_key_ring())
    return 0


def _changed_keyring(file: str, key_id: str | None) -> int:
    try:
        document = Path(file).read_bytes()
        if key_id is None:
            changed = with_new_key(RingName.INTERNAL, document)
        else:
            changed = with_primary(RingName.INTERNAL, document, int(key_id))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cmk-keyservice: {error}\n")
        return 2
    except ProblemError as error:
        sys.stderr.write(f"cmk-keyservice: {error.problem.detail}. {error.problem.remedy}\n")
        return 1
    sys.stdout.write(changed.decode())
    return 0


def main() -> int:
    """Run the command that the arguments name; returns the exit status. 2: arguments or settings cannot be used."""
    match sys.argv[1:]:
        case ["serve", *arguments]:
            return _serve(arguments)
        case ["migrate", *arguments]:
            return _migrate(arguments)
        case ["new-keyring", file]:
            return _new_keyring(file)
        case ["add-key", file]:
            return _changed_keyring(file, None)
        case ["use-key", file, key_id]:
            return _changed_keyring(file, key_id)
        case ["--version"]:
            sys.stdout.write(f"{__version__}\n")
            return 0
        case ["-h" | "--help" | "help", *_]:
            sys.stdout.write(USAGE)
            return 0
        case _:
            sys.stderr.write(USAGE)
            return 2


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
