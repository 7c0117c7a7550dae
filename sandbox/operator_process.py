"""Runs the operator as a cluster would: from the chart's Deployment, as the chart's ServiceAccount, with only its RBAC."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sandbox.kubernetes import binaries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.kubernetes.cluster import Cluster

CHART = Path(__file__).parent.parent / "charts" / "cmk-operator"
NAMESPACE = "cmk-operator-system"
SERVICE_ACCOUNT = "cmk-operator"
RELEASE = "cmk-operator"
START_SECONDS = 60.0
STOP_SECONDS = 40.0
TOKEN_HOURS = 8


class OperatorDidNotStartError(Exception):
    """The operator ended, or was not ready in time; the end of its log is in the message."""


@dataclass
class PodProcess:
    """A process that runs here in place of a pod, and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def stop(self) -> int:
        """SIGTERM, as the kubelet does; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def kill(self) -> None:
        """SIGKILL, as a node that dies."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@dataclass
class OperatorProcess(PodProcess):
    """A running operator, and the base URL of its health and metrics endpoints."""

    url: str

    def metrics(self) -> str:
        """The metrics in Prometheus' text format."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:  # noqa: S310 - our own loopback endpoint
            return str(answer.read().decode())


def install_chart(cluster: Cluster, *values: str, release: str = RELEASE, namespace: str = NAMESPACE) -> None:
    """`helm upgrade --install` of the chart with `--set` values; nothing runs the pod, so its readiness is not awaited."""
    settings = [argument for value in values for argument in ("--set", value)]
    command = [
        str(binaries.helm()),
        "upgrade",
        "--install",
        release,
        str(CHART),
        "--namespace",
        namespace,
        "--create-namespace",
        *settings,
    ]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise OperatorDidNotStartError(f"helm could not install the chart: {result.stderr.strip()}")


def settings_of_deployment(cluster: Cluster, namespace: str = NAMESPACE, container: str = "operator") -> dict[str, str]:
    """The literal environment variables of the installed Deployment that has this container."""
    containers = _pod_of(cluster, namespace, container)["containers"]
    return {entry["name"]: entry["value"] for entry in containers[0].get("env", []) if "value" in entry}


def audience_of_deployment(cluster: Cluster, namespace: str = NAMESPACE, container: str = "operator") -> str:
    """The audience of the token that the installed Deployment projects for Entra."""
    volumes = _pod_of(cluster, namespace, container)["volumes"]
    sources = [source for volume in volumes for source in volume.get("projected", {}).get("sources", [])]
    return next(str(one["serviceAccountToken"]["audience"]) for one in sources if "serviceAccountToken" in one)


def _pod_of(cluster: Cluster, namespace: str, container: str) -> dict[str, Any]:
    text = cluster.kubectl("get", "deployment", "--namespace", namespace, "--output", "json")
    pods: list[dict[str, Any]] = [item["spec"]["template"]["spec"] for item in json.loads(text)["items"]]
    for pod in pods:
        if pod["containers"][0]["name"] == container:
            return pod
    raise OperatorDidNotStartError(
        f"namespace {namespace} has no Deployment of it: install the chart first "
        f"(helm install {RELEASE} charts/cmk-operator --namespace {namespace} --create-namespace)"
    )


def as_service_account(
    cluster: Cluster, azure: Mapping[str, str], directory: Path, service_account: str, audience: str, namespace: str = NAMESPACE
) -> dict[str, str]:
    """The variables with which a process is a ServiceAccount: its kubeconfig, its token for Entra, and the simulated Azure."""
    kubeconfig = cluster.service_account_kubeconfig(namespace, service_account, directory / "kubeconfig", TOKEN_HOURS)
    token_file = directory / "azure-identity-token"
    token_file.touch(mode=0o600)
    token = cluster.service_account_token(namespace, service_account, audience, TOKEN_HOURS * 3600)
    token_file.write_text(token, encoding="ascii")
    return {
        "PATH": os.environ["PATH"],
        **{name: azure[name] for name in ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if name in azure},
        "KUBECONFIG": str(kubeconfig),
        "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
    }


def start_operator(
    cluster: Cluster,
    azure: Mapping[str, str],
    directory: Path,
    settings: Mapping[str, str] | None = None,
    *,
    server: str | None = None,
    namespace: str = NAMESPACE,
) -> OperatorProcess:
    """Start `python -m cmk_operator` with the Deployment's settings (and `settings` over them), and wait until it is ready.

    The process gets the variables of the simulated Azure and nothing else of ours: a kubeconfig of the chart's ServiceAccount,
    and its token for Entra in a file, as the projected volume would hold it. `server` replaces the API server's URL, for a
    proxy in between; `namespace` is that of the release. Raises `OperatorDidNotStartError`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    own = as_service_account(cluster, azure, directory, SERVICE_ACCOUNT, audience_of_deployment(cluster, namespace), namespace)
    if server is not None:
        _redirect(Path(own["KUBECONFIG"]), server)
    port = free_port()
    environment = {
        **settings_of_deployment(cluster, namespace),
        **(settings or {}),
        **own,
        "CMK_OPERATOR_LISTEN_ADDRESS": "127.0.0.1",
        "CMK_OPERATOR_LISTEN_PORT": str(port),
    }
    log = directory / "operator.log"
    process = started(["cmk_operator"], environment, log)
    operator = OperatorProcess(process, log, f"http://127.0.0.1:{port}")
    await_ready(process, log, operator.url, "the operator")
    return operator


def _redirect(kubeconfig: Path, server: str) -> None:
    content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    for entry in content["clusters"]:
        entry["cluster"]["server"] = server
    kubeconfig.write_text(yaml.safe_dump(content), encoding="utf-8")


def started(module: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A new process of one of our programs, with this environment alone, whose output is appended to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *module], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


def await_ready(process: subprocess.Popen[bytes], log: Path, url: str, what: str, path: str = "/readyz") -> None:
    """Wait until `url` says yes at `path`; if it does not in time, the process is killed. Raises `OperatorDidNotStartError`."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise OperatorDidNotStartError(f"{what} ended with status {process.returncode}: {_end_of(log)}")
        try:
            with urllib.request.urlopen(f"{url}{path}", timeout=2):  # noqa: S310 - our own loopback endpoint
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    process.kill()
    process.wait()
    raise OperatorDidNotStartError(f"{what} was not ready within {START_SECONDS:.0f} s: {_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


def free_port() -> int:
    """A port on loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
