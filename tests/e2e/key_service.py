"""A replica of the key service in this process, on the end-to-end API server, the simulated Azure and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmk_keyservice.crypto.ciphertext import parse
from cmk_keyservice.crypto.context import data_context
from cmk_keyservice.crypto.key_ring import KeyRing, RingName, new_key_ring
from cmk_keyservice.crypto.suites import open_, seal
from cmk_keyservice.keys.limits import Limits
from cmk_keyservice.problem import Problem, ProblemError
from cmk_keyservice.replica import Cluster as ClusterCalls
from cmk_keyservice.replica import Replica
from cmk_keyservice.store.schema import migrate
from cmk_keyservice.store.store import Store
from cmk_operator.azure.call_budget import BudgetRates
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.core.kinds.call_rates import Rate
from cmk_operator.kubernetes.client import KubernetesClient
from cmk_operator.kubernetes.connection import Connection
from cmk_operator.kubernetes.credential import Credential
from cmk_operator.telemetry import Telemetry
from sandbox.operator_process import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster
    from sandbox.postgresql import Postgresql

SERVICE_ACCOUNT = "cmk-keyservice"
SUBJECT = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
TOKEN_AUDIENCE = "api://AzureADTokenExchange"  # noqa: S105 - an audience, not a secret
CONFIRM = 0.2
"""Seconds until a refusal is confirmed by a second look."""
_MANY = Rate(100_000, 1)


@dataclass
class KeyService:
    """What a service of the platform does with its rows, without HTTP between."""

    replica: Replica

    async def write(self, organization: str, text: str) -> bytes:
        """Encrypt a row."""
        data_key = await self.replica.data_keys.current(organization, "shop/api", "rows")
        return seal(data_key.primitive, text.encode(), self._context(organization))

    async def read(self, organization: str, row: bytes) -> str | Problem:
        """Decrypt a row, or the problem with which a service is answered."""
        ciphertext = parse(row)
        try:
            data_key = await self.replica.data_keys.by_id(organization, ciphertext.data_key_id)
        except ProblemError as error:
            return error.problem
        return open_(data_key.primitive, ciphertext, self._context(organization)).decode()

    @staticmethod
    def _context(organization: str) -> bytes:
        return data_context(organization, "shop/api", "rows", {})


@asynccontextmanager
async def running(cluster: Cluster, postgres: Postgresql, directory: Path, token: str) -> AsyncIterator[KeyService]:
    """A replica with a database of its own. The environment must have the variables of the simulated Azure."""
    url = postgres.create("scenarios")
    await asyncio.to_thread(migrate, url)
    token_file = directory / "token"
    token_file.write_text(cluster.service_account_token(NAMESPACE, SERVICE_ACCOUNT, TOKEN_AUDIENCE), encoding="ascii")
    rings = tuple(KeyRing.parse(name, new_key_ring()) for name in (RingName.INTERNAL, RingName.PLATFORM))
    connection = Connection(cluster.server, ssl.create_default_context(cafile=str(cluster.ca_file)), Credential.bearer(token))
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.callback(postgres.drop, "scenarios")
        store = await Store.open(url)
        stack.push_async_callback(store.close)
        session = await stack.enter_async_context(
            AzureSession(Telemetry(), TokenFile(token_file), BudgetRates(_MANY, _MANY, _MANY, _MANY))
        )
        client = KubernetesClient(await stack.enter_async_context(connection.open()), Telemetry())
        replica = Replica(
            store,
            session,
            _MANY,
            (rings[0], rings[1]),
            cluster=ClusterCalls.of(client),
            limits=Limits(confirm=CONFIRM, report_every=1.0, tick=0.1),
        )
        work = asyncio.create_task(replica.run(stop, replica.watch(client, connection)))
        try:
            yield KeyService(replica)
        finally:
            stop.set()
            await work
