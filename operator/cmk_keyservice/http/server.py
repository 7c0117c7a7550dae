"""The listeners: uvicorn with bounds on what arrives before a caller is known, and a certificate that may be renewed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

import uvicorn
from cryptography import x509
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp

MOST_HEADER_BYTES: Final = 32 * 1024
"""Most bytes of a request line and headers; the longest ServiceAccount tokens have about 2 KiB."""
HEADER_SECONDS: Final = 10.0
"""Most seconds from the first byte of a request, or from the connection, until its headers are complete."""
MOST_CONNECTIONS: Final = 1_000
CHECK_CERTIFICATE_EVERY: Final = 5.0
CLOSE_SECONDS: Final = 0.5
"""Seconds for a caller whose connection is idle to answer the end of TLS."""
EXCHANGE: Final = "cmk_keyservice.exchange"
"""Where a request's scope has its `Exchange`; another server than this one gives none."""
_LOG: Final = logging.getLogger(__name__)


class HeadersTooLargeError(Exception):
    """A request line and headers of more than `MOST_HEADER_BYTES`; httptools answers 400 and closes."""


class Exchange:
    """One request and its answer, without ASGI's events where each is whole: most are, and each event has its price.

    The cycle has the scope, and the scope has this: it holds the cycle weakly, or each body would stay in memory until the
    garbage collector comes, which is thousands of requests later.
    """

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = ref(cycle)

    def body(self) -> bytes | bytearray | None:
        """The whole body, once; None: the caller is still sending, waits for `100 Continue`, or is gone, and ASGI tells which."""
        cycle = self._cycle()
        if cycle is None or cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected:
            return None
        body, cycle.body = cycle.body, bytearray()
        return body

    def answer(self, data: bytes) -> bool:
        """Send status line, headers and body in one write; False: it was not sent, because the connection ends or is full."""
        cycle = self._cycle()
        if cycle is None or not cycle.keep_alive or cycle.disconnected or cycle.response_started or cycle.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(data)
        cycle.message_event.set()
        cycle.on_response()
        return True


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a bound on the size of headers and on the time that they may take: uvicorn itself has neither."""

    header_seconds = HEADER_SECONDS
    _header_bytes = 0
    _unread_bytes = 0
    """Bytes since the parser last passed something on. It keeps a header, or a trailer after a body, in memory until its end."""
    _in_headers = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._end_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on. Headers that are complete at once, as most are, need no time limit."""
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > MOST_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("A header is too large.")
        if self._in_headers and self._deadline is None:
            self._start_deadline()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._header_bytes = self._unread_bytes = 0
        self._in_headers = True
        self._end_deadline()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Bound the request line."""
        self._bound(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Bound the headers."""
        self._bound(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """From here on, the body has bounds of its own."""
        self._in_headers = False
        self._unread_bytes = 0
        self._end_deadline()
        super().on_headers_complete()
        self.scope[EXCHANGE] = Exchange(self.cycle)  # type: ignore[typeddict-unknown-key]  # a key of our own

    def on_body(self, body: bytes) -> None:
        """The parser kept nothing back."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser kept nothing back."""
        self._unread_bytes = 0
        super().on_message_complete()

    def _bound(self, more: int) -> None:
        self._unread_bytes = 0
        self._header_bytes += more
        if self._header_bytes > MOST_HEADER_BYTES:
            raise HeadersTooLargeError

    def _start_deadline(self) -> None:
        self._end_deadline()
        self._deadline = self.loop.call_later(self.header_seconds, self.transport.close)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Listener(uvicorn.Server):
    """One listener; the composition root decides about signals, so it takes none."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close idle connections, also those whose caller does not answer; then wait for the requests that run."""
        for server in self.servers:
            server.close()
        for connection in self._idle():
            connection.transport.close()
        await asyncio.sleep(CLOSE_SECONDS)
        for connection in self._idle():
            connection.transport.abort()
        await super().shutdown(sockets)

    def _idle(self) -> list[BoundedProtocol]:
        connections = [each for each in self.server_state.connections if isinstance(each, BoundedProtocol)]
        return [each for each in connections if each.cycle is None or each.cycle.response_complete]

    async def serve_until(self, stop: asyncio.Event, listening: socket.socket) -> None:
        """Serve the socket until `stop` is set, then let running requests end."""
        serving = asyncio.ensure_future(self.serve([listening]))
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        self.should_exit = True
        stopped.cancel()
        await serving


def listener(app: ASGIApp, tls: ssl.SSLContext | None, grace: float) -> Listener:
    """A listener for an application, which lets requests end for `grace` seconds when it stops."""
    made: dict[str, Any] = {}
    if tls is not None:
        made["ssl_context_factory"] = lambda _config, _default: tls
    return Listener(
        uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            backlog=MOST_CONNECTIONS,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(grace)),
            **made,
        )
    )


class Certificate:
    """The certificate that callers are shown. Its files may be replaced at any time, as a projected Secret is."""

    def __init__(self, certificate: Path, key: Path, expires: Callable[[float], None]) -> None:
        self._certificate, self._key, self._expires = certificate, key, expires
        self._seen: bytes = b""
        self.context: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])

    def load(self) -> None:
        """Read the files if they have changed; open connections keep what they have.

        Raises `OSError` and `ValueError` (ssl.SSLError among them) for files that are no certificate and its key.
        """
        text = self._certificate.read_bytes()
        found = text + self._key.read_bytes()
        if found == self._seen:
            return
        expires = x509.load_pem_x509_certificate(text).not_valid_after_utc
        # A certificate that does not fit its key would leave a context without a key: so it is tried on another one first.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
        self.context.load_cert_chain(self._certificate, self._key)
        self._seen = found
        self._expires(expires.timestamp())
        _LOG.info("the TLS certificate is loaded", extra={"expires": expires.isoformat()})

    async def follow(self) -> None:
        """Look at the files again and again."""
        while True:
            await asyncio.sleep(CHECK_CERTIFICATE_EVERY)
            try:
                self.load()
            except (OSError, ValueError) as error:
                _LOG.error("the TLS certificate in %s cannot be loaded, the old one stays: %s", self._certificate, error)
