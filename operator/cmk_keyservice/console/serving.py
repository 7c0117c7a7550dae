"""What `cmk-keyservice console` runs until a signal."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cmk_keyservice.console.application import Console
from cmk_keyservice.console.openid import OpenId
from cmk_keyservice.console.organizations import OrganizationKeys
from cmk_keyservice.console.record_reading import Record
from cmk_keyservice.http.server import Certificate, listener
from cmk_operator import __version__
from cmk_operator.answer_gate import open_session
from cmk_operator.kubernetes.client import KubernetesClient
from cmk_operator.kubernetes.connection import find_connection
from cmk_operator.kubernetes.exec_plugin import ConfigurationError
from cmk_operator.telemetry import Telemetry

if TYPE_CHECKING:
    from cmk_keyservice.settings import ConsoleSettings

_LOG: Final = logging.getLogger("cmk_keyservice.console")
GRACE_SECONDS: Final = 5.0
CONNECTIONS: Final = 64
"""Most connections to identity providers at the same time."""


async def serve_console(settings: ConsoleSettings) -> int:
    """Serve browsers until SIGTERM or SIGINT; returns the exit status, 2 if something it needs cannot be used."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        connection = await find_connection(os.environ)
        certificate = _certificate(settings)
        address = socket.AF_INET6 if ":" in settings.listen_address else socket.AF_INET
        listening = socket.create_server((settings.listen_address, settings.port), family=address)
    except (ConfigurationError, OSError, ValueError) as problem:
        _LOG.error("the console cannot start: %s", problem)
        return 2
    async with AsyncExitStack() as stack:
        client = KubernetesClient(await stack.enter_async_context(connection.open()), Telemetry())
        outside = await stack.enter_async_context(open_session(connections=CONNECTIONS, trust_env=True))
        record = Record(client, settings.operator_namespace, time.monotonic)
        console = Console(settings, OrganizationKeys(client, _now), record, OpenId(outside), time.monotonic, _now)
        server = listener(console.application(), certificate.context if certificate is not None else None, GRACE_SECONDS)
        following = asyncio.ensure_future(certificate.follow()) if certificate is not None else None
        reporting = asyncio.ensure_future(console.reports.run())
        _LOG.info("started", extra={"version": __version__, "port": listening.getsockname()[1]})
        await server.serve_until(stop, listening)
        reporting.cancel()
        if following is not None:
            following.cancel()
    _LOG.info("stopped")
    return 0


def _now() -> datetime:
    return datetime.now(UTC)


def _certificate(settings: ConsoleSettings) -> Certificate | None:
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    made = Certificate(settings.tls_certificate_file, settings.tls_key_file, lambda _expires: None)
    made.load()
    return made
