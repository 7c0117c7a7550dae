"""The management SDKs on the operator's own pipeline: imported on first use, bound to one host, and odd answers are values."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import aiohttp
import pytest
from azure.core import AsyncPipelineClient
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncHTTPPolicy
from azure.core.rest import HttpRequest
from azure.core.rest._aiohttp import RestAioHttpTransportResponse
from azure.core.utils import case_insensitive_dict
from azure.mgmt.storage.aio import StorageManagementClient
from azure.mgmt.storage.models import StorageAccount

from cmk_operator.answer_gate import UnreadableError
from cmk_operator.azure.call_budget import origin_of
from cmk_operator.azure.credentials import IdentityChain
from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.list_bounds import LONGEST_LIST, LONGEST_LIST_TIME, ListBounds
from cmk_operator.azure.management import (
    CONNECTION_TIMEOUT,
    READ_TIMEOUT,
    FirstAnswer,
    Received,
    WholeAnswer,
    entries_of,
    pages_of,
    read_alike_once,
    typed_answer,
)
from cmk_operator.azure.rest import RestClient
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.azure.table import UNUSED_FOR
from cmk_operator.core.encryption.protection import OnKey
from cmk_operator.core.faults.azure_failure import Unreadable
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.storage.encryption import read_account
from cmk_operator.providers.storage.sdk import STORAGE
from cmk_operator.telemetry import Telemetry
from tests.unit.samples import APPLICATION, SUBSCRIPTION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azure.core.credentials import AccessToken

    from cmk_operator.core.faults.azure_failure import AzureFailure

ARM = "https://management.azure.com"
CHAIN = IdentityChain(CLOUDS[CloudName.PUBLIC], APPLICATION, APPLICATION, APPLICATION, by_service_account=False)
ROOT = Path(__file__).resolve().parents[2]


def test_an_operator_for_storage_alone_imports_no_other_sdk(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    program = f"""
import asyncio, sys
from pathlib import Path
import cmk_operator.composition
from cmk_operator.azure.call_budget import origin_of
from cmk_operator.azure.credentials import IdentityChain
from cmk_operator.core.encryption.protection import OnKey
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.storage.encryption import read_account
from cmk_operator.providers.storage.sdk import STORAGE
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.core.faults.azure_failure import Unreadable
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.telemetry import Telemetry

def imported():
    return sorted(name for name in ("storage", "sql", "compute") if "azure.mgmt." + name in sys.modules)

async def main():
    chain = IdentityChain(CLOUDS[CloudName.PUBLIC], "{APPLICATION}", "{APPLICATION}", "{APPLICATION}", False)
    async with AzureSession(Telemetry(), TokenFile(Path({str(tmp_path / "token")!r}))) as session:
        print(imported())
        client = await session.management(STORAGE, chain, "{SUBSCRIPTION}")
        print(imported(), type(client).__name__)

asyncio.run(main())
"""
    environment = {"PYTHONPATH": str(ROOT / "operator")}
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert answer.stdout.splitlines() == ["[]", "['storage'] StorageManagementClient"], answer.stderr


class Clock:
    """Seconds, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_client_is_kept_for_its_subscription_and_dropped_when_nothing_asks_for_it(tmp_path: Path) -> None:
    clock, other = Clock(), APPLICATION
    async with AzureSession(Telemetry(), TokenFile(tmp_path / "token"), monotonic=clock) as session:
        first = await session.management(STORAGE, CHAIN, SUBSCRIPTION)
        assert await session.management(STORAGE, CHAIN, SUBSCRIPTION.upper()) is first
        clock.now = 0.6 * UNUSED_FOR
        used = await session.management(STORAGE, CHAIN, other)
        clock.now = 1.2 * UNUSED_FOR
        assert used is not first
        assert await session.management(STORAGE, CHAIN, other) is used
        assert await session.management(STORAGE, CHAIN, SUBSCRIPTION) is not first


async def test_a_managed_identity_that_is_forgotten_takes_its_clients_along(tmp_path: Path) -> None:
    async with AzureSession(Telemetry(), TokenFile(tmp_path / "token")) as session:
        first = await session.management(STORAGE, CHAIN, SUBSCRIPTION)
        session.forget_managed_identity(CHAIN)
        assert await session.management(STORAGE, CHAIN, SUBSCRIPTION) is not first


class Answer:
    """What a transport gives to the policies above it."""

    def __init__(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.reason = "Reason"
        self.headers = case_insensitive_dict({"Content-Type": "application/json"} | (headers or {}))
        self.content_type = "application/json"
        self.content = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self._parsed: Any = None

    def text(self) -> str:
        return self.content.decode()

    def body(self) -> bytes:
        return self.content

    def json(self) -> Any:
        """Parsed once, as azure-core's own answers are."""
        if self._parsed is None:
            self._parsed = json.loads(self.content)
        return self._parsed

    async def read(self) -> bytes:
        return self.content

    def iter_bytes(self) -> None:
        """Not used: the SDK's own stream."""

    def raise_for_status(self) -> None:
        from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - as azure-core's own

        if self.status_code >= 400:
            raise HttpResponseError(response=self)  # type: ignore[arg-type]  # the part that is read


class Wire(AsyncHTTPPolicy[Any, Any]):
    """In the place of retries, authentication and transport: gives the answers, and keeps the requests and options."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.urls: list[str] = []
        self.options: list[dict[str, Any]] = []

    async def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        self.urls.append(request.http_request.url)
        self.options.append(dict(request.context.options))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return PipelineResponse(request.http_request, answer, request.context)


class NoCredential:
    """Never asked: nothing here signs in."""

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        raise NotImplementedError

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


def client_on(wire: Wire) -> StorageManagementClient:
    policies = [WholeAnswer(), wire]
    return StorageManagementClient(NoCredential(), SUBSCRIPTION, ARM, policies=policies)


async def key_name(client: StorageManagementClient) -> str | None:
    with typed_answer():
        account = await client.storage_accounts.get_properties("rg", "account")
        assert account.properties is not None
        assert account.properties.encryption is not None
        key = account.properties.encryption.key_vault_properties
        return key.key_name if key is not None else None


async def failed(body: Any, status: int = 200) -> AzureFailure:
    client = client_on(Wire(Answer(status, body)))
    with pytest.raises(EXPECTED_FAILURES) as raised:
        await key_name(client)
    return failure_of(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        "<html>a proxy's page</html>",
        "",
        "null",
        [],
        "text",
        {"properties": "text"},
        {"properties": {"encryption": ["text"]}},
        {"properties": {"encryption": {"keyvaultproperties": 7}}},
    ],
    ids=str,
)
async def test_an_odd_answer_is_a_listed_failure(body: Any) -> None:
    failure = await failed(body)
    assert isinstance(failure, Unreadable)
    assert (failure.status, failure.code) == (None, "Unreadable")
    assert "proxy" not in failure.message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"code": "ResourceNotFound", "message": "gone"}}, "ResourceNotFound"),
        ({"error": "text"}, "text"),
        ([], "Http404"),
        ("<html>", "Http404"),
        ({"error": {"code": "A", "details": 7, "target": []}}, "A"),
    ],
    ids=str,
)
async def test_errors_are_read_by_the_one_translation(body: Any, code: str) -> None:
    failure = await failed(body, 404)
    assert (failure.status, failure.code) == (404, code)


def page(*names: str, link: str | None = None) -> Answer:
    return Answer(200, {"value": [{"id": name} for name in names]} | ({"nextLink": link} if link else {}))


async def names_in(wire: Wire) -> list[str | None]:
    return [account.id async for found in pages_of(client_on(wire).storage_accounts.list()) for account in found]


@pytest.mark.parametrize("value", [None, "text", 7, {"a": 1}, ["text"], [7]], ids=str)
async def test_an_odd_list_is_a_listed_failure(value: Any) -> None:
    with pytest.raises(EXPECTED_FAILURES), typed_answer():
        await names_in(Wire(Answer(200, {"value": value})))


async def test_every_page_is_read_also_behind_an_empty_one_and_by_its_port() -> None:
    wire = Wire(page("a", link=f"{ARM}:443/next?api-version=2019-06-01&$skipToken=1"), page(link=f"{ARM}/more"), page("b"))
    assert await names_in(wire) == ["a", "b"]
    assert "api-version=2026-09-01" in wire.urls[1]
    assert "skipToken=1" in wire.urls[1]


async def rest_names(wire: Wire) -> list[Any]:
    """The same list by a plain request, as the lists of keys' users are read."""
    rest = RestClient(AsyncPipelineClient(ARM, policies=[wire]))
    return [entry async for found in rest.entries("/subscriptions", {}) for entry in found]


async def entry_names(wire: Wire) -> list[Any]:
    client = StorageManagementClient(NoCredential(), SUBSCRIPTION, ARM, policies=[WholeAnswer(), wire])
    return [name async for found in entries_of(client.storage_accounts.list, dict) for name, _ in found]


LISTS: list[Callable[[Wire], Awaitable[list[Any]]]] = [names_in, rest_names, entry_names]


@pytest.mark.parametrize("read", LISTS)
async def test_a_list_without_an_end_is_left(read: Callable[[Wire], Awaitable[list[Any]]]) -> None:
    wire = Wire(*(page("a", link=f"{ARM}/next?{number}") for number in range(LONGEST_LIST + 1)))
    with pytest.raises(UnreadableError, match="more than 1000 pages"):
        await read(wire)
    assert len(wire.urls) == LONGEST_LIST


@pytest.mark.parametrize("read", LISTS)
async def test_a_list_that_leads_back_to_a_page_is_left_at_once(read: Callable[[Wire], Awaitable[list[Any]]]) -> None:
    wire = Wire(page("a", link=f"{ARM}/1"), page("b", link=f"{ARM}/2"), page("c", link=f"{ARM}/1"))
    with pytest.raises(UnreadableError, match="a page that was read before"):
        await read(wire)
    assert len(wire.urls) == 3


@pytest.mark.parametrize("read", LISTS)
async def test_a_list_with_too_many_objects_is_left(
    read: Callable[[Wire], Awaitable[list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmk_operator.azure.list_bounds.LARGEST_LIST", 5)
    wire = Wire(page("a", "b", "c", link=f"{ARM}/1"), page("d", "e", "f", link=f"{ARM}/2"))
    with pytest.raises(UnreadableError, match="more than 5 objects"):
        await read(wire)
    assert len(wire.urls) == 2


def test_a_list_that_drips_in_page_by_page_is_left() -> None:
    moments = iter((0.0, LONGEST_LIST_TIME, LONGEST_LIST_TIME + 1))
    bounds = ListBounds(lambda: next(moments))
    bounds.page(1, "https://a")
    with pytest.raises(UnreadableError, match="takes longer than"):
        bounds.page(1, "https://b")


async def test_answers_are_read_whole_within_the_operator_s_times_and_leave_their_request_id() -> None:
    wire, received = Wire(Answer(200, {"name": "account"}, {"x-ms-request-id": "r-1"})), Received()
    account = await client_on(wire).storage_accounts.get_properties("rg", "account", cls=received)
    assert (account.name, received.request_id) == ("account", "r-1")
    assert wire.options[0]["stream"] is False
    assert wire.options[0]["connection_timeout"] == CONNECTION_TIMEOUT
    assert wire.options[0]["read_timeout"] == READ_TIMEOUT


async def begun(answer: Answer) -> tuple[FirstAnswer[StorageAccount], Wire]:
    wire, first = Wire(answer), FirstAnswer[StorageAccount]()
    parameters: Any = {"location": "westeurope"}
    await client_on(wire).storage_accounts.begin_create("rg", "account", parameters, polling=first)
    return first, wire


async def test_a_long_operation_is_its_first_answer_and_nothing_is_polled() -> None:
    headers = {"Azure-AsyncOperation": f"{ARM}/operations/1", "Retry-After": "7", "x-ms-request-id": "r-2"}
    first, wire = await begun(Answer(202, None, headers))
    assert (first.operation_url, first.retry_after, first.request_id) == (f"{ARM}/operations/1", 7.0, "r-2")
    assert len(wire.urls) == 1
    with pytest.raises(EXPECTED_FAILURES):
        first.resource()


@pytest.mark.parametrize(("header", "wait"), [("0.5", 1.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("soon", None)])
async def test_no_wait_that_azure_asks_for_loses_the_operation(header: str, wait: float | None) -> None:
    first, _ = await begun(Answer(202, None, {"Azure-AsyncOperation": f"{ARM}/operations/1", "Retry-After": header}))
    assert (first.operation_url, first.retry_after) == (f"{ARM}/operations/1", wait)


class EmptyAcceptance:
    """What aiohttp has of an answer without a body."""

    status = 202
    reason = "Accepted"
    headers: ClassVar[dict[str, str]] = {"Azure-AsyncOperation": f"{ARM}/operations/1"}

    async def read(self) -> bytes:
        return b""

    def close(self) -> None: ...


def over_aiohttp(answer: EmptyAcceptance) -> Any:
    return RestAioHttpTransportResponse(request=HttpRequest("PUT", ARM), internal_response=answer, block_size=4096)


async def test_an_acceptance_without_a_body_is_read_once() -> None:
    first, _ = await begun(over_aiohttp(EmptyAcceptance()))
    assert first.operation_url == f"{ARM}/operations/1"


class JsonAnswer(EmptyAcceptance):
    """What aiohttp has of an answer in JSON."""

    status = 200
    headers: ClassVar[dict[str, str]] = {"Content-Type": "application/json"}

    def __init__(self, body: Any) -> None:
        self._body = json.dumps(body).encode()

    async def read(self) -> bytes:
        return self._body


WHOLE_ACCOUNT = {
    "id": "a",
    "location": "westeurope",
    "identity": {"type": "UserAssigned", "principalId": "p"},
    "properties": {
        "primaryLocation": "westeurope",
        "encryption": {"keySource": "Microsoft.Storage", "services": {"blob": {"enabled": True}}},
    },
}
READ_ACCOUNT = {
    "id": "a",
    "identity": {"type": "UserAssigned", "principalId": "p"},
    "properties": {"encryption": {"keySource": "Microsoft.Storage", "services": {}}},
}


async def test_an_sdk_converts_only_the_fields_that_are_read() -> None:
    """In azure-core's own answer, which keeps the JSON that it has parsed."""
    one, several = Wire(over_aiohttp(JsonAnswer(WHOLE_ACCOUNT))), {"value": [WHOLE_ACCOUNT, WHOLE_ACCOUNT], "nextLink": None}
    listed = Wire(over_aiohttp(JsonAnswer(several)))
    for wire in (one, listed):
        for answer in wire.answers:
            await answer.read()

    def client(wire: Wire) -> StorageManagementClient:
        policies = [WholeAnswer(STORAGE.fields), wire]
        return StorageManagementClient(NoCredential(), SUBSCRIPTION, ARM, policies=policies)

    account = await client(one).storage_accounts.get_properties("rg", "account")
    assert account.as_dict() == READ_ACCOUNT
    pages = [page async for page in pages_of(client(listed).storage_accounts.list())]
    assert [account.as_dict() for page in pages for account in page] == [READ_ACCOUNT, READ_ACCOUNT]


async def test_accounts_that_differ_only_in_when_their_key_was_rotated_are_read_once() -> None:
    """Azure reports another time of rotation for each account; 1,000 accounts on 50 keys are 50 models, not 1,000."""

    def account(number: int) -> dict[str, Any]:
        key = {
            "keyvaulturi": "https://contoso.vault.azure.net",
            "keyname": "storage",
            "keyversion": "",
            "currentVersionedKeyIdentifier": f"https://contoso.vault.azure.net/keys/storage/{'f' * 32}",
            "currentVersionedKeyExpirationTimestamp": f"2030-01-01T00:00:{number:02}Z",
            "lastKeyRotationTimestamp": f"2026-01-01T00:00:{number:02}.0000000Z",
        }
        encryption = {"keySource": "Microsoft.Keyvault", "keyvaultproperties": key}
        return {"id": f"/accounts/{number}", "name": f"account{number}", "properties": {"encryption": encryption}}

    answer = over_aiohttp(JsonAnswer({"value": [account(number) for number in range(9)]}))
    await answer.read()
    client = StorageManagementClient(NoCredential(), SUBSCRIPTION, ARM, policies=[WholeAnswer(STORAGE.fields), Wire(answer)])
    contents: list[Any] = []
    read = read_alike_once(contents.append)
    pages = [page async for page in entries_of(client.storage_accounts.list, read)]
    assert [len(page) for page in pages] == [9]
    assert len(contents) == 1
    protection = read_account(StorageAccount(contents[0])).protection
    assert protection == OnKey(KeyUri("contoso.vault.azure.net", "storage"), "f" * 32)


class BrokenAnswer(EmptyAcceptance):
    """What aiohttp has of an answer whose connection breaks behind the headers."""

    def __init__(self, status: int) -> None:
        self.status = status

    async def read(self) -> bytes:
        raise aiohttp.ClientPayloadError("broken")


@pytest.mark.parametrize("status", [200, 202, 409])
async def test_a_connection_that_breaks_within_a_first_answer_is_a_listed_failure_to_repeat(status: int) -> None:
    with pytest.raises(EXPECTED_FAILURES) as raised, typed_answer():
        await begun(over_aiohttp(BrokenAnswer(status)))
    failure = failure_of(raised.value)
    assert (failure.code, failure.transient) == ("IncompleteReadError", True)


@pytest.mark.parametrize(("status", "url"), [(202, f"{ARM}/operations/2"), (200, None)])
async def test_a_location_is_an_operation_only_where_the_request_was_just_accepted(status: int, url: str | None) -> None:
    first, _ = await begun(Answer(status, {"name": "account"}, {"Location": f"{ARM}/operations/2"}))
    assert first.operation_url == url
    assert first.resource().name == "account"


def test_the_sdks_are_imported_nowhere_but_where_they_are_first_used() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID253", "--quiet", "operator"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("url", [f"{ARM}/subscriptions", f"{ARM.upper()}/subscriptions", f"{ARM}:443?x=1", f"{ARM}#x"])
def test_spelling_and_the_usual_port_make_no_other_origin(url: str) -> None:
    assert origin_of(url) == ARM


def test_objects_that_differ_only_in_id_are_read_once() -> None:
    contents: list[object] = []

    def count(entry: object) -> int:
        contents.append(entry)
        return len(contents)

    read = read_alike_once(count)
    entries = [{"id": f"/accounts/{number}", "properties": {"key": number % 2, "on": number < 6}} for number in range(8)]
    # As from two pages: equal texts are other objects there.
    found = [read(entry) for entry in (*entries, *json.loads(json.dumps(entries)))]
    assert found == [1, 2, 1, 2, 1, 2, 3, 4] * 2
    assert "/accounts/" not in repr(contents)
