"""What the key service costs: processor time of its process, calls to vaults, time of its database, and memory."""

from __future__ import annotations

import asyncio
import base64
import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
import psycopg

from bench.caller import Plan, Seen
from bench.floor import processor_seconds
from bench.measurements import Row
from bench.organizations import (
    ALGORITHM,
    NAMESPACE,
    PLATFORM,
    PURPOSE,
    SERVICE,
    Organizations,
    insert_rows,
    platform_rows,
    rows,
)
from cmk_keyservice.audit.journal import Journal
from cmk_keyservice.crypto.ciphertext import XAES_256_GCM
from cmk_keyservice.crypto.context import data_context
from cmk_keyservice.crypto.key_ring import KeyRing, RingName
from cmk_keyservice.crypto.suites import DataKeyPrimitive, new_material, seal
from cmk_keyservice.keys.wrapping import Wrapping
from cmk_keyservice.rewrap.rewrap import Rewrap
from cmk_keyservice.store.rows import Fence
from cmk_keyservice.store.schema import migrate
from cmk_keyservice.store.store import Store
from cmk_keyservice.upkeep import RESTORED
from cmk_keyservice.vaults.accepted import read_organization
from cmk_keyservice.vaults.answers import Unwrapped, Wrapped
from cmk_keyservice.vaults.vaults import Vaults
from cmk_operator.azure.key_gate import Purpose
from sandbox import postgresql
from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, SandboxControl
from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS
from sandbox.keyservice_process import CHART_VALUES, SERVICE_ACCOUNT, KeyServiceProcess, start_key_service
from sandbox.kubernetes.objects import Objects
from sandbox.operator_process import NAMESPACE as RELEASE
from sandbox.operator_process import install_chart

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from cmk_keyservice.store.rows import NewDataKey
    from cmk_keyservice.vaults.accepted import Accepted, Organization
    from sandbox.environment import Sandbox
    from sandbox.postgresql import Postgresql

ORGANIZATIONS = 120
RUN_SECONDS = 4.0
WARM_SECONDS = 1.0
REST_SECONDS = 60.0
PLAINTEXT = 1024
CONTEXT = {"table": "orders", "id": "1"}
BATCH = 100
HERD_KEYS, HERD_CALLERS, HERD_ITEMS = 1_000, 200, 250
HELD_KEYS, FIRST_HELD = 10_000, 2_000
"""Data keys in memory, and how many of them come before the memory is looked at first: pools and caches have grown then."""
MOST, MOST_IN_BATCH = 125, 10
"""Microseconds of the service's processor time for an item that comes alone, and for one of a batch."""
REWRAPPED = 10_000
OLD_KID, NEW_KID = (f"https://bench.vault.azure.net/keys/key/{digit * 32}" for digit in "01")
SETTINGS = {"CMK_KEYSERVICE_CACHED_DATA_KEYS": "50000", "CMK_KEYSERVICE_VAULT_CALLS": "1000000"}


class Instantly(Vaults):
    """A vault that answers at once, so that a re-wrap shows the time of the database alone."""

    def __init__(self) -> None:
        """It needs nothing."""

    async def wrap(
        self, organization: Organization, accepted: Accepted, plaintext: bytes, *, purpose: str, background: bool = False
    ) -> Wrapped:
        """As long as RSA-2048 makes it."""
        del organization, purpose, background
        return Wrapped(accepted.kid, accepted.algorithm, plaintext + bytes(256 - len(plaintext)))

    async def unwrap(
        self,
        organization: Organization,
        kid: str,
        algorithm: str,
        ciphertext: bytes,
        *,
        purpose: str,
        background: bool = False,
    ) -> Unwrapped:
        """The 64 bytes again."""
        del organization, kid, algorithm, purpose, background
        return Unwrapped(ciphertext[:64])


@dataclass
class KeyServiceBench:
    """One run: two replicas on one database, one with TLS and one without."""

    organizations: Organizations
    control: SandboxControl
    server: Postgresql
    database_url: str
    rings: tuple[KeyRing, KeyRing]
    encrypted: KeyServiceProcess
    plain: KeyServiceProcess
    token: str
    console: Console

    async def measure(self) -> list[Row]:
        """All figures."""
        # First, while the memory of the process holds nothing that was used before and can be used again.
        self.console.print("memory …")
        found = [*_primitive(), await self._memory()]
        items = [
            {"plaintext": _text(bytes(PLAINTEXT)), "purpose": PURPOSE, "context": {**CONTEXT, "id": str(number)}}
            for number in range(BATCH)
        ]
        single, batch = [json.dumps(one) for one in items], [json.dumps({"items": items})]
        for name, process in (("TLS", self.encrypted), ("no TLS", self.plain)):
            self.console.print(f"encrypt, {name} …")
            for connections in (1, 16):
                row = await self._cost(f"encrypt, {name}", process, single, connections, 1)
                found.append(row)
            found.append(await self._cost(f"batch of {BATCH}, {name}", process, batch, 16, BATCH))
        self.console.print("a herd …")
        found.append(await self._herd(self.organizations.names[1]))
        self.console.print(f"rest, {REST_SECONDS:.0f} s; re-wrap …")
        return found + await self._rest_and_rewrap()

    async def _cost(self, what: str, process: KeyServiceProcess, bodies: list[str], connections: int, items: int) -> Row:
        organization = self.organizations.names[0]
        await self._call(process, organization, "encrypt", bodies, connections, WARM_SECONDS)
        before = processor_seconds(process.process.pid)
        seen = await self._call(process, organization, "encrypt", bodies, connections, RUN_SECONDS)
        each = (processor_seconds(process.process.pid) - before) / seen.requests / items * 1e6
        rate = f"{seen.requests * items / seen.seconds:.0f} a second; p50 {seen.p50:.2f} ms, p99 {seen.p99:.2f} ms"
        goal = "" if connections == 1 else f"goal: at most {MOST if items == 1 else MOST_IN_BATCH}; "
        return Row(f"{what}, {connections} connections: processor time of an item", f"{each:.1f} µs", goal + rate)

    async def _memory(self) -> Row:
        made, ciphertexts = await asyncio.to_thread(platform_rows, HELD_KEYS, *self.rings)
        await self._insert(made)
        bodies, first = _decrypting(ciphertexts), FIRST_HELD // HERD_ITEMS
        pid = self.encrypted.process.pid
        await self._each_once(bodies[:first])
        before = _resident(pid)
        await self._each_once(bodies[first:])
        each = (_resident(pid) - before) / (HELD_KEYS - FIRST_HELD)
        return Row("memory of a cached data key", f"{each / 1000:.2f} kB", f"goal: at most 1.5; {HELD_KEYS} of them held")

    async def _each_once(self, bodies: list[str]) -> None:
        for body in bodies:
            await self._call(self.encrypted, PLATFORM, "decrypt", [body], 1, 0.0)

    async def _herd(self, organization: str) -> Row:
        made, ciphertexts = await asyncio.to_thread(
            rows,
            organization,
            HERD_KEYS,
            self.organizations.kid,
            ALGORITHM,
            self.rings[0],
            self.organizations.wrapped,
        )
        await self._insert(made)
        bodies = _decrypting(ciphertexts)
        await self._call(self.encrypted, organization, "decrypt", bodies, len(bodies), 0.0)
        before = await self._unwraps()
        began = time.monotonic()
        calling = asyncio.ensure_future(self._call(self.encrypted, organization, "decrypt", bodies, HERD_CALLERS, 4.0))
        await asyncio.sleep(2.0)
        store = await Store.open(self.database_url)
        await store.notify(RESTORED, organization)
        await store.close()
        seen = await calling
        calls = await self._unwraps() - before
        remark = f"goal: {HERD_KEYS}; {seen.requests} batches of {HERD_ITEMS} in {time.monotonic() - began:.1f} s"
        return Row(f"{HERD_KEYS} data keys expire at once under {HERD_CALLERS} callers: unwraps", f"{calls}", remark)

    async def _rest_and_rewrap(self) -> list[Row]:
        pids = [process.process.pid for process in (self.encrypted, self.plain)]
        await self.control.clear_requests()
        used, began = sum(map(processor_seconds, pids)), time.monotonic()
        rewrapped = await self._rewrap()
        await asyncio.sleep(REST_SECONDS - (time.monotonic() - began))
        seconds = time.monotonic() - began
        calls = sum(int(one["count"]) for one in await self.control.counts() if one["service"] == "vault")
        used = sum(map(processor_seconds, pids)) - used
        number = len(self.organizations.names)
        return [
            rewrapped,
            Row(
                "at rest: vault calls a second",
                f"{calls / seconds:.2f}",
                f"goal: at most {number / 60:.2f}; {number} organizations, two replicas, {seconds:.0f} s",
            ),
            Row("at rest: processor time of both replicas", f"{used / seconds * 100:.1f} %", "of one core"),
        ]

    async def _rewrap(self) -> Row:
        url = await asyncio.to_thread(self.server.create, "rewrap")
        await asyncio.to_thread(migrate, url)
        store = await Store.open(url)
        fence = Fence("uid", 2)
        organization = _moved()
        made, _ = await asyncio.to_thread(
            rows, organization.id, REWRAPPED, OLD_KID, ALGORITHM, self.rings[0], lambda payload: payload + bytes(192)
        )
        await insert_rows(store, made, fence)
        await store.close()
        before = await asyncio.to_thread(self._database_seconds)
        store = await Store.open(url)
        began, used = time.monotonic(), time.process_time()
        state = await Rewrap(store, Journal(store), Wrapping(self.rings[0], Instantly())).run_pass(organization)
        seconds, used = time.monotonic() - began, time.process_time() - used
        await store.close()
        if state.pending:
            raise AssertionError(f"the re-wrap did not end: {state}")
        spent = await asyncio.to_thread(self._database_seconds) - before
        remark = f"goal: at most 1; recorded and all; {seconds:.1f} s in all, {used:.1f} s of them processor time of Python"
        return Row(f"{REWRAPPED:,} EDEKs re-wrapped: database time".replace(",", " "), f"{spent:.2f} s", remark)

    def _database_seconds(self) -> float:
        """Time in statements so far; a backend has told all of it when it has ended."""
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            while True:
                left = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = 'rewrap'").fetchone()
                if left == (0,):
                    break
                time.sleep(0.05)
            found = connection.execute("SELECT active_time FROM pg_stat_database WHERE datname = 'rewrap'").fetchone()
        return float(found[0]) / 1000 if found is not None else 0.0

    async def _unwraps(self) -> int:
        """Unwraps of data keys so far. The key service says in its User-Agent what a key is used for."""
        await asyncio.sleep(0.2)  # a request is logged after its answer
        return sum(Purpose.DATA_KEY in one["user_agent"].split() for one in await self.control.requests())

    async def _call(
        self, process: KeyServiceProcess, organization: str, operation: str, bodies: list[str], connections: int, seconds: float
    ) -> Seen:
        scheme, _, place = process.url.partition("://")
        host, _, port = place.partition(":")
        plan = Plan(
            host=host,
            port=int(port),
            ca_file=str(process.ca_file) if scheme == "https" else None,
            path=f"/v1/organizations/{organization}/{operation}",
            token=self.token,
            bodies=bodies,
            connections=connections,
            seconds=seconds,
        )
        caller = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.caller", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await caller.communicate(msgspec.json.encode(plan))
        if caller.returncode != 0:
            raise AssertionError(f"the caller ended with status {caller.returncode}")
        seen = msgspec.json.decode(output, type=Seen)
        if seen.refused:
            raise AssertionError(f"{seen.refused} of {seen.requests} requests were refused: {seen.refusal}")
        return seen

    async def _insert(self, made: list[NewDataKey]) -> None:
        store = await Store.open(self.database_url)
        await insert_rows(store, made)
        await store.close()


async def measure(sandbox: Sandbox, console: Console) -> list[Row]:
    """Start everything, measure, and end what was started."""
    install_chart(sandbox.cluster, *CHART_VALUES)
    server = postgresql.start(sandbox.directory / "postgresql")
    processes: list[KeyServiceProcess] = []
    try:
        async with (
            ProviderAdministrator(sandbox.env) as provider,
            CustomerAdministrator(sandbox.env) as customer,
            SandboxControl(sandbox.env["SANDBOX_CONTROL"]) as control,
            Objects(sandbox.cluster) as objects,
        ):
            await control.set_timings(**WITHOUT_LIMITS, **WITHOUT_DELAYS)
            subject = f"system:serviceaccount:{RELEASE}:{SERVICE_ACCOUNT}"
            identity = await provider.prepare(issuer=sandbox.cluster.issuer, key_service_account=subject)
            names = [f"organization-{number:03}" for number in range(ORGANIZATIONS)]
            organizations = Organizations(sandbox.cluster, objects, provider, customer, identity, names)
            console.print(f"preparing {ORGANIZATIONS} organizations …")
            await organizations.prepare()
            url, folder = server.create("keyservice"), sandbox.directory / "keyservice"
            for insecure in (False, True):
                started = await asyncio.to_thread(
                    start_key_service, sandbox.cluster, sandbox.env, folder, url, SETTINGS, insecure_http=insecure
                )
                processes.append(started)
            token = await asyncio.to_thread(organizations.token)
            rings = (_ring(RingName.INTERNAL, folder), _ring(RingName.PLATFORM, folder))
            bench = KeyServiceBench(organizations, control, server, url, rings, processes[0], processes[1], token, console)
            return await bench.measure()
    finally:
        for process in processes:
            process.stop()
        server.stop()


def _primitive() -> list[Row]:
    """What encryption alone costs, in this process and run."""
    key = DataKeyPrimitive(uuid4(), XAES_256_GCM, new_material())
    plaintext, bound_to = bytes(PLAINTEXT), data_context("acme", SERVICE, PURPOSE, CONTEXT)
    return [
        Row("Tink's XAES-256-GCM alone, 1 KiB", f"{_microseconds(lambda: key.aead.encrypt(plaintext, bound_to)):.1f} µs"),
        Row("the same as a ciphertext with its context", f"{_microseconds(lambda: _sealed(key, plaintext)):.1f} µs"),
    ]


def _sealed(key: DataKeyPrimitive, plaintext: bytes) -> bytes:
    return seal(key, plaintext, data_context("acme", SERVICE, PURPOSE, CONTEXT))


def _microseconds(work: Callable[[], object], times: int = 50_000) -> float:
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1e6


def _decrypting(ciphertexts: list[bytes]) -> list[str]:
    items = [{"ciphertext": _text(one)} for one in ciphertexts]
    return [json.dumps({"items": items[first : first + HERD_ITEMS]}) for first in range(0, len(items), HERD_ITEMS)]


def _moved() -> Organization:
    """An organization whose rows are under its old key, as its object would say it."""
    access = {
        "method": "Application",
        "cloud": "AzurePublic",
        **dict.fromkeys(("tenantId", "providerTenantId", "applicationClientId", "managedIdentityClientId"), "bench"),
    }
    accepted = {"mode": "CustomerManaged", "algorithm": ALGORITHM, "access": access}
    status = {
        "accepted": {**accepted, "revision": 2, "kid": NEW_KID},
        "earlier": [{**accepted, "revision": 1, "kid": OLD_KID, "until": "2026-11-30T00:00:00Z"}],
    }
    metadata = {"name": "moved", "namespace": NAMESPACE, "uid": "uid"}
    found = read_organization({"metadata": metadata, "spec": {"organization": {"id": "moved"}}, "status": status})
    if found is None or found.accepted is None:
        raise AssertionError("the object is as the operator writes it")
    return found


def _resident(pid: int) -> int:
    """Resident memory of a process, in bytes. Source: proc(5), statm."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def _ring(name: RingName, folder: Path) -> KeyRing:
    return KeyRing.parse(name, (folder / f"{name.value.lower()}.json").read_bytes())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
