"""Runs the page for administrators as a cluster would: from the chart's Deployment, as its ServiceAccount, on loopback without TLS."""

from __future__ import annotations

import base64
import secrets
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

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

SERVICE_ACCOUNT: Final = "cmk-console"
CONTAINER: Final = "console"
CHART_VALUES: Final = (
    "keyService.console.enabled=true",
    "keyService.console.publicUrl=https://encryption.example.com",
    "keyService.console.openid.issuer=https://login.microsoftonline.com/organizations/v2.0",
    "keyService.console.openid.clientId=page",
    "keyService.console.openid.clientSecretRef.name=console-openid",
    "keyService.console.tls.secretName=console-tls",
    "keyService.console.breakGlass.secretName=cmk-break-glass",
)
"""What the chart needs beside `keyservice_process.CHART_VALUES` to install the page. The story signs in by a break-glass account."""
_FROM_FILES: Final = ("TLS_CERTIFICATE_FILE", "TLS_KEY_FILE")


@dataclass
class ConsoleProcess(PodProcess):
    """A running console: its address, and who may sign in there."""

    url: str
    account: str
    password: str


def start_console(
    cluster: Cluster, azure: Mapping[str, str], directory: Path, organization: str, person: str, *, namespace: str = NAMESPACE
) -> ConsoleProcess:
    """Start `python -m cmk_keyservice console` with one break-glass account for an OrganizationKey, and wait until it answers.

    `organization` is the OrganizationKey as NAMESPACE/NAME. Raises `OperatorDidNotStartError`.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    accounts, account, password = directory / "break-glass", "demo-1", secrets.token_urlsafe(18)
    accounts.mkdir(exist_ok=True, mode=0o700)
    command = [
        sys.executable,
        "-m",
        "cmk_keyservice",
        "break-glass",
        account,
        "--person",
        person,
        "--organization",
        organization,
    ]
    made = subprocess.run(
        [*command, "--namespace", namespace, "--password-stdin"],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise OperatorDidNotStartError(f"cmk-keyservice break-glass: {made.stderr.strip()}")
    # As the kubelet mounts the Secret.
    entry = yaml.safe_load(made.stdout)["data"][account]
    (accounts / account).write_bytes(base64.b64decode(entry))
    (directory / "client-secret").write_text("the story signs in without it", encoding="ascii")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **settings_of_deployment(cluster, namespace, CONTAINER),
        **as_service_account(
            cluster, azure, directory, SERVICE_ACCOUNT, audience_of_deployment(cluster, namespace, CONTAINER), namespace
        ),
        "CMK_KEYSERVICE_PUBLIC_URL": url,
        "CMK_KEYSERVICE_CLIENT_SECRET_FILE": str(directory / "client-secret"),
        "CMK_KEYSERVICE_BREAK_GLASS_FOLDER": str(accounts),
        "CMK_KEYSERVICE_LISTEN_ADDRESS": "127.0.0.1",
        "CMK_KEYSERVICE_PORT": str(port),
        "CMK_KEYSERVICE_INSECURE_HTTP": "true",
    }
    for name in _FROM_FILES:
        environment.pop(f"CMK_KEYSERVICE_{name}", None)
    log = directory / "console.log"
    process = started(["cmk_keyservice", "console"], environment, log)
    await_ready(process, log, url, "the console", "/healthz")
    return ConsoleProcess(process, log, url, account, password)
