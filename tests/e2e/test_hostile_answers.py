"""Answers that nobody can read, on every route that is read: status says it, nothing is written, and all heals.

That the operator contacted no host but Azure's is checked at the end of the package (`operator_process`).
"""

from __future__ import annotations

import base64
import gzip
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from sandbox.administrators.compute import ComputeAdministrator
from sandbox.kubernetes.objects import condition, has
from tests.e2e.test_disks import CREATION, Disks
from tests.e2e.test_snowflake import Warehouse, warehouse
from tests.e2e.test_sql import SqlWorld

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.operator_process import OperatorProcess
    from tests.environment import Environment

__all__ = ["warehouse"]
ARM, ENTRA, GRAPH = "management.azure.com", "login.microsoftonline.com", "graph.microsoft.com"
ELSEWHERE = "https://elsewhere.example/next"
MEBIBYTE = 1 << 20
SHARES = 4
"""Each route gets a quarter of the answers, the next route the next quarter: a read that fails is repeated ever more slowly."""
MOST_MORE_MEMORY = 160 * MEBIBYTE
"""What the operator's peak may grow by; one of the answers has 400 MiB."""


def raw(content: bytes, **more: Any) -> dict[str, Any]:
    return {"kind": "status", "status": 200, "raw": base64.b64encode(content).decode(), **more}


@cache
def bomb() -> bytes:
    return gzip.compress(b'{"value": "' + b"x" * (400 * MEBIBYTE) + b'"}', 9)


def answers() -> list[dict[str, Any]]:
    """Each is given once; that they lead elsewhere, or are too large, is one kind of unreadable among others."""
    return [
        *map(
            raw,
            (b"{}", b"null", b"[]", b'"x"', b"7", b'{"value": 5}', b'{"value": [null], "id": null}', b'{"properties": null}'),
        ),
        *map(
            raw, (b'{"value": 1e999}', b'{"value": NaN}', b'{"id": ' + b"9" * 5000 + b"}", b'{"id": "\xff"}', b"\x1f\x8b\x00")
        ),
        raw(b'{"value":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
        raw(b'{"value": [', headers={"Content-Encoding": "gzip"}),
        raw(bomb(), headers={"Content-Encoding": "gzip"}),
        {"kind": "endless", "status": 200, "body": {}},
        {"kind": "status", "status": 200, "body": {"value": [], "nextLink": ELSEWHERE, "@odata.nextLink": ELSEWHERE}},
        # A page that leads back to itself, with an object that is none; and a page of more values than an answer may have.
        {"kind": "status", "status": 200, "body": {"value": [{"id": "/x"}], "nextLink": "{url}", "@odata.nextLink": "{url}"}},
        raw(b'{"value":[' + b"{}," * 200_000 + b"{}]}"),
        {"kind": "status", "status": 307, "body": {}, "headers": {"Location": ELSEWHERE}},
        {"kind": "status", "status": 401, "body": {}, "headers": {"WWW-Authenticate": f'Bearer authorization="{ELSEWHERE}"'}},
    ]


HTML: Final = raw(b"<html>a proxy's page</html>", headers={"Content-Type": "text/html"})
LONG_REFUSAL: Final = {
    "kind": "status",
    "status": 400,
    "code": "\x1b[31mOdd",
    "message": "\x1b[2J\u202e\x00No.\r\n" + "x" * (MEBIBYTE // 2),
}


@dataclass
class World:
    """Everything that the operator reads, Ready, and who changes it."""

    environment: Environment
    process: OperatorProcess
    played: int = 0
    asked: int = 0

    async def conditions(self) -> dict[str, list[tuple[str, str, str]]]:
        found = {}
        for item in await self.environment.objects.all("EncryptedResource"):
            status = item.get("status", {})
            found[item["metadata"]["name"]] = [
                (one["type"], one["status"], one["lastTransitionTime"])
                for one in status.get("conditions", ())
                if one["type"] != "DataCovered"  # is read rarely, so it may become known meanwhile
            ]
        return found

    def peak(self) -> int:
        """The most memory that the operator ever held, in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    async def hasten(self) -> None:
        """Ask for a pass over everything now, because a read that fails is repeated ever more slowly."""
        environment = self.environment
        self.asked += 1
        asked = {"metadata": {"annotations": {"cmk-operator.dev/reconcile-requested-at": str(self.asked)}}}
        for kind in ("FederatedIdentity", "CustomerTenant", "CustomerManagedKey", "EncryptedResource"):
            for item in await environment.objects.all(kind):
                name, namespace = item["metadata"]["name"], item["metadata"].get("namespace", "")
                await environment.objects.merge(kind, name, asked, namespace)

    async def all_ready(self) -> None:
        await self.hasten()
        for name in ("docs", "sql", "des", "data"):
            await self.environment.resource_until(f"{name} is Ready", has("Ready"), name)
        await self.environment.key_until("accessible", has("KeyAccessible"))

    async def play(self, place: dict[str, Any], said: Callable[[], Any], disturbed: frozenset[str]) -> None:
        """Give some answers once at `place`, then one of them until `said` was seen; then the faults end, and all heals."""
        control, environment = self.environment.control, self.environment
        before, memory, since = await self.conditions(), self.peak(), await environment.position()
        first = self.played % SHARES
        self.played += 1
        given = [await control.inject(**answer, **place, times=1) for answer in answers()[first::SHARES]]
        lasting = await control.inject(**HTML, **place)

        async def all_given() -> bool:
            await self.hasten()
            hits = {one["id"]: one["hits"] for one in await control.faults()}
            return all(hits[one] for one in (*given, lasting))

        await environment.eventually(f"every answer was given at {place}", all_given)
        await said()
        await control.clear_faults()
        await control.inject(**LONG_REFUSAL, **place)
        await said()
        now = await self.conditions()
        for name in before.keys() - disturbed:
            assert now[name] == before[name], f"{place} disturbs {name}"
        writes = await environment.operator_requests(ARM, since, "PUT", "PATCH", "POST", "DELETE")
        assert [one["path"] for one in writes] == [], place
        assert self.peak() - memory < MOST_MORE_MEMORY, place
        await self.check_texts()
        await control.clear_faults()
        await self.all_ready()

    async def check_texts(self) -> None:
        """Every text of every status is printable and short."""
        for kind in ("CustomerTenant", "CustomerManagedKey", "EncryptedResource", "FederatedIdentity"):
            for item in await self.environment.objects.all(kind):
                for one in item.get("status", {}).get("conditions", ()):
                    assert one["message"].isprintable(), one
                    assert len(one["message"]) < 1500, one


@pytest.fixture
async def world(environment: Environment, operator_process: OperatorProcess) -> World:
    """A storage account, a server, a set and a disk, all Ready on one key."""
    await environment.control.set_timings(sql_operation_seconds=0, compute_operation_seconds=0)
    sql = SqlWorld(environment, environment.provider.sql)
    disks = Disks(environment, ComputeAdministrator(environment.provider, environment.group))
    await environment.vault_with_key()
    await environment.account()
    server = await sql.server()
    await disks.disk()
    await environment.apply_all()
    await sql.declare(server)
    await disks.apply_set(diskEncryptionSet=CREATION)
    await disks.apply_disk()
    made = World(environment, operator_process)
    await made.all_ready()
    return made


async def test_what_a_vault_answers_unreadably_is_unknown_and_writes_nothing(world: World) -> None:
    environment = world.environment
    host = f"{environment.vault}.vault.azure.net"

    async def unknown() -> None:
        await environment.key_until("unknown", has("KeyAccessible", "Unknown"))

    every = frozenset({"docs", "sql", "des", "data"})
    for path, method in (("^/keys/cmk", "GET"), ("wrapkey", "POST"), ("unwrapkey", "POST")):
        await world.play({"host": host, "path": path, "method": method}, unknown, every)


async def test_what_resource_manager_answers_unreadably_disturbs_only_what_it_is_about(world: World) -> None:
    environment = world.environment

    def not_read(*names: str) -> Callable[[], Any]:
        async def seen() -> None:
            for name in names:
                await environment.resource_until(f"{name} is not read", has("Encrypted", "Unknown"), name)

        return seen

    for path, names in (
        ("/storageAccounts", ("docs",)),
        ("/encryptionProtector", ("sql",)),
        ("/servers[?]", ("sql",)),
        ("/diskEncryptionSets", ("des", "data")),
        ("/disks", ("data",)),
    ):
        disturbed = {*names, "des"} if path == "/disks" else set(names)
        await world.play({"host": ARM, "path": path, "method": "GET"}, not_read(*names), frozenset(disturbed))


async def test_what_is_read_only_to_say_more_disturbs_no_resource(world: World) -> None:
    """The customer's vault and its locks, the application in Graph; without tokens of the customer nothing is claimed."""
    environment = world.environment

    async def nothing() -> None:
        await environment.key_until("accessible", has("KeyAccessible"))

    async def not_signed_in() -> None:
        await environment.objects.until(
            "not signed in", "FederatedIdentity", environment.name, lambda seen: has("Authenticated")(seen) is False
        )

    async def no_consent_seen() -> None:
        await environment.objects.until("unknown", "CustomerTenant", environment.name, has("ConsentGranted", "Unknown"))

    for place in (
        {"host": ARM, "path": "/providers/Microsoft.KeyVault|Microsoft.Authorization/locks|/subscriptions[?]|/resources[?]"},
        {"host": GRAPH, "path": "/applications"},
    ):
        await world.play({**place, "method": "GET"}, nothing, frozenset())
    every = frozenset({"docs", "sql", "des", "data"})
    since = await environment.position()
    for tenant, said in ((environment.customer.tenant_id, no_consent_seen), (environment.provider.tenant_id, not_signed_in)):
        await world.play({"host": ENTRA, "path": f"/{tenant}/oauth2/v2.0/token", "method": "POST"}, said, every)
    asked = [one["path"] for one in await environment.requests_about(ENTRA, since)]
    assert asked
    assert all(path.endswith("/oauth2/v2.0/token") for path in asked), "no document of Entra can mislead: none is read"


async def test_a_poll_that_nobody_can_read_waits_and_the_change_is_made_once(world: World) -> None:
    environment = world.environment
    await environment.control.set_timings(compute_operation_seconds=1.0)
    disks = Disks(environment, ComputeAdministrator(environment.provider, environment.group))
    await disks.disk("more")
    for answer in answers():
        await environment.control.inject(**answer, host=ARM, path="/(operations|DiskOperations)/", method="GET", times=1)
    await disks.apply_disk("more")
    await disks.until("Ready", has("Ready"), "more")
    (patch,) = await environment.operator_requests("/disks/more", 0, "PATCH")
    assert patch["status"] == 202


async def test_a_deleted_key_of_which_nothing_can_be_read_is_neither_deleted_nor_purged(world: World) -> None:
    environment = world.environment
    host = f"{environment.vault}.vault.azure.net"
    await environment.control.inject(**HTML, host=host, path="/deletedkeys/")
    with suppress(ValueError):  # the customer's own client reads it too, and the key is deleted then
        await environment.customer.delete_key(environment.vault, "cmk")
    key = await environment.key_until("gone", lambda seen: has("KeyAccessible")(seen) is False)
    assert key["access"]["state"] not in {"Deleted", "Purged"}, key["access"]
    await environment.control.clear_faults()
    await environment.key_until("deleted", lambda seen: seen["access"]["state"] == "Deleted")
    await environment.customer.recover_key(environment.vault, "cmk")
    await world.all_ready()


async def test_what_snowflake_answers_unreadably_is_unknown_and_heals(warehouse: Warehouse) -> None:
    environment = warehouse.environment
    await warehouse.activated()
    for answer in (*answers()[::SHARES], HTML):
        await environment.control.clear_faults()
        await environment.control.inject(**answer, host="*.snowflakecomputing.com")
        status = await warehouse.until("not read", has("Encrypted", "Unknown"))
        assert condition(status, "Ready")["message"].isprintable()
    await environment.control.clear_faults()
    await warehouse.until("Ready", has("Ready"))
