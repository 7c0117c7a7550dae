"""Runs the key service as a cluster would: from the chart's Deployment, as its ServiceAccount, over TLS, with a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

from sandbox.operator_process import (
    NAMESPACE,
    OperatorDidNotStartError,
    PodProcess,
    as_service_account,
    audience_of_deployment,
    await_ready,
    free_port,
    settings_of_deployment,
    started,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

SERVICE_ACCOUNT = "cmk-keyservice"
CONTAINER = "keyservice"
CHART_VALUES = (
    "keyService.enabled=true",
    # The sandbox runs no pods: `start_key_service` migrates.
    "keyService.migration.enabled=false",
    "keyService.database.urlSecretRef.name=keyservice-database",
    "keyService.keyRings.internalSecretRef.name=keyservice-internal",
    "keyService.keyRings.platformSecretRef.name=keyservice-platform",
    "keyService.tls.secretName=keyservice-tls",
)
"""What the chart needs to install the key service; its Secrets are the files that `start_key_service` makes."""


@dataclass
class KeyServiceProcess(PodProcess):
    """A running replica of the key service: where callers reach it, by which authority they trust it, and its other endpoints."""

    url: str
    ca_file: Path
    metrics_url: str


def start_key_service(
    cluster: Cluster,
    azure: Mapping[str, str],
    directory: Path,
    database_url: str,
    settings: Mapping[str, str] | None = None,
    *,
    namespace: str = NAMESPACE,
    insecure_http: bool = False,
) -> KeyServiceProcess:
    """Migrate the database, start `python -m cmk_keyservice serve`, and wait until it is ready.

    Key rings and certificate lie in `directory` and are made once, so that a second start there is a restart. With
    `insecure_http`, it serves without TLS, as for a proxy in its pod. Raises `OperatorDidNotStartError`.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    rings = {name: _key_ring(directory / f"{name}.json") for name in ("internal", "platform")}
    certificate = _certificate(directory)
    port, metrics_port = free_port(), free_port()
    environment = {
        **settings_of_deployment(cluster, namespace, CONTAINER),
        "CMK_KEYSERVICE_DRAIN_SECONDS": "0",
        **(settings or {}),
        **as_service_account(
            cluster, azure, directory, SERVICE_ACCOUNT, audience_of_deployment(cluster, namespace, CONTAINER), namespace
        ),
        "CMK_KEYSERVICE_DATABASE_URL": database_url,
        "CMK_KEYSERVICE_INTERNAL_KEYRING_FILE": str(rings["internal"]),
        "CMK_KEYSERVICE_PLATFORM_KEYRING_FILE": str(rings["platform"]),
        "CMK_KEYSERVICE_LISTEN_ADDRESS": "127.0.0.1",
        "CMK_KEYSERVICE_PORT": str(port),
        "CMK_KEYSERVICE_METRICS_PORT": str(metrics_port),
    }
    environment.pop("CMK_KEYSERVICE_DATABASE_URL_FILE", None)
    files = {"CERTIFICATE": str(certificate / "tls.crt"), "KEY": str(certificate / "tls.key")}
    for name, file in files.items():
        environment.pop(f"CMK_KEYSERVICE_TLS_{name}_FILE", None)
        environment |= {"CMK_KEYSERVICE_INSECURE_HTTP": "true"} if insecure_http else {f"CMK_KEYSERVICE_TLS_{name}_FILE": file}
    log = directory / "keyservice.log"
    _run("migrate", environment={name: value for name, value in environment.items() if name in _OF_MIGRATE})
    process = started(["cmk_keyservice", "serve"], environment, log)
    metrics_url = f"http://127.0.0.1:{metrics_port}"
    await_ready(process, log, metrics_url, "the key service")
    return KeyServiceProcess(
        process, log, f"{'http' if insecure_http else 'https'}://localhost:{port}", certificate / "ca.crt", metrics_url
    )


_OF_MIGRATE = frozenset({"PATH", "CMK_KEYSERVICE_DATABASE_URL"})


def _key_ring(file: Path) -> Path:
    if not file.exists():
        _run("new-keyring", str(file))
    return file


def _certificate(directory: Path) -> Path:
    if not (directory / "tls.crt").exists():
        authority = trustme.CA(organization_name="cmk-operator sandbox")
        issued = authority.issue_cert("localhost", "127.0.0.1")
        authority.cert_pem.write_to_path(directory / "ca.crt")
        (directory / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        (directory / "tls.key").touch(mode=0o600)
        (directory / "tls.key").write_bytes(issued.private_key_pem.bytes())
    return directory


def _run(*arguments: str, environment: Mapping[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "cmk_keyservice", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OperatorDidNotStartError(f"cmk-keyservice {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
