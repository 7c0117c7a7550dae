"""The key service as it runs: its program with TLS, its own ServiceAccount and the chart's rights, on a real API server."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import trustme

from cmk_keyservice.crypto.key_ring import new_key_ring
from sandbox.kubernetes.processes import free_ports
from tests.chart.conftest import NAMESPACE, rendered
from tests.chart.test_keyservice import KEY_SERVICE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

AUDIENCE = "cmk-key-service"
TEAM = "team-acme"
OTHER_TEAM = "team-globex"
START_SECONDS = 60.0
EVERY_VERB = (
    *("encrypt", "decrypt", "reencrypt", "index", "generatedatakey", "unwrapdatakey", "wrap", "unwrap", "rewrap"),
    "share",
)
ACCEPTED = {
    "revision": 1,
    "mode": "PlatformManaged",
    "kid": "platform-key",
    "since": "2026-11-30T00:00:00Z",
    "probeIntervalSeconds": 60,
    "outageGraceSeconds": 600,
}
RIGHTS: dict[str, tuple[str, ...]] = {
    "orders": tuple(verb for verb in EVERY_VERB if verb != "share"),
    "reader": ("decrypt",),
    "sharer": EVERY_VERB,
    "stranger": (),
}
"""Callers of team-acme, with their verbs on the organization acme."""


def encoded(data: bytes) -> str:
    """Base64, as bodies have it."""
    return base64.b64encode(data).decode()


def decoded(text: str) -> bytes:
    """The bytes of a field of an answer."""
    return base64.b64decode(text, validate=True)


def organization(name: str, namespace: str) -> dict[str, Any]:
    """An OrganizationKey whose data keys the platform's own key wraps."""
    spec = {"organization": {"id": name, "name": f"{name.title()} Corp"}}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": "OrganizationKey", "metadata": metadata, "spec": spec}


def accept(cluster: Cluster, name: str, namespace: str, encrypt: str | None = None) -> None:
    """Write what the operator writes when it accepts an organization without a key of its own."""
    patch = json.dumps({"status": {"accepted": {**ACCEPTED, "encrypt": encrypt}}})
    target = ("organizationkey", name, "--namespace", namespace)
    cluster.kubectl("patch", *target, "--subresource=status", "--type=merge", "--patch", patch)


def prepare(cluster: Cluster) -> None:
    """Make the key service's account with the chart's rights, two organizations, and callers."""
    kinds = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding"}
    chart = [
        item
        for item in rendered("--set", KEY_SERVICE)
        if item["kind"] in kinds and item["metadata"]["labels"]["app.kubernetes.io/name"] == "cmk-keyservice"
    ]
    places = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (NAMESPACE, TEAM, OTHER_TEAM)]
    callers = [thing for name, verbs in RIGHTS.items() for thing in _caller(name, verbs)]
    organizations = [organization("acme", TEAM), organization("globex", OTHER_TEAM)]
    items = [*places, *chart, *callers, *organizations]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=text)
    accept(cluster, "acme", TEAM)
    accept(cluster, "globex", OTHER_TEAM)


def _caller(name: str, verbs: tuple[str, ...]) -> list[dict[str, Any]]:
    metadata = {"name": name, "namespace": TEAM}
    account: dict[str, Any] = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    if not verbs:
        return [account]
    authorization = "rbac.authorization.k8s.io"
    rule = {
        "apiGroups": ["cmk-operator.dev"],
        "resources": ["organizationkeys/data"],
        "resourceNames": ["acme"],
        "verbs": list(verbs),
    }
    role = {"apiVersion": f"{authorization}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    binding = {
        "apiVersion": f"{authorization}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": authorization, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": TEAM}],
    }
    return [account, role, binding]


@dataclass
class ServedProcess:
    """A running key service with everything around it."""

    cluster: Cluster
    directory: Path
    database_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    metrics_port: int = 0
    authority: trustme.CA = field(default_factory=trustme.CA)
    process: subprocess.Popen[bytes] | None = None
    _tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where callers reach it."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Its log."""
        return self.directory / "keyservice.log"

    def start(self) -> None:
        """Start the program, and wait until it takes callers."""
        self.port, self.metrics_port = free_ports(2)
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in ("internal", "platform"):
            file = self.directory / f"{name}.json"
            if not file.exists():
                file.write_bytes(new_key_ring())
        self.show_certificate()
        kubeconfig = self.cluster.service_account_kubeconfig(NAMESPACE, "cmk-keyservice", self.directory / "kubeconfig")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "KUBECONFIG": str(kubeconfig),
            "CMK_KEYSERVICE_DATABASE_URL": self.database_url,
            "CMK_KEYSERVICE_INTERNAL_KEYRING_FILE": str(self.directory / "internal.json"),
            "CMK_KEYSERVICE_PLATFORM_KEYRING_FILE": str(self.directory / "platform.json"),
            "CMK_KEYSERVICE_TLS_CERTIFICATE_FILE": str(self.directory / "tls.crt"),
            "CMK_KEYSERVICE_TLS_KEY_FILE": str(self.directory / "tls.key"),
            "CMK_KEYSERVICE_LISTEN_ADDRESS": "127.0.0.1",
            "CMK_KEYSERVICE_PORT": str(self.port),
            "CMK_KEYSERVICE_METRICS_PORT": str(self.metrics_port),
            "CMK_KEYSERVICE_DRAIN_SECONDS": "0",
            **self.settings,
        }
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "cmk_keyservice", "serve"]
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + START_SECONDS
        while self.monitoring("/readyz/traffic")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"the key service did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def show_certificate(self, ends: datetime | None = None) -> None:
        """Write a new certificate for the listener, which ends then or, if not given, much later."""
        made = self.authority.issue_cert("127.0.0.1", "localhost", not_after=ends)
        made.private_key_pem.write_to_path(self.directory / "tls.key")
        (self.directory / "tls.crt").write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def monitoring(self, path: str) -> tuple[int, str]:
        """Status and text of the port for the kubelet and Prometheus; 0 if nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def token(self, caller: str, audience: str = AUDIENCE) -> str:
        """A token of a caller of team-acme."""
        if (caller, audience) not in self._tokens:
            self._tokens[caller, audience] = self.cluster.service_account_token(TEAM, caller, audience)
        return self._tokens[caller, audience]

    @contextlib.asynccontextmanager
    async def caller(self, name: str = "orders") -> AsyncIterator[Caller]:
        """A session as a caller."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        headers = {"Authorization": f"Bearer {self.token(name)}"}
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(self.url, connector=connector, headers=headers) as session:
            yield Caller(session)


@dataclass
class Caller:
    """What a caller does."""

    session: aiohttp.ClientSession

    async def post(self, path: str, body: Any, organization: str = "acme") -> tuple[int, Any]:
        """Status and parsed body of a POST."""
        async with self.session.post(f"/v1/organizations/{organization}/{path}", json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def done(self, path: str, **body: Any) -> Any:
        """The answer of a POST that must succeed."""
        status, answer = await self.post(path, body)
        assert status == 200, answer
        return answer

    async def until_answered(self, path: str, body: Any, status: int) -> None:
        """Send the same until that is the answer: the service has seen a change of the object."""
        deadline = time.monotonic() + START_SECONDS
        while (await self.post(path, body))[0] != status:
            assert time.monotonic() < deadline, f"never {status}"
