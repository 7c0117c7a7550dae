"""A receiver of notifications on loopback, which answers after as long as it likes."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

import trustme

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Receiver:
    """Answers 204 after `delay` seconds; `bundle` is the file of authorities that the operator trusts. A context manager."""

    bundle: Path
    delay: float = 0.0
    arrived: list[tuple[float, str]] = field(default_factory=list)
    """When each event arrived, by the monotonic clock, and its body."""
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        """Listen on a free port, with a certificate of an authority of its own."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                receiver.arrived.append((time.monotonic(), body))
                time.sleep(receiver.delay)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *unused: object) -> None:
                pass

        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.bundle), append=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("use it as a context manager")
        return f"https://127.0.0.1:{self._server.server_address[1]}/events"
