"""`python -m sandbox.azure`: the simulated Azure as one process."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from sandbox.azure import endpoints
from sandbox.azure.certificates import server_context
from sandbox.azure.clock import Clock
from sandbox.azure.cloud import Cloud
from sandbox.azure.control import Control
from sandbox.azure.proxy import ConnectProxy
from sandbox.azure.request_log import RequestLog
from sandbox.azure.server import AzureApplication, TransportProtocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ssl import SSLContext


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.azure", description="Run the simulated Azure on loopback until SIGTERM."
    )
    parser.add_argument("--directory", type=Path, required=True, help="where azure.json and the CA certificate are written")
    parser.add_argument(
        "--oidc-ca",
        type=Path,
        action="append",
        default=[],
        help="a CA for the TLS of an external token issuer; may be repeated",
    )
    parser.add_argument("--clock-scale", type=float, default=1.0, help="virtual seconds in a second (default 1)")
    parser.add_argument(
        "--cloud",
        choices=sorted(endpoints.CLOUDS),
        default=endpoints.PUBLIC.cloud,
        help="whose names it answers to (AzurePublic)",
    )
    return parser.parse_args(argv)


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """The process handles its signals itself."""


def _server(application: Any, **settings: Any) -> _Server:  # noqa: ANN401 - an ASGI application and uvicorn's own settings
    config = uvicorn.Config(
        application,
        host="127.0.0.1",
        port=0,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=60,
        server_header=False,
        date_header=False,
        **settings,
    )
    return _Server(config)


async def _started(server: _Server) -> tuple[asyncio.Task[None], int]:
    task = asyncio.create_task(server._serve())  # noqa: SLF001 - `serve()` would take the signals away from the process
    while not server.started:
        if task.done():
            task.result()
            raise RuntimeError("the server did not start")
        await asyncio.sleep(0.01)
    return task, server.servers[0].sockets[0].getsockname()[1]


def _tls_server(application: Any, context: SSLContext) -> _Server:  # noqa: ANN401 - an ASGI application
    server = _server(application, http=TransportProtocol)
    server.config.load()
    server.config.ssl = context
    return server


async def run(options: argparse.Namespace) -> None:
    """Start everything, say where it is, and wait for SIGTERM or SIGINT."""
    directory: Path = options.directory
    ca_bundle = directory / "azure-ca.pem"
    endpoints.choose(options.cloud)
    clock = Clock(options.clock_scale)
    cloud = Cloud(clock, options.oidc_ca)
    log = RequestLog()
    application = AzureApplication(cloud.service, cloud.settle, cloud.faults, log, clock)
    azure = _tls_server(application, server_context(ca_bundle))
    azure_task, azure_port = await _started(azure)
    proxy = ConnectProxy(azure_port, cloud.known, cloud.azure)
    proxy_port = await proxy.start()
    administration = cloud.snowflake.administration
    controls = Control(clock, cloud.timings, cloud.faults, log, proxy, administration, vaults=cloud.vaults, users=cloud.users)
    control = _server(controls.application())
    control_task, control_port = await _started(control)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    description = {
        "pid": os.getpid(),
        "cloud": options.cloud,
        "proxy": f"http://127.0.0.1:{proxy_port}",
        "ca_bundle": str(ca_bundle),
        "control": f"http://127.0.0.1:{control_port}",
        "provider_tenant_id": cloud.provider.tenant.id,
        "customer_tenant_id": cloud.customer.tenant.id,
        "provider_admin_client_id": cloud.provider.administrator.app_id,
        "provider_admin_client_secret": cloud.provider.secret,
        "customer_admin_client_id": cloud.customer.administrator.app_id,
        "customer_admin_client_secret": cloud.customer.secret,
        "subscription_id": cloud.provider.subscription.id,
        "customer_subscription_id": cloud.customer.subscription.id,
    }
    _write(directory / "azure.json", json.dumps(description, indent=2))
    await stop.wait()
    await proxy.stop()
    for server in (azure, control):
        server.should_exit = True
    await asyncio.gather(azure_task, control_task)
    cloud.close()


def _write(file: Path, text: str) -> None:
    """Whole or not at all, readable by the owner only: it holds the administrators' secrets."""
    partial = file.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(file)


def main(argv: Sequence[str] | None = None) -> None:
    """Run until told to stop."""
    options = arguments(argv)
    options.directory.mkdir(parents=True, exist_ok=True)
    options.directory = options.directory.resolve()
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
