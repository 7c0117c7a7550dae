"""What no caller may do: too much, too slowly, malformed, unknown; and what the answers say then."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from cmk_keyservice.http.bodies import LARGEST_PLAINTEXT, MOST_BYTES, MOST_ITEMS
from cmk_keyservice.http.server import MOST_HEADER_BYTES, BoundedProtocol
from tests.keyservice.http.world import encoded

if TYPE_CHECKING:
    from tests.keyservice.http.world import ServedProcess

pytestmark = pytest.mark.cluster
PATH = "/v1/organizations/acme/encrypt"
ITEM = {"plaintext": "", "purpose": "orders"}


async def _problem(served: ServedProcess, body: bytes | io.BytesIO, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and code of the problem that a raw body gets."""
    async with served.caller() as caller:
        sent = {"Content-Type": "application/json", **(headers or {})}
        async with caller.session.post(PATH, data=body, headers=sent) as answer:
            assert answer.content_type == "application/problem+json"
            problem = await answer.json(content_type=None)
            assert problem["status"] == answer.status
            return answer.status, problem["code"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "BodyNotAsDescribed"),
        (b"{", 400, "BodyNotAsDescribed"),
        (b"[]", 400, "BodyNotAsDescribed"),
        (b"\xff", 400, "BodyNotAsDescribed"),
        (b'{"plaintext": "", "purpose": "\\ud800"}', 400, "BodyNotAsDescribed"),
        (b"[" * 100_000, 400, "BodyNotAsDescribed"),
        (b'{"items": ' + b"[" * 100_000, 400, "BodyNotAsDescribed"),
        (b'{"plaintext": "", "purpose": "orders", "more": 1}', 400, "BodyNotAsDescribed"),
        (b'{"plaintext": "", "purpose": "orders", "items": []}', 400, "BodyNotAsDescribed"),
        (b'{"items": []}', 400, "BodyNotAsDescribed"),
        (b'{"plaintext": "A", "purpose": "orders"}', 400, "BodyNotAsDescribed"),
        (b'{"plaintext": "AA==", "purpose": "Orders"}', 400, "BodyNotAsDescribed"),
        (b'{"plaintext": "AA==", "purpose": "orders\\n"}', 400, "BodyNotAsDescribed"),
        (b'{"plaintext": "AA==", "purpose": "orders", "service": "a/b/c"}', 400, "BodyNotAsDescribed"),
        (b'{"plaintext": "AA==", "purpose": "orders", "service": "a/b\\n"}', 400, "BodyNotAsDescribed"),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_a_body_that_is_not_as_described_is_refused(served: ServedProcess, body: bytes, status: int, code: str) -> None:
    assert await _problem(served, body) == (status, code)


async def test_a_batch_a_plaintext_and_a_body_have_a_largest_size(served: ServedProcess) -> None:
    async with served.caller() as caller:
        full = [ITEM] * MOST_ITEMS
        assert (await caller.post("encrypt", {"items": full}))[0] == 200
        assert (await caller.post("encrypt", {"items": [*full, ITEM]}))[0] == 400
        for size, status in ((LARGEST_PLAINTEXT, 200), (LARGEST_PLAINTEXT + 1, 400)):
            body = io.BytesIO(json.dumps({"plaintext": encoded(bytes(size)), "purpose": "orders"}).encode())
            async with caller.session.post(PATH, data=body, headers={"Content-Type": "application/json"}) as answer:
                assert answer.status == status
    assert await _problem(served, io.BytesIO(b" " * (MOST_BYTES + 1))) == (413, "BodyTooLarge")


async def test_a_body_without_a_length_is_read_no_further_than_the_bound(served: ServedProcess) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65536

    async with served.caller() as caller:
        headers = {"Content-Type": "application/json"}
        async with caller.session.post(PATH, data=endless(), headers=headers) as answer:
            assert answer.status == 413
            assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}, {"Content-Type": "application/x-www-form-urlencoded"}],
)
async def test_only_json_as_it_is_is_read(served: ServedProcess, headers: dict[str, str]) -> None:
    assert await _problem(served, json.dumps(ITEM).encode(), headers) == (415, "NotJson")


async def test_json_with_a_charset_is_json(served: ServedProcess) -> None:
    async with served.caller() as caller:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        async with caller.session.post(PATH, data=json.dumps(ITEM).encode(), headers=headers) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", PATH, 405),
        ("DELETE", "/openapi.json", 405),
        ("POST", "/v1/organizations/acme/shred", 404),
        ("POST", "/v1/organizations/acme/encrypt/", 404),
        ("POST", "/v1/organizations/Acme/encrypt", 400),
        ("POST", "/v1/organizations/acme%0A/encrypt", 400),
        ("POST", "/v1/organizations/..%2Facme/encrypt", 404),
        ("POST", "/v1/organizations/acme/data-keys/7/unwrap", 400),
        ("GET", "/metrics", 404),
        ("GET", "/", 404),
    ],
)
async def test_every_other_path_and_method_is_a_problem(served: ServedProcess, method: str, path: str, status: int) -> None:
    from yarl import URL  # noqa: PLC0415 - only here a path must arrive as it is

    async with served.caller() as caller:
        url = URL(served.url + path, encoded=True)
        async with caller.session.request(method, url, json={}) as answer:
            assert (answer.status, answer.content_type) == (status, "application/problem+json")
            if status == 405:
                assert answer.headers["Allow"] == ("POST" if method == "GET" else "GET")


def _raw(served: ServedProcess, sent: bytes) -> bytes:
    """What a connection gets for these bytes, until it is closed."""
    context = ssl.create_default_context()
    served.authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(sent)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def test_requests_of_every_form_are_answered_whole_and_in_their_order(served: ServedProcess) -> None:
    def request(method: str, body: bytes, *more: str) -> bytes:
        headers = ["host: a", f"authorization: Bearer {served.token('orders')}", "content-type: application/json", *more]
        head = "\r\n".join([f"{method} {PATH} HTTP/1.1", *headers, f"content-length: {len(body)}"])
        return head.encode() + b"\r\n\r\n" + body

    item = json.dumps(ITEM).encode()
    sent = [request("POST", item), request("POST", item, "expect: 100-continue"), request("HEAD", b""), request("POST", b"{}")]
    got = _raw(served, b"".join(sent) + request("POST", item, "connection: close"))
    assert re.findall(rb"HTTP/1.1 (\d+) ", got) == [b"200", b"100", b"200", b"405", b"400", b"200"]
    bodies = [part.partition(b"\r\n\r\n") for part in got.split(b"HTTP/1.1 ")[1:]]
    lengths = [int(found[1]) if (found := re.search(rb"content-length: (\d+)", head)) else 0 for head, _, _ in bodies]
    assert [len(body) for _, _, body in bodies] == [
        0 if head.startswith(b"405") else length for (head, _, _), length in zip(bodies, lengths, strict=True)
    ]
    assert [b"cache-control: no-store" in head for head, _, _ in bodies] == [True, False, True, True, True, True]
    assert [b"connection: close" in head for head, _, _ in bodies] == [False] * 5 + [True]


def test_headers_without_end_are_refused_before_they_fill_memory(served: ServedProcess) -> None:
    line = b"x-filler: " + b"a" * 1000 + b"\r\n"
    many = line * (MOST_HEADER_BYTES // len(line) + 2)
    assert _raw(served, b"POST / HTTP/1.1\r\nhost: a\r\n" + many).startswith(b"HTTP/1.1 400")
    assert _raw(served, b"GET /" + b"a" * (MOST_HEADER_BYTES + 1) + b" HTTP/1.1\r\n").startswith(b"HTTP/1.1 400")


async def test_headers_that_do_not_come_end_the_connection() -> None:
    class Hasty(BoundedProtocol):
        header_seconds = 0.05

    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("no request is complete")

    config, state = uvicorn.Config(never, lifespan="off", log_config=None, ws="none"), ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: Hasty(config, state, {}), "127.0.0.1", 0)
    async with server:
        for sent in (b"", b"POST / HTTP/1.1\r\nhost: a\r\n"):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(sent)
            assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()
            await writer.wait_closed()


def test_the_listener_of_callers_speaks_tls_1_2_and_later_only(served: ServedProcess) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        assert not plain.recv(1024).startswith(b"HTTP")


def test_monitoring_shows_metrics_and_health_and_no_operation(served: ServedProcess) -> None:
    assert served.monitoring("/healthz") == (200, "ok\n")
    assert served.monitoring("/readyz") == (200, "ok\n")
    status, text = served.monitoring("/metrics")
    assert status == 200
    assert "cmk_keyservice_requests_total" in text
    assert served.monitoring(PATH)[0] == 404
