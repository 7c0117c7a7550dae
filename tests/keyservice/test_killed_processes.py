"""Real processes of the key service: killed with SIGKILL at each step of their work, and stopped while everything around them moves on.

A step is held from outside, at the vault or by a lock in PostgreSQL, so that the process is known to be in it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import psycopg
import pytest
import trustme

from cmk_keyservice.audit.journal import Journal
from cmk_keyservice.store.store import Store
from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, SandboxControl
from sandbox.azure import process as azure_process
from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS
from tests.chart.conftest import NAMESPACE
from tests.conftest import ROOT, running_cluster
from tests.keyservice.http.world import ACCEPTED, TEAM, ServedProcess, decoded, encoded, organization, prepare
from tests.keyservice.keys.world import World, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster
    from sandbox.postgresql import Postgresql

pytestmark = pytest.mark.cluster
ACME = "acme"
NUMBERS = itertools.count(1)
ENTRA = "api://AzureADTokenExchange"


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server that no other key service watches: each organization has one database."""
    for running in running_cluster(tmp_path_factory.mktemp("kubernetes")):
        running.kubectl("apply", "--server-side", "--filename", str(ROOT / "crds"))
        running.kubectl("wait", "--for=condition=Established", "--timeout=60s", "--filename", str(ROOT / "crds"))
        prepare(running)
        yield running


@pytest.fixture(scope="module")
def own_azure(own_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    running = azure_process.start(tmp_path_factory.mktemp("azure"), oidc_ca=own_cluster.ca_file)
    yield running.env
    running.stop()


@dataclass
class Replicas:
    """Processes of the key service on one database, and everyone around them; the test plays the operator."""

    cluster: Cluster
    world: World
    directory: Path
    settings: Mapping[str, str]
    authority: trustme.CA = field(default_factory=trustme.CA)
    running: list[ServedProcess] = field(default_factory=list)

    async def start(self) -> ServedProcess:
        # One folder for all: they have the same key rings and certificate.
        made = ServedProcess(self.cluster, self.directory, self.world.database_url, self.settings, authority=self.authority)
        await asyncio.to_thread(made.start)
        self.running.append(made)
        return made

    @staticmethod
    def signal(one: ServedProcess, number: signal.Signals) -> None:
        assert one.process is not None
        one.process.send_signal(number)

    async def kill(self, one: ServedProcess) -> None:
        self.signal(one, signal.SIGKILL)
        assert one.process is not None
        await asyncio.to_thread(one.process.wait)
        self.running.remove(one)

    def end(self) -> None:
        for one in self.running:
            self.signal(one, signal.SIGCONT)
            one.stop()

    def publish(self) -> None:
        """Write the status as the operator does."""
        status = {name: self.world.status[name] for name in ("accepted", "earlier") if name in self.world.status}
        target = ("organizationkey", ACME, "--namespace", TEAM)
        body = json.dumps({"status": status})
        self.cluster.kubectl("patch", *target, "--subresource=status", "--type=merge", "--patch", body)

    async def report(self) -> dict[str, Any]:
        """What the key service says of the organization."""
        words = ("get", "organizationkey", ACME, "--namespace", TEAM, "--output=json")
        found = json.loads(await asyncio.to_thread(self.cluster.kubectl, *words))
        return dict(found["status"].get("dataKeys", {}))

    async def query(self, statement: str) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.world.database_url, autocommit=True) as connection:
            return await (await connection.execute(statement.encode())).fetchall()

    async def kids(self) -> set[str]:
        return {kid for (kid,) in await self.query("SELECT DISTINCT kid FROM data_key")}

    async def waiting(self, number: int) -> None:
        """Wait until this many transactions wait for locks of the test."""
        statement = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN"
        statement += " (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"

        async def enough() -> bool:
            return bool((await self.query(statement))[0][0] >= number)

        await eventually(f"{number} transactions that wait", enough)

    @asynccontextmanager
    async def holding(self, statement: str) -> AsyncIterator[psycopg.AsyncConnection]:
        """A transaction that has executed this, and never commits."""
        async with await psycopg.AsyncConnection.connect(self.world.database_url) as connection:
            await connection.execute(statement.encode())
            yield connection
            await connection.rollback()

    async def hold(self, operation: str, user_agent: str, *, key: str = "", kind: str = "hang", seconds: float = 0) -> str:
        """Have the vault keep one request without an answer."""
        path = f"{key}/{operation}\\b"
        return await self.world.control.inject(
            kind=kind,
            host=f"{self.world.vault}.vault.azure.net",
            path=path,
            user_agent=rf"(^| ){user_agent}( |$)",
            times=1,
            seconds=seconds,
        )

    async def held(self, *faults: str) -> None:
        """Wait until the vault has got these requests."""

        async def all_hit() -> bool:
            hits = {one["id"]: one["hits"] for one in await self.world.control.faults()}
            return all(hits[fault] for fault in faults)

        await eventually("requests that the vault holds", all_hit)


class Acme(World):
    """An organization that has a vault of its own in each test."""

    number = 0

    @property
    def vault(self) -> str:
        return f"{self.name}{self.number}-kv"


@pytest.fixture
async def replicas(
    own_cluster: Cluster, own_azure: Mapping[str, str], postgres: Postgresql, database_url: str, tmp_path: Path
) -> AsyncIterator[Replicas]:
    """An organization whose key is in its own vault; no process runs yet."""
    assert postgres.port
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(SandboxControl(own_azure["SANDBOX_CONTROL"]))
        provider = await stack.enter_async_context(ProviderAdministrator(own_azure))
        customer = await stack.enter_async_context(CustomerAdministrator(own_azure))
        await control.set_timings(**WITHOUT_LIMITS, **WITHOUT_DELAYS)
        subject = f"system:serviceaccount:{NAMESPACE}:cmk-keyservice"
        identity = await provider.prepare(issuer=own_cluster.issuer, key_service_account=subject)
        await customer.consent(identity.application_client_id)
        token_file = tmp_path / "token"
        token_file.write_text(own_cluster.service_account_token(NAMESPACE, "cmk-keyservice", ENTRA))
        world = Acme(ACME, control, provider, customer, identity, token_file, (None, None), database_url, namespace=TEAM)  # type: ignore[arg-type]  # the processes have the key rings
        await stack.enter_async_context(world)
        world.number = next(NUMBERS)
        world.status["accepted"] = {**ACCEPTED}
        settings = {
            **{name: own_azure[name] for name in ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")},
            "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
            "CMK_KEYSERVICE_CONFIRM_SECONDS": "0.5",
        }
        made = Replicas(own_cluster, world, tmp_path, settings)
        # A new object: a report of the last test would tell that the database was restored to a time before it.
        own_cluster.kubectl("delete", "organizationkey", ACME, "--namespace", TEAM)
        own_cluster.kubectl("create", "--filename", "-", stdin=json.dumps(organization(ACME, TEAM)))
        try:
            yield made
        finally:
            made.end()


async def _accept(replicas: Replicas) -> None:
    """The newest version of the key is in force, as the operator says it."""
    await replicas.world.accept(probe=1)
    replicas.world.status["accepted"]["since"] = ACCEPTED["since"]
    replicas.publish()


async def _encrypt(one: ServedProcess, purpose: str) -> tuple[int, Any]:
    async with one.caller() as caller:
        return await caller.post("encrypt", {"plaintext": encoded(purpose.encode()), "purpose": purpose})


async def _encrypted(one: ServedProcess, purpose: str) -> str:
    """The ciphertext, which a caller that retries what is retryable gets in the end; nobody is ever refused."""
    found: list[str] = []

    async def done() -> bool:
        status, answer = await _encrypt(one, purpose)
        assert status == 200 or (answer["retryable"] and answer["class"] != "Denied"), answer
        found.append(answer.get("ciphertext", ""))
        return status == 200

    await eventually(f"a ciphertext of {purpose}", done)
    return found[-1]


async def _read(one: ServedProcess, rows: Mapping[str, str]) -> None:
    """Decrypt everything; what is retryable is retried, and nobody is ever refused."""
    async with one.caller() as caller:
        for purpose, ciphertext in rows.items():

            async def done(purpose: str = purpose, ciphertext: str = ciphertext) -> bool:
                status, answer = await caller.post("decrypt", {"ciphertext": ciphertext})
                assert status == 200 or (answer["retryable"] and answer["class"] != "Denied"), answer
                return status == 200 and decoded(answer["plaintext"]) == purpose.encode()

            await eventually(f"the row {purpose}", done)


async def _begun(replicas: Replicas) -> tuple[ServedProcess, ServedProcess]:
    """Two replicas that serve under a key in the organization's own vault."""
    first = await replicas.start()
    second = await replicas.start()
    await replicas.world.make_key()
    await _accept(replicas)
    for one in (first, second):
        await _encrypted(one, "warm")
    return first, second


async def _record(replicas: Replicas) -> list[dict[str, Any]]:
    """The organization's record, which is whole."""
    store = await Store.open(replicas.world.database_url)
    try:
        journal = Journal(store)
        assert not (await journal.verify(ACME)).findings
        return [json.loads(line) async for line in journal.lines(ACME)]
    finally:
        await store.close()


async def test_a_process_that_is_killed_at_any_step_of_a_first_data_key_leaves_one_or_none(replicas: Replicas) -> None:
    dying, other = await _begun(replicas)
    row = (
        "INSERT INTO data_key SELECT (jsonb_populate_record(one, jsonb_build_object('id', gen_random_uuid(), 'purpose', 'inserted'))).*"
        " FROM data_key one WHERE purpose = 'warm'"
    )
    asked: dict[str, asyncio.Task[tuple[int, Any]]] = {}

    async def stops_at(purpose: str, operation: str, user_agent: str) -> None:
        fault = await replicas.hold(operation, user_agent)
        asked[purpose] = asyncio.create_task(_encrypt(dying, purpose))
        await replicas.held(fault)

    await stops_at("committed", "unwrapkey", "data-key")  # the first use, after the commit
    await stops_at("wrapped", "unwrapkey", "new-data-key")  # the proof that the new wrap can be unwrapped
    await stops_at("made", "wrapkey", "new-data-key")
    async with replicas.holding(row):
        asked["inserted"] = asyncio.create_task(_encrypt(dying, "inserted"))
        await replicas.waiting(1)
        async with replicas.holding("SELECT FROM chain WHERE organization = 'acme' FOR UPDATE"):
            asked["recorded"] = asyncio.create_task(_encrypt(dying, "recorded"))
            await replicas.waiting(2)
            await replicas.kill(dying)
    ended = await asyncio.gather(*asked.values(), return_exceptions=True)
    assert all(isinstance(one, aiohttp.ClientError) for one in ended), ended
    assert {purpose for (purpose,) in await replicas.query("SELECT purpose FROM data_key")} == {"warm", "committed"}
    rows = {purpose: await _encrypted(other, purpose) for purpose in asked}
    again = await replicas.start()
    await _read(again, rows)
    assert {data[5:21] for data in map(decoded, rows.values())} == {
        decoded(await _encrypted(again, purpose))[5:21] for purpose in asked
    }
    counted = await replicas.query("SELECT purpose, count(*) FROM data_key GROUP BY purpose")
    assert dict(counted) == dict.fromkeys(["warm", *asked], 1)
    assert sum(one["event"] == "DataKeyCreated" for one in await _record(replicas)) == 1 + len(asked)


async def test_a_process_that_stood_still_while_it_made_a_data_key_writes_it_under_no_version_that_is_replaced(
    replicas: Replicas,
) -> None:
    stopped, other = await _begun(replicas)
    # It gets the last answer that it needs to write under the old version while it stands still.
    proving = await replicas.hold("unwrapkey", "new-data-key", kind="delay", seconds=1)
    late = asyncio.create_task(_encrypted(stopped, "late"))
    await replicas.held(proving)
    replicas.signal(stopped, signal.SIGSTOP)
    await replicas.world.rotate()
    await _accept(replicas)

    async def observed() -> bool:
        return await replicas.query("SELECT revision FROM organization WHERE id = 'acme'") == [(3,)]

    await eventually("the new settings in the database", observed)
    replicas.signal(stopped, signal.SIGCONT)
    await _read(other, {"late": await late})
    created = [one for one in await _record(replicas) if one["event"] == "DataKeyCreated"]
    assert [one["to"] for one in created] == [replicas.world.kid(0), replicas.world.kid(1)]


async def test_processes_that_are_killed_at_any_step_of_a_re_wrap_or_stopped_meanwhile_lose_and_refuse_nothing(
    replicas: Replicas,
) -> None:
    dying, stopped = await _begun(replicas)
    rows = {purpose: await _encrypted(stopped, purpose) for purpose in ("p1", "p2", "p3", "p4", "p5")}
    old = replicas.world.kid()
    replicas.signal(stopped, signal.SIGSTOP)

    # Three rows at three steps: the unwrap by the old version, the wrap by the new one, the proof of it.
    await replicas.world.rotate()
    new = replicas.world.kid()
    steps = [
        await replicas.hold("unwrapkey", "rewrap", key=old.rpartition("/")[2]),
        await replicas.hold("wrapkey", "rewrap", key=new.rpartition("/")[2]),
        await replicas.hold("unwrapkey", "rewrap", key=new.rpartition("/")[2]),
    ]
    await _accept(replicas)
    await replicas.held(*steps)
    await replicas.kill(dying)
    assert await replicas.kids() == {old}

    # The rows are written, and the record is not.
    async with replicas.holding("LOCK TABLE audit IN SHARE MODE"):
        written = await replicas.start()
        await replicas.waiting(1)
        await replicas.kill(written)
    assert await replicas.kids() == {old}

    # All is committed, and the wraps by the old version are still there.
    async with AsyncExitStack() as stack:
        recording = await stack.enter_async_context(replicas.holding("LOCK TABLE audit IN SHARE MODE"))
        committed = await replicas.start()
        await replicas.waiting(1)
        dropping = asyncio.create_task(stack.enter_async_context(replicas.holding("LOCK TABLE data_key IN SHARE MODE")))
        await replicas.waiting(2)
        await recording.rollback()
        await dropping
        await replicas.waiting(1)
        await replicas.kill(committed)
    assert await replicas.kids() == {new}
    assert {kid for (kid,) in await replicas.query("SELECT DISTINCT previous_kid FROM data_key")} == {old}

    last = await replicas.start()

    async def done() -> bool:
        report = await replicas.report()
        return report.get("revision") == 3 and report["byKid"] == [{"kid": new, "dataKeys": len(rows) + 1}]

    await eventually("a report without the old version", done)
    await replicas.world.disable(0)
    await _read(last, rows)

    replicas.signal(stopped, signal.SIGCONT)
    await _read(stopped, rows)
    for purpose in ("late", "later"):
        rows[purpose] = await _encrypted(stopped, purpose)
    await _read(last, rows)
    assert await replicas.kids() == {new}
    record = await _record(replicas)
    assert not [one for one in record if one["event"] == "KeyRefused"]
    assert sum(one["event"] == "DataKeyRewrapped" for one in record) == 6
    assert (await replicas.report())["serving"]["state"] == "Serving"
