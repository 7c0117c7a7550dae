"""A receiver of CloudEvents as a customer's platform would run one: HTTPS on loopback, in a thread of its own."""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import trustme
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cloudevents.core.base import BaseCloudEvent


@dataclass(frozen=True)
class Posted:
    """One request as it arrived."""

    headers: Mapping[str, str]
    path: str
    body: str
    answer: int

    @property
    def event(self) -> BaseCloudEvent:
        return from_http_event(HTTPMessage({"content-type": self.headers["content-type"]}, self.body.encode()))


@dataclass
class Receiver:
    """Answers `answer` (with `headers`) to each event; it can be closed and opened again on the same port."""

    certificates: Path
    answer: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """These bytes instead of an answer, repeated until the client is gone if they are the start of a body."""
    posted: list[Posted] = field(default_factory=list)
    port: int = 0
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/events?code=a%2Fb%20not-for-anybody"

    @property
    def taken(self) -> list[Posted]:
        """What was answered with success."""
        return [one for one in self.posted if 200 <= one.answer < 300]

    def types(self, name: str = "") -> list[str]:
        """Types of the events taken, without the common prefix, of one object or of all."""
        events = [one.event for one in self.taken]
        return [
            event.get_type().removeprefix("dev.cmk-operator.") for event in events if not name or _data(event)["name"] == name
        ]

    def open(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.posted.append(Posted(headers, self.path, body, receiver.answer))
                if receiver.raw is not None:
                    self._send_raw(receiver.raw)
                    return
                self.send_response(receiver.answer)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _send_raw(self, raw: bytes) -> None:
                self.close_connection = True
                with suppress(OSError):
                    self.wfile.write(raw)
                    while raw.startswith(b"HTTP/"):
                        self.wfile.write(b" " * 0x10000)

            def log_message(self, *unused: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates)
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _data(event: BaseCloudEvent) -> dict[str, Any]:
    data = event.get_data()
    assert isinstance(data, dict)
    return data


def trusted_certificate(directory: Path, bundle: Path) -> Path:
    """A server certificate for loopback whose authority is added to the bundle that the operator trusts."""
    authority = trustme.CA(organization_name="a receiver's authority")
    certificates = directory / "receiver.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificates))
    authority.cert_pem.write_to_path(str(bundle), append=True)
    return certificates
