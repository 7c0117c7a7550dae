"""Starting etcd and kube-apiserver, and asking the API server whether it is ready."""

from __future__ import annotations

import http.client
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sandbox.kubernetes.processes import ServerProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sandbox.kubernetes.credentials import ClusterCredentials

START_SECONDS = 90.0
ATTEMPTS = 3
ETCD_RECORD = "etcd.process.json"
APISERVER_RECORD = "kube-apiserver.process.json"


class ClusterError(RuntimeError):
    """The API server did not start, or refused what it was asked; the message has its own words."""


def start_servers(
    directory: Path, credentials: ClusterCredentials, *, etcd: Path, kube_apiserver: Path
) -> tuple[str, tuple[ServerProcess, ...]]:
    """Start both and wait for `/readyz`; returns the API server's URL and the processes, in the order in which to stop them.

    A free port can be taken by somebody else before the server listens on it; then the start is repeated with others.
    """
    for attempt in range(1, ATTEMPTS + 1):
        client_port, peer_port, port = free_ports(3)
        store = ServerProcess.start(
            "etcd",
            [
                etcd,
                *_etcd_flags(directory / f"etcd-{attempt}", f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"),
            ],
            directory / "etcd.log",
            directory / ETCD_RECORD,
        )
        server = f"https://127.0.0.1:{port}"
        api = ServerProcess.start(
            "kube-apiserver",
            [kube_apiserver, *_apiserver_flags(directory, credentials, port, f"http://127.0.0.1:{client_port}")],
            directory / "kube-apiserver.log",
            directory / APISERVER_RECORD,
        )
        try:
            wait_until_ready(f"{server}/readyz", credentials.ca_file, (api, store))
        except BaseException as failure:
            api.stop()
            store.stop()
            if attempt < ATTEMPTS and isinstance(failure, ClusterError) and _port_was_taken(directory):
                continue
            raise
        return server, (api, store)
    raise AssertionError("unreachable: the last attempt returns or raises")


def wait_until_ready(url: str, ca_file: Path, processes: Sequence[ServerProcess]) -> None:
    """Return when `url` answers 200; raises `ClusterError` when a process ends before that, or after 90 seconds."""
    deadline = time.monotonic() + START_SECONDS
    while not readable(url, ca_file):
        for process in processes:
            if not process.running:
                raise ClusterError(f"{process.name} has ended; the end of its log:\n{_log_end(ca_file.parent, process.name)}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{url} did not answer with 200 in {START_SECONDS:.0f} s; the logs are in {ca_file.parent}")
        time.sleep(0.05)


def readable(url: str, ca_file: Path) -> bool:
    """Whether `url` answers 200 to a request without credentials, under that authority; never through a proxy."""
    parts = urlsplit(url)
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=10, context=context)
        try:
            connection.request("GET", parts.path)
            return connection.getresponse().status == 200
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def _etcd_flags(data: Path, client_url: str, peer_url: str) -> list[str]:
    return [
        f"--data-dir={data}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--unsafe-no-fsync",  # nothing in a sandbox must survive a power cut
        "--log-level=warn",
    ]


def _apiserver_flags(directory: Path, credentials: ClusterCredentials, port: int, etcd_url: str) -> list[str]:
    """Flags that only say where things are, and RBAC; admission plugins and feature gates stay as Kubernetes has them."""
    issuer = f"https://127.0.0.1:{port}"
    return [
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={directory}",
        f"--tls-cert-file={credentials.server_certificate}",
        f"--tls-private-key-file={credentials.server_key}",
        f"--client-ca-file={credentials.ca_file}",
        "--authorization-mode=RBAC",
        f"--service-account-issuer={issuer}",
        f"--service-account-jwks-uri={issuer}/openid/v1/jwks",
        f"--service-account-key-file={credentials.service_account_key}",
        f"--service-account-signing-key-file={credentials.service_account_key}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--endpoint-reconciler-type=none",  # nobody reaches this server through a Service
    ]


def _log_end(directory: Path, name: str) -> str:
    return "\n".join((directory / f"{name}.log").read_text(errors="replace").splitlines()[-8:])


def _port_was_taken(directory: Path) -> bool:
    return any("address already in use" in _log_end(directory, name) for name in ("etcd", "kube-apiserver"))
