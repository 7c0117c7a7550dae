"""Starts the simulated Azure as a process of its own and hands out the environment for its clients."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure.keyvault.keys._shared import http_challenge_cache

START_SECONDS = 60.0
STOP_SECONDS = 10.0
ROOT = Path(__file__).parents[2]


class AzureDidNotStartError(Exception):
    """The process ended, or was not ready in time; its output is in the message."""


@dataclass
class AzureProcess:
    """A running simulated Azure."""

    env: dict[str, str]
    description: dict[str, Any]
    _process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL if it does not."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment(description: dict[str, Any]) -> dict[str, str]:
    """The standard variables that point any Azure client at the sandbox, and the names of what is in it."""
    ca_bundle = str(description["ca_bundle"])
    return {
        "HTTPS_PROXY": str(description["proxy"]),
        "NO_PROXY": "127.0.0.1,localhost",
        "SSL_CERT_FILE": ca_bundle,
        "REQUESTS_CA_BUNDLE": ca_bundle,
        "NODE_EXTRA_CA_CERTS": ca_bundle,
        "PROVIDER_TENANT_ID": str(description["provider_tenant_id"]),
        "CUSTOMER_TENANT_ID": str(description["customer_tenant_id"]),
        "PROVIDER_ADMIN_CLIENT_ID": str(description["provider_admin_client_id"]),
        "PROVIDER_ADMIN_CLIENT_SECRET": str(description["provider_admin_client_secret"]),
        "CUSTOMER_ADMIN_CLIENT_ID": str(description["customer_admin_client_id"]),
        "CUSTOMER_ADMIN_CLIENT_SECRET": str(description["customer_admin_client_secret"]),
        "SUBSCRIPTION_ID": str(description["subscription_id"]),
        "CUSTOMER_SUBSCRIPTION_ID": str(description["customer_subscription_id"]),
        "SANDBOX_CONTROL": str(description["control"]),
        "SANDBOX_CLOUD": str(description["cloud"]),
    }


def start(
    directory: Path, *, oidc_ca: Path | None = None, clock_scale: float = 1.0, cloud: str = "AzurePublic"
) -> AzureProcess:
    """Start it and wait until it answers. Raises AzureDidNotStartError."""
    # What this process's Key Vault clients know of vaults was told by a cloud before this one, whose tenants had other ids.
    http_challenge_cache.clear()
    directory.mkdir(parents=True, exist_ok=True)
    file, output = directory / "azure.json", directory / "azure.log"
    file.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "sandbox.azure",
        "--directory",
        str(directory.resolve()),
        "--clock-scale",
        str(clock_scale),
        "--cloud",
        cloud,
    ]
    if oidc_ca is not None:
        command += ["--oidc-ca", str(oidc_ca.resolve())]
    with output.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT)
    deadline = time.monotonic() + START_SECONDS
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise AzureDidNotStartError(f"the simulated Azure is not ready: {output.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
    description = json.loads(file.read_text())
    return AzureProcess(environment(description), description, process)
