"""The record on a real API server, behind a proxy that injects faults; each test has a namespace of its own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.audit.journal import Journal
from cmk_operator.audit.store import AuditStore
from cmk_operator.core.audit.chain import parse_entry
from cmk_operator.core.audit.layout import head_of, kept_of, lines_of
from cmk_operator.core.audit.verification import Verdict, verify
from cmk_operator.kubernetes.client import KubernetesClient
from cmk_operator.kubernetes.connection import Connection
from cmk_operator.kubernetes.credential import Credential
from cmk_operator.telemetry import Telemetry
from sandbox.kubernetes.fault_proxy import FaultProxy
from sandbox.kubernetes.objects import administrator_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from kubernetes.aio.client.api_client import ApiClient

    from cmk_operator.core.audit.chain import Entry
    from sandbox.kubernetes.cluster import Cluster

LARGE = 32_768
TINY = 2_048
"""A segment holds two or three of the tests' entries."""
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def proxy(empty_cluster: Cluster) -> Iterator[FaultProxy]:
    with FaultProxy(empty_cluster.server, empty_cluster.ca_file) as running:
        yield running


@pytest.fixture(scope="session")
def token(empty_cluster: Cluster) -> str:
    return administrator_token(empty_cluster)


@dataclass
class Archive:
    """One namespace with a record, and any number of operators that write it."""

    http: ApiClient
    proxy: FaultProxy
    namespace: str
    journals: list[Journal] = field(default_factory=list)

    @property
    def client(self) -> KubernetesClient:
        return KubernetesClient(self.http, Telemetry())

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps"

    def store(self, segment_bytes: int = LARGE) -> AuditStore:
        return AuditStore(self.client, self.namespace, segment_bytes)

    def journal(self, segment_bytes: int = LARGE, **options: Any) -> Journal:
        """The journal of another operator process."""
        journal = Journal(self.store(segment_bytes), lambda: datetime.now(UTC), Telemetry(), **options)
        self.journals.append(journal)
        return journal

    async def config_maps(self) -> list[dict[str, Any]]:
        found = (await self.client.request("GET", self.path))["items"]
        return [one for one in found if one["metadata"]["name"].startswith("cmk-operator-audit")]

    async def segments(self) -> list[dict[str, Any]]:
        return await self._named("cmk-operator-audit-", but_for="cmk-operator-audit-kept-")

    async def kept(self) -> list[dict[str, Any]]:
        return await self._named("cmk-operator-audit-kept-")

    async def _named(self, prefix: str, but_for: str = "/") -> list[dict[str, Any]]:
        names = ((one, str(one["metadata"]["name"])) for one in await self.config_maps())
        return [one for one, name in names if name.startswith(prefix) and not name.startswith(but_for)]

    async def entries(self) -> list[Entry]:
        found = [parse_entry(line.text) for line in lines_of(await self.config_maps())]
        return [entry for entry in found if entry is not None]

    async def verdict(self) -> Verdict:
        """What `kubectl cmk audit verify` says."""
        found = await self.config_maps()
        head = head_of(found)
        assert head is not None
        return verify(lines_of(found), head, kept=kept_of(found))

    async def patch(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """As `kubectl patch`, past everybody else."""
        return await self.client.request("PATCH", f"{self.path}/{name}", body=body, content_type="application/merge-patch+json")

    def writes(self, since: int) -> list[str]:
        """The verbs of the requests that wrote ConfigMaps here."""
        found = self.proxy.requests("create|update|patch|delete", f"{self.path}", since)
        return [request.verb for request in found]


@pytest.fixture
async def archive(proxy: FaultProxy, token: str) -> AsyncIterator[Archive]:
    async with Connection(proxy.url, credential=Credential.bearer(token)).open() as http:
        archive = Archive(http, proxy, f"audit-{next(_NUMBERS)}")
        await archive.client.request("POST", "/api/v1/namespaces", body={"metadata": {"name": archive.namespace}})
        yield archive
        proxy.clear()
        for journal in archive.journals:
            await journal.close(0.0)
