"""The listener by itself: what a connection may send before anybody is known, and a certificate that does not fit its key."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import uvicorn
from uvicorn.server import ServerState

from cmk_keyservice.http.server import EXCHANGE, BoundedProtocol, Certificate

if TYPE_CHECKING:
    from pathlib import Path

HEADERS = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"


class Patient(BoundedProtocol):
    header_seconds = 3600.0


async def _unknown(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    "begun",
    [b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nx-filler: ", HEADERS + b"\r\n0\r\nx-filler: ", HEADERS + b"\r\n1;"],
    ids=["request line", "name of a header", "header", "trailer", "chunk extension"],
)
async def test_one_line_without_end_ends_the_connection_before_it_fills_memory(begun: bytes) -> None:
    config, state = uvicorn.Config(_unknown, lifespan="off", log_config=None, ws="none"), ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: Patient(config, state, {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(begun + b"a" * (1 << 20))
        # Closed with bytes unread, a connection may also be reset.
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 30)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_body_of_any_size_is_no_line_without_end() -> None:
    config, state = uvicorn.Config(_unknown, lifespan="off", log_config=None, ws="none"), ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: Patient(config, state, {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        size = 4 << 20
        writer.write(HEADERS + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size)))
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answers = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        await writer.wait_closed()
    assert answers.count(b"HTTP/1.1 401") == 2


async def test_what_a_request_held_is_free_once_it_is_answered_and_does_not_wait_for_the_collector() -> None:
    async def answered(scope: Any, receive: Any, send: Any) -> None:
        body = scope[EXCHANGE].body()
        while body is None:  # not all of it has come
            message = await receive()
            body = None if message["more_body"] else b""
        assert scope[EXCHANGE].answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    def held() -> int:
        return sum(type(each).__name__ in {"RequestResponseCycle", "Exchange"} for each in gc.get_objects())

    config, state = uvicorn.Config(answered, lifespan="off", log_config=None, ws="none"), ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: Patient(config, state, {}), "127.0.0.1", 0)
    before, was_enabled = held(), gc.isenabled()
    gc.disable()
    try:
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for _ in range(20):
                writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n" + bytes(1000))
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert held() - before <= 4  # the last request, and the one before it
            writer.close()
            await writer.wait_closed()
    finally:
        if was_enabled:
            gc.enable()


def test_a_certificate_that_does_not_fit_its_key_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    authority = trustme.CA()
    first, second = authority.issue_cert("localhost"), authority.issue_cert("localhost")

    def write(certificate: trustme.LeafCert, key: trustme.LeafCert) -> None:
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
        key.private_key_pem.write_to_path(tmp_path / "tls.key")

    write(first, first)
    shown = Certificate(tmp_path / "tls.crt", tmp_path / "tls.key", lambda _expires: None)
    shown.load()
    before = _seen_by_a_caller(shown, authority)
    write(second, first)
    with pytest.raises(ssl.SSLError):
        shown.load()
    assert _seen_by_a_caller(shown, authority) == before
    write(second, second)
    shown.load()
    assert _seen_by_a_caller(shown, authority) != before


def _seen_by_a_caller(shown: Certificate, authority: trustme.CA) -> bytes | None:
    """The certificate that a whole handshake shows, without a socket."""
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = trust.wrap_bio(down, up, server_hostname="localhost")
    server = shown.context.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for side in (caller, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return caller.getpeercert(binary_form=True)
