"""What goes over the wire to Microsoft.Sql, to the letter, and what an answer of another shape becomes."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from azure.mgmt.sql.aio import SqlManagementClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.management import WholeAnswer
from cmk_operator.core.encryption.protection import Unreadable
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.sql.client import KEPT_SECONDS, RECOVERY_SECONDS, Readings, SqlClient
from cmk_operator.providers.sql.requests import (
    AddServerKey,
    RevalidateDatabase,
    RevalidateServer,
    RevertDatabase,
    SetDatabaseKey,
    SetProtector,
    SetServerIdentity,
    SetServiceManagedProtector,
    SqlRequest,
)
from cmk_operator.providers.sql.server import Listed, ServerKeys
from tests.unit.samples import APPLICATION, GROUP, IDENTITY, SUBSCRIPTION, V1, VAULT
from tests.unit.test_management import ARM, CHAIN, Answer, NoCredential, Wire, page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azure.core.pipeline import PipelineRequest

SERVER = ArmId(f"{GROUP}/providers/Microsoft.Sql/servers/one")
DATABASE = ArmId(f"{SERVER}/databases/orders 2026")
OTHER_IDENTITY = ArmId(IDENTITY.replace("/cmk", "/other"))
KEY = KeyUri(VAULT, "sql", V1)
NAME = f"{VAULT.split('.')[0]}_sql_{V1}"
PROTECTOR = "encryptionProtector/current"


class Recorded(Wire):
    """As `Wire`, with the whole requests."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(*answers)
        self.requests: list[Any] = []

    async def send(self, request: PipelineRequest[Any]) -> Any:
        self.requests.append(request.http_request)
        return await super().send(request)


class Session:
    """Gives the SDK's client on a wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.now = 0.0
        self.subscriptions: list[str] = []

    async def management(self, _: object, __: object, subscription_id: str) -> SqlManagementClient:
        self.subscriptions.append(subscription_id)
        return SqlManagementClient(NoCredential(), subscription_id, ARM, policies=[WholeAnswer(), self._wire])

    def monotonic(self) -> float:
        return self.now


def client_on(wire: Wire) -> SqlClient:
    session: Any = Session(wire)
    return SqlClient(session)


SENT: dict[str, tuple[SqlRequest, str, str, dict[str, Any] | None]] = {
    "identity": (
        SetServerIdentity(SERVER, "UserAssigned", (OTHER_IDENTITY, ArmId(IDENTITY)), ArmId(IDENTITY), APPLICATION),
        "PATCH",
        "one",
        {
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {OTHER_IDENTITY.text: {}, IDENTITY: {}}},
            "properties": {"primaryUserAssignedIdentityId": IDENTITY, "federatedClientId": APPLICATION},
        },
    ),
    "key": (
        AddServerKey(SERVER, NAME, KEY),
        "PUT",
        f"one/keys/{NAME}",
        {"properties": {"serverKeyType": "AzureKeyVault", "uri": str(KEY)}},
    ),
    "protector": (
        SetProtector(SERVER, NAME, follow_latest=False),
        "PUT",
        f"one/{PROTECTOR}",
        {"properties": {"serverKeyType": "AzureKeyVault", "serverKeyName": NAME, "autoRotationEnabled": False}},
    ),
    "Microsoft's key": (
        SetServiceManagedProtector(SERVER),
        "PUT",
        f"one/{PROTECTOR}",
        {"properties": {"serverKeyType": "ServiceManaged", "serverKeyName": "ServiceManaged"}},
    ),
    "revalidate a server": (RevalidateServer(SERVER), "POST", f"one/{PROTECTOR}/revalidate", None),
    "a database's key": (
        SetDatabaseKey(DATABASE, ArmId(IDENTITY), (OTHER_IDENTITY,), APPLICATION, KEY, follow_latest=True),
        "PATCH",
        "one/databases/orders%202026",
        {
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}, OTHER_IDENTITY.text: None}},
            "properties": {
                "federatedClientId": APPLICATION,
                "encryptionProtectorAutoRotation": True,
                "encryptionProtector": str(KEY),
                "keys": {str(KEY): {}},
            },
        },
    ),
    "a database that stays on its key": (
        SetDatabaseKey(DATABASE, ArmId(IDENTITY), (), APPLICATION, None, follow_latest=False),
        "PATCH",
        "one/databases/orders%202026",
        {
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}},
            "properties": {"federatedClientId": APPLICATION, "encryptionProtectorAutoRotation": False},
        },
    ),
    "revalidate a database": (
        RevalidateDatabase(DATABASE),
        "POST",
        f"one/databases/orders%202026/{PROTECTOR}/revalidate",
        None,
    ),
    "revert a database": (RevertDatabase(DATABASE), "POST", f"one/databases/orders%202026/{PROTECTOR}/revert", None),
}


@pytest.mark.parametrize("case", SENT)
async def test_each_request_is_azures_to_the_letter_and_an_operation_stays_azures(case: str) -> None:
    request, method, path, body = SENT[case]
    operation = f"{ARM}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Sql/operations/1"
    wire = Recorded(Answer(202, None, {"Azure-AsyncOperation": operation, "Location": ARM, "Retry-After": "15"}))
    answer = await client_on(wire).send(CHAIN, request)
    assert (answer.operation_url, answer.retry_after) == (operation, 15.0)
    (sent,) = wire.requests
    url = urlsplit(sent.url)
    assert (sent.method, url.path, url.query) == (
        method,
        f"{GROUP}/providers/Microsoft.Sql/servers/{path}",
        "api-version=2025-01-01",
    )
    assert (json.loads(sent.content) if sent.content else None) == body


async def test_a_geo_secondary_is_written_to_in_its_own_subscription() -> None:
    wire, other = Wire(Answer(202)), "99999999-9999-4999-8999-999999999999"
    session: Any = Session(wire)
    await SqlClient(session).send(CHAIN, AddServerKey(ArmId(SERVER.text.replace(SUBSCRIPTION, other)), NAME, KEY))
    assert session.subscriptions == [other]
    assert f"/subscriptions/{other}/" in wire.urls[0]


async def _servers(client: SqlClient) -> object:
    return [one async for found in client.pages(CHAIN, SUBSCRIPTION) for one in found]


ONE: dict[str, Callable[[SqlClient], Awaitable[object]]] = {
    "server": lambda client: client.read(CHAIN, SERVER),
    "protector": lambda client: client.protector(CHAIN, SERVER),
    "database": lambda client: client.database(CHAIN, DATABASE),
}
LISTS: dict[str, Callable[[SqlClient], Awaitable[object]]] = {
    "servers": _servers,
    "known keys": lambda client: client.known_keys(CHAIN, SERVER),
    "partners": lambda client: client.partners(CHAIN, SERVER),
    "linked": lambda client: client.linked(CHAIN, SERVER),
    "closed databases": lambda client: client.closed_databases(CHAIN, SERVER),
    "databases": lambda client: client.databases(CHAIN, DATABASE),
    "rows": lambda client: client.rows(CHAIN, SERVER),
}
SPOILT: list[object] = [
    [("", None)],
    {},
    ServerKeys(unread=1),
    *(
        Listed(unread=(f"a {what} without an id",))
        for what in ("failover group", "replication link", "inaccessible database", "database")
    ),
]
"""What becomes of a list with one entry that cannot be read."""
ROOT = Path(__file__).resolve().parents[2]
ODD = ["<html>", "", "null", [], "text", 7]


@pytest.mark.parametrize("what", ONE)
@pytest.mark.parametrize("body", [*ODD, {"properties": []}, {"properties": "text"}], ids=str)
async def test_a_resource_of_another_shape_is_a_listed_failure(what: str, body: Any) -> None:
    with suppress(*EXPECTED_FAILURES):
        found: Any = await ONE[what](client_on(Wire(Answer(200, body))))
        assert isinstance(found.protection, Unreadable)
        return
    with pytest.raises(EXPECTED_FAILURES) as raised:
        await ONE[what](client_on(Wire(Answer(200, body))))
    assert failure_of(raised.value).code == "Unreadable"


@pytest.mark.parametrize("what", LISTS)
@pytest.mark.parametrize("body", [*ODD, {"value": None}, {"value": ["text"]}, {"value": [None]}, {"value": 7}], ids=str)
async def test_a_list_of_another_shape_is_a_listed_failure(what: str, body: Any) -> None:
    if isinstance(body, dict) and isinstance(body["value"], list):
        # An odd object spoils only itself, and whoever needs the whole list sees that it is not.
        assert await LISTS[what](client_on(Wire(Answer(200, body)))) in SPOILT
        return
    with pytest.raises(EXPECTED_FAILURES) as raised:
        await LISTS[what](client_on(Wire(Answer(200, body))))
    assert failure_of(raised.value).code == "Unreadable"


FIELDS = st.sampled_from(
    [
        "id",
        "name",
        "identity",
        "type",
        "userAssignedIdentities",
        "properties",
        "primaryUserAssignedIdentityId",
        "federatedClientId",
        "serverKeyType",
        "serverKeyName",
        "uri",
        "keyVersion",
        "autoRotationEnabled",
        "replicationRole",
        "partnerServers",
        "status",
        "encryptionProtector",
        "encryptionProtectorAutoRotation",
        "secondaryType",
        "state",
        "value",
        "nextLink",
    ]
)
VALUES = st.sampled_from([None, True, 7, 0.5, "", "text", "AzureKeyVault", "Inaccessible", str(KEY), SERVER.text, IDENTITY])
JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=4), max_leaves=12
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(answer=JSON, what=st.sampled_from([*ONE, *LISTS]))
async def test_whatever_azure_answers_is_read_or_is_a_listed_failure(answer: Any, what: str) -> None:
    with suppress(*EXPECTED_FAILURES):
        await (ONE | LISTS)[what](client_on(Wire(Answer(200, answer), page())))


@pytest.mark.parametrize("what", LISTS)
async def test_every_page_of_a_list_is_read(what: str) -> None:
    wire = Wire(page(link=f"{ARM}/next"), page())
    assert await LISTS[what](client_on(wire)) in ({}, [], ServerKeys(), Listed())
    assert len(wire.urls) == 2


@pytest.mark.parametrize("what", ONE)
async def test_a_resource_without_properties_is_not_one_on_microsofts_key(what: str) -> None:
    with pytest.raises(EXPECTED_FAILURES) as raised:
        await ONE[what](client_on(Wire(Answer(200, {"name": "orders"}))))
    assert failure_of(raised.value).code == "Unreadable"


async def test_what_nothing_reads_any_more_is_dropped() -> None:
    now, reads = 0.0, 0

    async def read() -> int:
        nonlocal reads
        reads += 1
        return reads

    readings: Readings[int] = Readings(lambda: now)
    for number in range(1000):
        await readings.get(number, 60.0, read)
    now = KEPT_SECONDS / 2
    await readings.get("in use", 60.0, read)
    now = KEPT_SECONDS + 1
    assert await readings.get("in use", KEPT_SECONDS, read) == 1001
    await readings.get("another", 60.0, read)
    assert len(readings) == 2


async def test_a_database_that_went_away_closed_is_forgotten_with_the_next_revalidation() -> None:
    session: Any = Session(Wire(Answer(202)))
    client = SqlClient(session)
    await client.send(CHAIN, RevalidateDatabase(DATABASE))
    assert client.recovering(CHAIN, DATABASE, closed=True)
    session.now = RECOVERY_SECONDS
    assert not client.recovering(CHAIN, DATABASE, closed=True)
    await client.send(CHAIN, RevalidateServer(SERVER))
    session.now = 0.0
    assert not client.recovering(CHAIN, DATABASE, closed=True), "nothing is kept of it"


def test_the_sdk_is_imported_in_a_thread_when_the_first_resource_is_read() -> None:
    program = f"""
import asyncio, sys, threading
from cmk_operator.azure.credentials import IdentityChain
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.core.encryption.protection import Unreadable
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.providers.protocol import Target
from cmk_operator.providers.registry import make_providers
from cmk_operator.telemetry import Telemetry

chain = IdentityChain(CLOUDS[CloudName.PUBLIC], "{APPLICATION}", "{APPLICATION}", "{APPLICATION}", False)
threads = set()

def note(event, arguments):
    if event == "import" and arguments[0].startswith("azure.mgmt.sql"):
        threads.add(threading.current_thread() is threading.main_thread())

sys.addaudithook(note)

async def main():
    async with AzureSession(Telemetry(), TokenFile(None)) as session:
        providers = make_providers(session, 1.0)
        print("azure.mgmt.sql" in sys.modules)
        target = Target(ArmId("{SERVER}"), None, lambda _: True)
        answer = await providers["microsoft.sql/servers"].observe(chain, target, max_age=0.0)
        print("azure.mgmt.sql" in sys.modules, threads, answer.code)

asyncio.run(main())
"""
    environment = {"PYTHONPATH": str(ROOT / "operator")}
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert answer.stdout.splitlines() == ["False", "True {False} TokenFileUnreadable"], answer.stderr
