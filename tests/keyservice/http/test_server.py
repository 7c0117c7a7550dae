"""The listener by itself: what a connection may send before anybody is known."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from cmk_keyservice.http.server import BoundedProtocol

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
