"""What the proxy between a client and an API server holds back."""

from __future__ import annotations

import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import pytest

from sandbox.kubernetes.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

HELD = b"POST /held HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


class Upstream(ThreadingHTTPServer):
    """An API server that takes everything and writes down the paths."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: list[str] = []


class Proxy(FaultProxy):
    """The proxy, in which two things may happen within one turn of its loop."""

    def lose_and_clear(self, connection: socket.socket) -> None:
        """Close a sender's end and let go on what is held, before the loop sees the end."""

        def both() -> None:
            connection.close()
            self._clear()

        self._call(both)


class _Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        self.send_response(201)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[Proxy]:
    with Proxy(f"http://127.0.0.1:{upstream.server_port}", Path(certifi.where())) as running:
        yield running


def _address(proxy: Proxy) -> tuple[str, int]:
    return "127.0.0.1", int(proxy.url.rpartition(":")[2])


def _post(proxy: Proxy, path: str, body: bytes = b"{}") -> int:
    connection = http.client.HTTPConnection(*_address(proxy), timeout=10)
    connection.request("POST", path, body)
    status = connection.getresponse().status
    connection.close()
    return status


def _hold(proxy: Proxy) -> socket.socket:
    """A connection with a request that is held."""
    fault = proxy.inject("hold", path="/held")
    connection = socket.create_connection(_address(proxy))
    connection.sendall(HELD)
    while not fault.hits:
        proxy.requests()  # a turn of the proxy's loop
    return connection


def test_what_is_held_goes_nowhere_once_its_sender_is_gone(proxy: Proxy, upstream: Upstream) -> None:
    proxy.lose_and_clear(_hold(proxy))
    assert _post(proxy, "/later") == 201
    assert upstream.paths == ["/later"]


def test_a_fault_meets_only_the_requests_whose_body_it_names(proxy: Proxy) -> None:
    proxy.inject("answer", path="/x", status=418, containing="b", times=None)
    assert [_post(proxy, "/x", body) for body in (b"a", b"abc", b"")] == [201, 418, 201]


def test_what_is_held_goes_on_when_it_is_released(proxy: Proxy, upstream: Upstream) -> None:
    with _hold(proxy) as connection:
        proxy.clear()
        assert connection.recv(12) == b"HTTP/1.1 201"
    assert upstream.paths == ["/held"]
