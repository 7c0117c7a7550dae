"""What comes in over HTTP is bounded, comes from where it was asked, and is a JSON object or one listed failure."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import tracemalloc
import zlib
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from azure.keyvault.keys._shared import http_challenge_cache
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given
from hypothesis import strategies as st

from cmk_operator import answer_gate
from cmk_operator.answer_gate import (
    DEEPEST,
    LARGEST_ANSWER,
    LARGEST_PAGE,
    LONGEST_LINK,
    LONGEST_RETRY_AFTER,
    LONGEST_TEXT,
    UnreadableError,
    read_object,
    read_token_answer,
    read_wait,
)
from cmk_operator.audit.sink import AuditSink
from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of, seconds_to_wait
from cmk_operator.azure.identities import read_application, sign_in
from cmk_operator.azure.key_vault import ProbedKey, probe_key
from cmk_operator.azure.long_running import ask_after
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.azure.vault_reader import ReadVault, VaultReader
from cmk_operator.core.encryption.long_running import Ended
from cmk_operator.core.faults.azure_failure import AzureFailure, Unreadable
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from cmk_operator.core.prerequisites.vault_facts import VaultFacts, VaultNotVisible
from cmk_operator.providers.disk.compute import DiskEncryptionSets, Disks
from cmk_operator.providers.listing import Listing
from cmk_operator.providers.protocol import Remembered
from cmk_operator.providers.snowflake.account import SnowflakeAccount
from cmk_operator.providers.snowflake.client import SnowflakeClients
from cmk_operator.providers.snowflake.target import SnowflakeTarget
from cmk_operator.providers.sql.client import SqlClient
from cmk_operator.providers.storage.accounts import StorageAccounts
from cmk_operator.sinks.receivers import Message, Receivers
from cmk_operator.telemetry import Telemetry
from tests.unit.internet import CHALLENGE, TOKEN, Asked, Internet, Raw, answer, usual_token
from tests.unit.samples import CUSTOMER, GROUP, NOW, SUBSCRIPTION, V1, V2
from tests.unit.test_management import ARM, CHAIN, Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

ENTRA, GRAPH, MANAGEMENT = "login.microsoftonline.com", "graph.microsoft.com", "management.azure.com"
VAULT, SNOWFLAKE, ELSEWHERE = "acme.vault.azure.net", "acme.snowflakecomputing.com", "elsewhere.example"
ACCOUNT = ArmId(f"{GROUP}/providers/Microsoft.Storage/storageAccounts/account")
KEY = ProbedKey(CHAIN, CUSTOMER, parse_key_uri(f"https://{VAULT}/keys/storage"))
_PRIVATE_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
SNOWFLAKE_ACCOUNT = SnowflakeTarget(
    SnowflakeAccount("acme"),
    "operator",
    "ACCOUNTADMIN",
    _PRIVATE_KEY,
    None,
    CUSTOMER,
    network_rules=False,
    remembered=Remembered(),
)


@pytest.fixture
async def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Internet]:
    http_challenge_cache.clear()  # of the whole process
    async with Internet().served(tmp_path, monkeypatch) as served:
        served.say(ENTRA, usual_token)
        yield served


@pytest.fixture
async def session(internet: Internet, tmp_path: Path) -> AsyncIterator[AzureSession]:
    del internet
    (tmp_path / "token").write_text("one.two.three")
    async with AzureSession(Telemetry(), TokenFile(tmp_path / "token")) as opened:
        yield opened


async def failed(call: Awaitable[object]) -> AzureFailure:
    with pytest.raises(EXPECTED_FAILURES) as raised:
        await call
    return failure_of(raised.value)


async def account(session: AzureSession) -> AzureFailure | None:
    return await failed(StorageAccounts(session).read(CHAIN, ACCOUNT))


async def accounts(session: AzureSession) -> AzureFailure | None:
    async def listed() -> None:
        async for _ in StorageAccounts(session).pages(CHAIN, SUBSCRIPTION):
            pass

    return await failed(listed())


async def operation(session: AzureSession) -> AzureFailure | None:
    found = await ask_after(session, CHAIN, f"{ARM}/subscriptions/{SUBSCRIPTION}/operations/1")
    return found if isinstance(found, AzureFailure) else None


async def denied(*_: object) -> None:
    return None


async def key(session: AzureSession) -> AzureFailure | None:
    return (await probe_key(session, KEY, (), NOW, denied)).probe.wanted.failure


async def token(session: AzureSession) -> AzureFailure | None:
    return await sign_in(session, CHAIN)


async def application(session: AzureSession) -> AzureFailure | None:
    found = await read_application(session, CHAIN)
    return found if isinstance(found, AzureFailure) else None


async def statement(session: AzureSession) -> AzureFailure | None:
    client = SnowflakeClients(session).of(SNOWFLAKE_ACCOUNT)
    assert not isinstance(client, AzureFailure)
    said = await client.ask("SELECT 1")
    return said if isinstance(said, AzureFailure) else None


WAYS: dict[str, tuple[str, Callable[[AzureSession], Awaitable[AzureFailure | None]]]] = {
    "account": (MANAGEMENT, account),
    "accounts": (MANAGEMENT, accounts),
    "operation": (MANAGEMENT, operation),
    "key": (VAULT, key),
    "token": (ENTRA, token),
    "application": (GRAPH, application),
    "statement": (SNOWFLAKE, statement),
}


@cache
def bomb() -> Raw:
    """Four hundred kilobytes that become four hundred megabytes."""
    pieces = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = pieces.compress(b'{"value": "') + b"".join(pieces.compress(b"x" * (1 << 20)) for _ in range(400))
    return answer(packed + pieces.compress(b'"}') + pieces.flush(), headers={"Content-Encoding": "gzip"})


def endless() -> Raw:
    def pieces() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        while True:
            yield b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    return Raw(pieces())


def announced() -> Raw:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 629145600\r\n\r\n{"
    return Raw(itertools.chain([head], itertools.repeat(b" " * 0x10000, 9600)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [bomb, endless, announced])
async def test_no_answer_takes_more_than_its_bound(
    internet: Internet, session: AzureSession, way: str, make: Callable[[], Raw]
) -> None:
    host, ask = WAYS[way]
    large = make()
    internet.say(host, large)
    tracemalloc.start()
    try:
        failure = await ask(session)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(failure, Unreadable)
    assert "larger than" in failure.message
    assert peak < 4 * LARGEST_PAGE
    assert len(internet.of(host)) == 1
    await internet.closed.wait()


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_that_drips_in_for_ever_is_left(
    internet: Internet, session: AzureSession, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (answer_gate, "cmk_operator.azure.call_budget"):
        monkeypatch.setattr(f"{module.__name__ if not isinstance(module, str) else module}.LONGEST_ANSWER", 0.3)
    host, ask = WAYS[way]
    internet.say(host, Raw(itertools.chain([b"HTTP/1.1 200 OK\r\n"], (f"X-{n}: y\r\n".encode() for n in range(60)))))
    failure = await ask(session)
    assert failure is not None
    assert failure.code == "Timeout"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [302, 308])
async def test_no_redirect_is_followed(internet: Internet, session: AzureSession, way: str, status: int) -> None:
    host, ask = WAYS[way]
    internet.say(host, answer({}, status, {"Location": f"https://{ELSEWHERE}/{way}"}))
    internet.say(ELSEWHERE, answer({}))
    failure = await ask(session)
    assert failure is not None
    assert failure.transient
    assert failure.code == "AnotherHostError"
    assert not internet.of(ELSEWHERE)
    assert len(internet.of(host)) == 1


@pytest.mark.parametrize(
    "link", [f"https://{ELSEWHERE}/next", "http://management.azure.com/next", f"{ARM}.elsewhere.example/x"]
)
async def test_no_link_of_a_list_leads_a_token_elsewhere(internet: Internet, session: AzureSession, link: str) -> None:
    internet.say(MANAGEMENT, answer({"value": [], "nextLink": link}))
    assert await accounts(session) is not None
    assert {one.host for one in internet.asked} == {ENTRA, MANAGEMENT}
    with pytest.raises(EXPECTED_FAILURES):
        _ = [page async for page in session.resource_manager(CHAIN).pages("/subscriptions", {})]
    assert {one.host for one in internet.asked} == {ENTRA, MANAGEMENT}


@pytest.mark.parametrize(
    "url",
    [
        f"https://{ELSEWHERE}/operations/1",
        "https://management.azure.com@elsewhere.example/1",
        "https://management.azure.com.elsewhere.example/1",
        "http://management.azure.com/1",
        "",
        "snowflake:deactivate",
    ],
)
async def test_no_operation_in_a_status_leads_a_token_elsewhere(internet: Internet, session: AzureSession, url: str) -> None:
    assert await ask_after(session, CHAIN, url) == Ended()
    assert not internet.asked


GOOD_CHALLENGE = CHALLENGE.format(tenant=CUSTOMER)


@pytest.mark.parametrize(
    "challenge",
    [
        GOOD_CHALLENGE.replace("https://vault.azure.net", "https://management.azure.com"),
        GOOD_CHALLENGE.replace("https://vault.azure.net", "https://elsewhere.example"),
        GOOD_CHALLENGE.replace("https://vault.azure.net", "https://net"),
        f'{GOOD_CHALLENGE}, scope="https://graph.microsoft.com/.default"',
        f'{GOOD_CHALLENGE}, scope="https://azure.net/.default"',
        GOOD_CHALLENGE.replace(CUSTOMER, SUBSCRIPTION),
        "Bearer",
        "Bearer nothing",
        'Bearer resource="https://vault.azure.net"',
        'Bearer authorization="https://[", resource="https://vault.azure.net"',
        'Bearer authorization="https://login.microsoftonline.com/", resource="https://["',
        "x" * 4000,
    ],
)
async def test_no_challenge_of_a_vault_makes_a_token_for_anything_else(
    internet: Internet, session: AzureSession, challenge: str
) -> None:
    internet.say(VAULT, answer({"error": {"code": "Unauthorized"}}, 401, {"WWW-Authenticate": challenge}))
    failure = await key(session)
    assert failure is not None
    assert not any("authorization" in one.headers for one in internet.of(VAULT))
    bought = [one.body.decode() for one in internet.of(ENTRA) if CUSTOMER in one.path]
    assert not bought


async def test_a_challenge_that_names_another_authority_changes_nothing(internet: Internet, session: AzureSession) -> None:
    challenge = GOOD_CHALLENGE.replace(ENTRA, ELSEWHERE)
    internet.say(VAULT, answer({"error": {"code": "Unauthorized"}}, 401, {"WWW-Authenticate": challenge}))
    internet.say(ELSEWHERE, usual_token)
    assert await key(session) is not None
    assert not internet.of(ELSEWHERE)


NOT_READABLE = {
    "html": b"<html>a proxy's page</html>",
    "null": b"null",
    "list": b"[]",
    "number": b"5",
    "text": b'"x"',
    "half": b'{"value": [',
    "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep enough": b'{"a":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}",
    "nan": b'{"a": NaN}',
    "infinite": b'{"a": 1e999}',
    "huge": b'{"a": ' + b"9" * 5000 + b"}",
    "large": b'{"a": 99999999999999999999}',
    "no utf-8": b'{"a": "\xff"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", NOT_READABLE.values(), ids=NOT_READABLE.keys())
async def test_what_is_no_readable_object_is_one_value(
    internet: Internet, session: AzureSession, way: str, body: bytes
) -> None:
    host, ask = WAYS[way]
    internet.say(host, answer(body, headers={"Content-Type": "text/xml; charset=zlib_codec"}))
    assert isinstance(await ask(session), Unreadable)


@pytest.mark.parametrize("way", WAYS)
async def test_an_error_that_nobody_can_read_is_known_by_its_status(
    internet: Internet, session: AzureSession, way: str
) -> None:
    host, ask = WAYS[way]
    for status, (name, body) in itertools.product((403, 503), NOT_READABLE.items()):
        internet.say(host, answer(body, status))
        failure = await ask(session)
        assert failure is not None
        assert (failure.status, failure.code) == (status, f"Http{status}"), name


@pytest.mark.parametrize("way", WAYS)
async def test_an_encoding_that_was_not_kept_is_a_listed_failure(internet: Internet, session: AzureSession, way: str) -> None:
    host, ask = WAYS[way]
    for encoding in ("gzip", "deflate", "br", "zstd", "compress", "gzip, gzip", "\xff"):
        internet.say(host, answer(b"not packed at all", headers={"Content-Encoding": encoding}))
        assert await ask(session) is not None, encoding


async def test_what_is_packed_is_read(internet: Internet, session: AzureSession) -> None:
    body = gzip.compress(json.dumps({"id": str(ACCOUNT), "properties": {}}).encode())
    internet.say(MANAGEMENT, answer(body, headers={"Content-Encoding": "gzip"}))
    await StorageAccounts(session).read(CHAIN, ACCOUNT)


async def test_half_a_surrogate_spoils_nothing(internet: Internet, session: AzureSession) -> None:
    internet.say(MANAGEMENT, answer(b'{"name": "\\ud800", "displayName": "\\uD83D\\uDE00"}'))
    assert await session.resource_manager(CHAIN).call("GET", "/x") == {"name": "?", "displayName": "\U0001f600"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"access_token": "x"},
        {"access_token": 5, "expires_in": 10},
        {"access_token": "a\r\nb", "expires_in": 10},
        {"access_token": "x", "expires_in": 100_000_000},
        {"access_token": "x", "expires_in": -1},
        {"access_token": "x", "expires_in": True},
        {"access_token": "x", "expires_in": "soon"},
        {"access_token": "x", "expires_in": [1]},
    ],
    ids=str,
)
async def test_a_token_answer_without_a_token_for_a_time_is_unreadable(
    internet: Internet, session: AzureSession, body: Any
) -> None:
    internet.say(ENTRA, answer(body))
    assert isinstance(await token(session), Unreadable)


def test_of_a_token_answer_nothing_is_passed_on_that_a_library_would_parse() -> None:
    given_back = {"access_token": "x", "expires_in": "3599", "id_token": "[[", "client_info": 7, "expires_on": "never"}
    assert read_token_answer(given_back) == {"access_token": "x", "expires_in": 3599, "token_type": "Bearer"}


ODD_HEADERS = {
    "Retry-After": "100000000",
    "x-ms-request-id": "r" * 4000,
    "Content-Type": "application/xml; charset=rot13",
    "WWW-Authenticate": 'Bearer error="insufficient_claims", claims="%%%"',
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [401, 429, 503])
async def test_a_wait_that_is_asked_for_is_bounded(internet: Internet, session: AzureSession, way: str, status: int) -> None:
    host, ask = WAYS[way]
    internet.say(host, answer({"error": {"code": "Busy", "message": "\x1b[31m\u202e" + "x" * 9000}}, status, ODD_HEADERS))
    failure = await ask(session)
    assert failure is not None
    assert failure.retry_after is None or failure.retry_after <= LONGEST_RETRY_AFTER
    assert all(state.closed_for <= LONGEST_RETRY_AFTER for state in session.budget_state())
    for text in (failure.message, failure.code, failure.request_id or ""):
        assert text.isprintable()
        assert len(text) <= 1000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("7", 7.0), ("1e8", LONGEST_RETRY_AFTER), ("-3", 0.0), ("nan", None), ("inf", None), ("soon", None), ("", None)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_waits(text: str, seconds: float | None) -> None:
    assert read_wait(text) == seconds


@given(st.text())
def test_any_wait_is_bounded_or_none(text: str) -> None:
    for found in (read_wait(text), seconds_to_wait({"retry-after": text}), seconds_to_wait({"retry-after-ms": text})):
        assert found is None or 0 <= found <= LONGEST_RETRY_AFTER


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary() | JSON.map(lambda found: json.dumps(found).encode()))
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 200_000)
@example(b'{"a":' * 200_000)
def test_any_bytes_are_an_object_or_unreadable(content: bytes) -> None:
    with suppress(UnreadableError):
        found = read_object(content)
        assert isinstance(found, dict)
        assert all(math.isfinite(one) and abs(one) <= 1 << 63 for one in found.values() if isinstance(one, int))


@pytest.mark.parametrize("value", [b"{}", b"[]", b"0", b'"ab"', b'{"a":{}}'])
def test_many_small_values_take_no_more_memory_than_a_large_answer(value: bytes) -> None:
    content = b'{"value":[' + b",".join([value] * (LARGEST_PAGE // (len(value) + 1) - 9)) + b"]}"
    assert len(content) < LARGEST_PAGE, "by its bytes it may pass"
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableError, match="more than 400000 values"):
            read_object(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < LARGEST_ANSWER


async def test_texts_are_printable_and_bounded_once_they_are_in(internet: Internet, session: AzureSession) -> None:
    hostile, long = "a\x1b[31m\u202e\x9b\r\n\ufeff\u2028b", "x" * 100_000
    body = {
        "name": hostile,
        hostile: 1,
        "long": long,
        "nextLink": long,
        "inner": [{"deep": hostile}],
        "plain": "\u00e9 \U0001f600",
    }
    headers = {"x-ms-request-id": "r\xe9\xff", "x-ms-keyvault-region": "west\tus"}
    internet.say(
        MANAGEMENT, answer(body, headers=headers), answer(json.dumps(body, ensure_ascii=False).encode(), headers=headers)
    )
    for _ in range(2):
        found = await session.resource_manager(CHAIN).send("GET", "/x")
        cleaned = "a [31m      b"
        assert found.body["name"] == cleaned
        assert found.body[cleaned] == 1
        assert found.body["inner"] == [{"deep": cleaned}]
        assert found.body["plain"] == body["plain"]
        assert (len(found.body["long"]), len(found.body["nextLink"])) == (LONGEST_TEXT, LONGEST_LINK)
        assert found.request_id is not None
        assert found.request_id.isascii()
        assert found.request_id.isprintable()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"a\\u001bb", "a b"),
        ("a\u202eb".encode(), "a b"),
        (b"a\x7fb", "a b"),
        (b"x" * (LONGEST_TEXT + 1), "x" * LONGEST_TEXT),
        (b"x" * LONGEST_TEXT, "x" * LONGEST_TEXT),
    ],
)
async def test_one_text_alone_is_enough_to_have_an_answer_cleaned(
    text: bytes, kept: str, internet: Internet, session: AzureSession
) -> None:
    internet.say(MANAGEMENT, answer(b'{"first":"plain","inner":[{"text":"' + text + b'"}],"last":"plain"}'))
    found = await session.resource_manager(CHAIN).send("GET", "/x")
    assert found.body == {"first": "plain", "inner": [{"text": kept}], "last": "plain"}


async def test_no_refusal_of_the_token_endpoint_is_read_as_a_token(internet: Internet, session: AzureSession) -> None:
    for status, body in itertools.product((400, 403, 500), ({}, {"error": "x"})):
        internet.say(ENTRA, answer({**TOKEN, "expires_in": None, "expires_on": "never", **body}, status))
        failure = await token(session)
        assert failure is not None
        assert failure.status == status


SEEN = {"id": str(ACCOUNT), "properties": {"fullyQualifiedDomainName": "of a server"}}


@pytest.mark.parametrize("odd", [None, 5, "x", [], {}, {"id": 5}, {"id": "/x"}, {"id": "/x", "properties": None}], ids=str)
async def test_one_odd_object_in_a_list_spoils_only_itself(internet: Internet, session: AzureSession, odd: Any) -> None:
    internet.say(MANAGEMENT, answer({"value": [odd, SEEN], "nextLink": f"{ARM}/next"}), answer({"value": [SEEN, odd]}))
    for source in (StorageAccounts(session), DiskEncryptionSets(session), Disks(session), SqlClient(session)):
        internet.say(MANAGEMENT, answer({"value": [odd, SEEN], "nextLink": f"{ARM}/next"}), answer({"value": [SEEN, odd]}))
        found = [entry async for page in source.pages(CHAIN, SUBSCRIPTION) for entry in page]
        assert [name for name, facts in found if facts is not None] == [str(ACCOUNT), str(ACCOUNT)]
        known = odd["id"] if isinstance(odd, dict) and isinstance(odd.get("id"), str) else ""
        assert [name for name, facts in found if facts is None] == [known, known], "and it is not left out without a word"


async def test_an_odd_object_is_unreadable_where_it_is_asked_for(internet: Internet, session: AzureSession) -> None:
    odd = {"id": f"{ACCOUNT}2", "properties": None}
    internet.say(MANAGEMENT, lambda asked: answer({"value": [odd, SEEN]} if "storageAccounts?" in asked.path else odd))
    listing = Listing(session, StorageAccounts(session), 60.0)
    await listing.get(CHAIN, ACCOUNT, 60.0)
    with pytest.raises(EXPECTED_FAILURES) as raised:
        await listing.get(CHAIN, ArmId(f"{ACCOUNT}2"), 60.0)
    assert isinstance(failure_of(raised.value), Unreadable)


@pytest.mark.parametrize("make", [bomb, endless, announced])
async def test_of_a_receiver_and_an_audit_sink_no_body_is_read(internet: Internet, make: Callable[[], Raw]) -> None:
    internet.say(ELSEWHERE, lambda _: make())
    receivers = Receivers()
    tracemalloc.start()
    try:
        assert await receivers.send(f"https://{ELSEWHERE}/", Message("1", "application/json", "{}"), None) is None
        async with AuditSink(f"https://{ELSEWHERE}/") as sink:
            assert await sink.send(["{}"]) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await receivers.close()
    assert peak < 4 * LARGEST_ANSWER


async def test_credentials_are_read_to_the_last_page_also_past_an_empty_one(internet: Internet, session: AzureSession) -> None:
    def said(asked: Asked) -> Raw:
        if "federatedIdentityCredentials" not in asked.path:
            return answer({"id": "1", "displayName": "App", "signInAudience": "AzureADMultipleOrgs"})
        if "skiptoken" in asked.path:
            entry = {"name": "one", "issuer": "https://issuer.example", "subject": "a", "audiences": ["b"]}
            return answer({"value": [entry]})
        more = f"https://{GRAPH}/v1.0/applications/1/federatedIdentityCredentials?$skiptoken=0.1"
        return answer({"value": [], "@odata.nextLink": more})

    internet.say(GRAPH, said)
    found = await read_application(session, CHAIN)
    assert not isinstance(found, AzureFailure)
    assert [one.name for one in found.federated_credentials] == ["one"]


async def test_each_request_goes_to_its_own_host(internet: Internet, session: AzureSession) -> None:
    def said(asked: Asked) -> Raw:
        return answer({"id": "1", "value": [], "properties": {}}) if "authorization" in asked.headers else answer({}, 401)

    for host in (MANAGEMENT, GRAPH):
        internet.say(host, said)
    await StorageAccounts(session).read(CHAIN, ACCOUNT)
    await read_application(session, CHAIN)
    assert [one.host for one in internet.asked] == [ENTRA, MANAGEMENT, ENTRA, GRAPH, GRAPH]


VAULT_BODY: dict[str, Any] = {
    "id": f"{GROUP}/providers/Microsoft.KeyVault/vaults/acme",
    "properties": {"vaultUri": f"https://{VAULT}/", "enablePurgeProtection": True, "softDeleteRetentionInDays": 90},
}


async def test_what_a_vault_showed_is_claimed_for_a_while_and_not_for_ever(internet: Internet, session: AzureSession) -> None:
    clock = Clock()
    session.monotonic = clock
    vaults = VaultReader(session, 100.0)
    vault = ReadVault(CHAIN, CUSTOMER, VAULT, ArmId(str(VAULT_BODY["id"])))
    internet.say(MANAGEMENT, lambda asked: answer({"value": []} if "/locks" in asked.path else VAULT_BODY))
    seen = await vaults.read(vault, 0.0)
    assert isinstance(seen, VaultFacts)
    for body in (b"<html>", {}, {**VAULT_BODY, "properties": {**VAULT_BODY["properties"], "softDeleteRetentionInDays": True}}):
        internet.say(MANAGEMENT, answer(body))
        clock.now = 99.0
        assert await vaults.read(vault, 0.0) is seen, body
    clock.now = 101.0
    assert await vaults.read(vault, 0.0) is VaultNotVisible.NO_ANSWER
    internet.say(MANAGEMENT, lambda asked: answer({"value": []} if "/locks" in asked.path else VAULT_BODY))
    clock.now = 102.0
    assert await vaults.read(vault, 0.0) == seen


def key_answers(kid: str, operated: str, sent: list[str]) -> Callable[[Asked], Raw]:
    """A vault that answers a read with `kid`, and each operation with `operated`; it unwraps what it wrapped."""

    def said(asked: Asked) -> Raw:
        if "authorization" not in asked.headers:
            return answer({}, 401, {"WWW-Authenticate": GOOD_CHALLENGE})
        if asked.method == "POST":
            sent.append(json.loads(asked.body)["value"])
            return answer({"kid": operated, "value": sent[0]})
        found = {"kid": kid, "kty": "RSA", "n": "AQAB", "e": "AQAB", "key_ops": ["wrapKey", "unwrapKey"]}
        return answer({"key": found, "attributes": {"enabled": True, "created": 1}})

    return said


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize(
    "other",
    [
        f"https://{VAULT}/keys/other/{V1}",
        f"https://other.vault.azure.net/keys/storage/{V1}",
        f"https://{VAULT}/keys/storage",
        f"https://{ELSEWHERE}/keys/storage/{V1}",
        f"https://{VAULT}/secrets/storage/{V1}",
        "",
    ],
)
async def test_an_answer_about_another_key_proves_nothing(
    internet: Internet, session: AzureSession, other: str, *, pinned: bool
) -> None:
    wanted = KEY.key_uri.at(V1)
    probed = ProbedKey(CHAIN, CUSTOMER, wanted) if pinned else KEY
    internet.say(VAULT, key_answers(other, str(wanted), []))
    assert isinstance((await probe_key(session, probed, (), NOW, denied)).probe.wanted.failure, Unreadable)


@pytest.mark.parametrize("operated", ["", f"https://{VAULT}/keys/storage/{V2}", f"https://{VAULT}/keys/other/{V1}"])
async def test_an_operation_of_another_version_proves_nothing(internet: Internet, session: AzureSession, operated: str) -> None:
    asked = ProbedKey(CHAIN, CUSTOMER, KEY.key_uri.at(V1))
    internet.say(VAULT, key_answers(str(asked.key_uri), operated, []))
    assert isinstance((await probe_key(session, asked, (), NOW, denied)).probe.wanted.failure, Unreadable)
    internet.say(VAULT, key_answers(str(asked.key_uri), str(asked.key_uri), []))
    assert (await probe_key(session, asked, (), NOW, denied)).probe.wanted.round_trip, "and of this one it does"
    internet.say(VAULT, key_answers(str(KEY.key_uri.at(V2)), str(asked.key_uri), []))
    found = (await probe_key(session, asked, (), NOW, denied)).probe.wanted
    assert isinstance(found.failure, Unreadable), "another version than the manifest's"
