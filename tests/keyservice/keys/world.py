"""An organization with a vault, its OrganizationKey as the operator would write it, and replicas of the key service."""

from __future__ import annotations

import asyncio
import base64
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from sqlalchemy import text

from cmk_keyservice.crypto.ciphertext import XAES_256_GCM
from cmk_keyservice.crypto.context import data_key_digest
from cmk_keyservice.crypto.edek import seal_edek
from cmk_keyservice.crypto.suites import new_material
from cmk_keyservice.crypto.wrapped_payload import pack
from cmk_keyservice.keys.clock import seconds
from cmk_keyservice.keys.limits import Limits
from cmk_keyservice.problem import Kind, Problem, ProblemError
from cmk_keyservice.replica import Cluster, Replica
from cmk_keyservice.store.rows import Fence, NewDataKey
from cmk_keyservice.store.store import Store
from cmk_keyservice.vaults.accepted import PLATFORM_KEY, read_organization
from cmk_keyservice.vaults.organizations import UnreadableOrganizationError
from cmk_operator.azure.call_budget import BudgetRates
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.core.kinds.call_rates import Rate
from cmk_operator.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path
    from uuid import UUID

    from cmk_keyservice.crypto.key_ring import KeyRing
    from cmk_keyservice.vaults.accepted import Organization
    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl

NAMESPACE = "shop"
SERVICE = "shop/api"
MANY = Rate(100_000, 1)
PATIENCE = 30.0


@dataclass
class Clock:
    """A clock that a test turns; it runs by itself, too, as the loop's sleeps do."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return seconds() + self.ahead


@dataclass
class World:
    """Everyone around one test: the API server's objects are `status`, which `publish` brings to every replica that listens."""

    name: str
    control: SandboxControl
    provider: ProviderAdministrator
    customer: CustomerAdministrator
    identity: ProviderIdentity
    token_file: Path
    rings: tuple[KeyRing, KeyRing]
    database_url: str
    uid: str = "uid-1"
    namespace: str = NAMESPACE
    versions: list[str] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    secrets: dict[tuple[str, str], bytes] = field(default_factory=dict)
    api_server_answers: bool = True
    resource_version: int = 1
    replicas: list[Replica] = field(default_factory=list)
    deaf: list[Replica] = field(default_factory=list)
    """Replicas to which nothing is brought."""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def vault(self) -> str:
        return f"{self.name}-kv"

    def kid(self, number: int = -1) -> str:
        return f"https://{self.vault}.vault.azure.net/keys/cmk/{self.versions[number]}"

    async def make_key(self) -> None:
        """The vault with a key that the application may wrap and unwrap with, and nothing else."""
        await self.customer.create_vault(self.vault, rbac=False)
        self.versions.append((await self.customer.create_key(self.vault, "cmk")).rsplit("/", 1)[-1])
        await self.customer.set_access_policy(
            self.identity.application_client_id, self.vault, permissions=["wrapKey", "unwrapKey"]
        )

    async def rotate(self) -> None:
        self.versions.append((await self.customer.new_version(self.vault, "cmk")).rsplit("/", 1)[-1])

    async def turn(self, clock: Clock, by: float) -> None:
        """Let `by` seconds pass for a replica and for the database."""
        clock.ahead += by
        store = self.replicas[0].store
        async with store.transaction() as connection:
            back = text(
                "UPDATE proof SET asked_at = asked_at - :by, proven_at = proven_at - :by, refused_at = refused_at - :by"
            )
            await connection.execute(back, {"by": timedelta(seconds=by)})

    async def disable(self, number: int = -1) -> None:
        await self.customer.disable(self.vault, "cmk", self.versions[number])

    async def enable(self, number: int = -1) -> None:
        await self.customer.enable(self.vault, "cmk", self.versions[number])

    async def vault_calls(self, operation: str = "unwrapkey", *, least: int = 0) -> int:
        """Requests to this vault since the log was cleared; `least`: wait for them, because one is logged after its answer."""
        host = f"{self.vault}.vault.azure.net"
        deadline = seconds() + 2.0
        while True:
            seen = await self.control.requests()
            found: int = sum(one["host"] == host and operation in one["path"].lower() for one in seen)
            if found >= least or seconds() > deadline:
                return found
            await asyncio.sleep(0.02)

    async def rows(self, store: Store, number: int) -> list[UUID]:
        """The ids of this many data keys that were wrapped by the vault's public key, as a caller of it may."""
        key = await self.customer.call_vault(self.vault, "GET", f"/keys/cmk/{self.versions[-1]}")
        public = rsa.RSAPublicNumbers(_number(key["key"]["e"]), _number(key["key"]["n"])).public_key()
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        fence, kid = Fence(self.uid, self.status["accepted"]["revision"]), self.kid()
        await store.observe(self.name, fence, self.namespace)
        made: list[UUID] = []
        for purpose in (f"p{one}" for one in range(number)):
            one = uuid4()
            digest = data_key_digest(self.name, one, SERVICE, purpose, 1, XAES_256_GCM)
            edek = seal_edek(self.rings[0], public.encrypt(pack(new_material(), digest), oaep), self.name, one, kid, 1)
            row = NewDataKey(one, self.name, SERVICE, purpose, 1, XAES_256_GCM, kid, "RSA-OAEP-256", edek, digest)
            await store.first_or_existing(row, fence)
            made.append(one)
        return made

    def access(self, **changes: Any) -> dict[str, Any]:
        return {
            "method": "Application",
            "cloud": "AzurePublic",
            "tenantId": self.customer.tenant_id,
            "providerTenantId": self.provider.tenant_id,
            "applicationClientId": self.identity.application_client_id,
            "managedIdentityClientId": self.identity.managed_identity_client_id,
            "operatorCredential": "ManagedIdentity",
            **changes,
        }

    async def accept(self, *, probe: float = 60, grace: float = 600, publish: bool = True, **access: Any) -> None:
        """What the operator does: try the newest version, wrap a canary under it, and write that down."""
        plain = secrets.token_bytes(64)
        answer = await self.customer.call_vault(
            self.vault, "POST", f"/keys/cmk/{self.versions[-1]}/wrapkey", {"alg": "RSA-OAEP-256", "value": _text(plain)}
        )
        self._accept(
            {
                "mode": "CustomerManaged",
                "kid": self.kid(),
                "algorithm": "RSA-OAEP-256",
                "canary": {"wrapped": answer["value"], "digest": sha256(plain).hexdigest()},
                "probeIntervalSeconds": probe,
                "outageGraceSeconds": grace,
                "access": self.access(**access),
            },
            publish=publish,
        )

    def accept_platform(self) -> None:
        self._accept({"mode": "PlatformManaged", "kid": PLATFORM_KEY}, publish=True)

    def _accept(self, accepted: dict[str, Any], *, publish: bool) -> None:
        before = self.status.get("accepted")
        if before is not None:
            self.status["earlier"] = [{**before, "until": "2026-11-30T07:00:00Z"}, *self.status.get("earlier", [])]
        self.status["accepted"] = {**accepted, "revision": before["revision"] + 1 if before is not None else 1}
        if publish:
            self.publish()

    def organization(self) -> Organization:
        metadata = {
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "resourceVersion": str(self.resource_version),
            "creationTimestamp": "2026-11-30T07:00:00Z",
        }
        body = {"metadata": metadata, "spec": {"organization": {"id": self.name}}, "status": self.status}
        found = read_organization(body)
        assert found is not None
        return found

    def publish(self) -> None:
        """Let every replica whose watch is open see the object as it is now."""
        self.resource_version += 1
        for replica in self.replicas:
            if replica not in self.deaf:
                replica.organizations.note(self.organization())

    async def read(self, namespace: str, name: str) -> Organization | None:
        if not self.api_server_answers:
            raise UnreadableOrganizationError("no answer")
        return self.organization() if (namespace, name) == (self.namespace, self.name) else None

    async def read_secret(self, namespace: str, name: str, entry: str) -> bytes | Problem:
        found = self.secrets.get((name, entry)) if namespace == self.namespace else None
        return found or Problem(Kind.UNAVAILABLE, "CredentialUnreadable", f"Secret {name} is gone", "Act.", retryable=True)

    async def apply(self, organization: Organization, report: Mapping[str, Any]) -> None:
        assert organization.uid == self.uid
        self.status["dataKeys"] = dict(report)
        self.publish()

    async def replica(
        self,
        *,
        limits: Limits | None = None,
        rate: Rate = MANY,
        clock: Callable[[], float] = seconds,
        database_url: str | None = None,
        database_timeout: float = 5.0,
    ) -> Replica:
        """A replica with a memory, a session and a pool of its own; nothing runs in the background unless `run` is asked for."""
        store = await Store.open(database_url or self.database_url, timeout=database_timeout)
        self._stack.push_async_callback(store.close)
        rates = BudgetRates(MANY, MANY, rate, MANY)
        session = await self._stack.enter_async_context(AzureSession(Telemetry(), TokenFile(self.token_file), rates))
        cluster = Cluster(self.read, self.read_secret, self.apply)
        made = Replica(store, session, rate, self.rings, cluster=cluster, limits=limits or Limits(confirm=0.05), clock=clock)
        self.replicas.append(made)
        made.organizations.note(self.organization())
        made.organizations.keep({(self.namespace, self.name)}, self.resource_version)
        return made

    async def run(self, replica: Replica) -> None:
        """Let a replica's background work run until the test ends."""
        stop = asyncio.Event()
        task = asyncio.create_task(replica.run(stop))

        async def end() -> None:
            stop.set()
            await task

        self._stack.push_async_callback(end)


async def problem_of(asked: Awaitable[object]) -> Problem:
    """The problem with which a request ends."""
    try:
        await asked
    except ProblemError as error:
        return error.problem
    raise AssertionError("the request succeeded")


async def eventually(what: str, test: Callable[[], Awaitable[object]]) -> None:
    """Wait until something is true."""
    deadline = seconds() + PATIENCE
    while not await test():
        assert seconds() < deadline, f"awaited: {what}"
        await asyncio.sleep(0.02)


async def minted(replica: Replica, organization: str, number: int) -> list[UUID]:
    """The ids of this many data keys, one for each purpose."""
    made = await asyncio.gather(*(replica.data_keys.current(organization, SERVICE, f"p{one}") for one in range(number)))
    return [one.id for one in made]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
