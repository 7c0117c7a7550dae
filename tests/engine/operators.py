"""An operator process that a test may kill, stop and start again, behind a fault proxy."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from sandbox.kubernetes.processes import free_ports
from sandbox.operator_process import NAMESPACE, SERVICE_ACCOUNT, OperatorProcess, settings_of_deployment
from tests.monitoring.live import Scrape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

PATIENCE = 60.0


async def until(what: str, test: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait until `test` (plain or asynchronous) is true, and return what it returned."""
    deadline = time.monotonic() + patience
    while True:
        found = test()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"awaited in vain: {what}"
        await asyncio.sleep(0.03)


class Operator:
    """Started from the chart's Deployment as its ServiceAccount, as often as a test likes; the log is one file."""

    def __init__(self, cluster: Cluster, azure: Mapping[str, str], directory: Path, server: str) -> None:
        kubeconfig = cluster.service_account_kubeconfig(NAMESPACE, SERVICE_ACCOUNT, directory / "kubeconfig")
        content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        for entry in content["clusters"]:
            entry["cluster"]["server"] = server
        kubeconfig.write_text(yaml.safe_dump(content), encoding="utf-8")
        token_file = directory / "azure-identity-token"
        token_file.touch(mode=0o600)
        token = cluster.service_account_token(NAMESPACE, SERVICE_ACCOUNT, "api://AzureADTokenExchange", 7200)
        token_file.write_text(token, encoding="ascii")
        self.log = directory / "operator.log"
        self._environment = {
            "PATH": os.environ["PATH"],
            **{name: azure[name] for name in ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")},
            **settings_of_deployment(cluster),
            "KUBECONFIG": str(kubeconfig),
            "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
            "CMK_OPERATOR_LISTEN_ADDRESS": "127.0.0.1",
        }
        self.module = "cmk_operator"
        """What is run: the product, or a composition of the tests around it."""
        self.extra: dict[str, str] = {}
        """More environment variables, for such a composition."""
        self._settings: dict[str, str] = {}
        self._running: OperatorProcess | None = None

    @property
    def process(self) -> OperatorProcess:
        assert self._running is not None, "the operator has not been started"
        return self._running

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.process.poll() is None

    def launch(self, **settings: object) -> None:
        """Start the process and do not wait for anything."""
        assert not self.alive, "two operators at once would spoil every count"
        self._settings = {f"CMK_OPERATOR_{name.upper()}": str(value) for name, value in settings.items()}
        (port,) = free_ports(1)
        environment = {**self._environment, **self.extra, **self._settings, "CMK_OPERATOR_LISTEN_PORT": str(port)}
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", self.module], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._running = OperatorProcess(process, self.log, f"http://127.0.0.1:{port}")

    async def start(self, **settings: object) -> None:
        """Start the process and wait until it is ready."""
        self.launch(**settings)
        await self.until_ready()

    async def until_ready(self) -> None:
        await until(f"a ready operator; its log ends: {self.tail()}", lambda: self.ready or not self.alive)
        assert self.alive, f"the operator ended: {self.tail()}"

    async def with_settings(self, **settings: object) -> None:
        """Leave an operator that runs with just these settings alone, else start one."""
        wanted = {f"CMK_OPERATOR_{name.upper()}": str(value) for name, value in settings.items()}
        if self.alive and wanted == self._settings:
            return
        self.stop()
        await self.start(**settings)

    @property
    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.process.url}/readyz", timeout=2) as answer:  # noqa: S310 - our own loopback endpoint
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    @property
    def readiness(self) -> str:
        """What /readyz says."""
        try:
            with urllib.request.urlopen(f"{self.process.url}/readyz", timeout=2) as answer:  # noqa: S310 - our own loopback endpoint
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def stop(self) -> int:
        """SIGTERM, and the exit status; 0 if it has not been started."""
        return self._running.stop() if self._running is not None else 0

    async def scrape(self) -> Scrape:
        """What the process exposes now."""
        return Scrape(time.time(), await asyncio.to_thread(self.process.metrics))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.process.metrics())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def written(self) -> int:
        """Size of the log, to read from there later."""
        return self.log.stat().st_size if self.log.exists() else 0

    def lines(self, since: int = 0, containing: str = "") -> list[str]:
        """Log lines after a position that contain a text (a regular expression)."""
        text = self.log.read_bytes()[since:].decode(errors="replace") if self.log.exists() else ""
        return [line for line in text.splitlines() if re.search(containing, line)]

    def tail(self) -> str:
        return "\n".join(self.lines()[-8:])
