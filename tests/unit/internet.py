"""Every host of the internet on loopback, over real TLS behind a CONNECT proxy: it answers any bytes, and keeps what was asked."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trustme

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    import pytest

HOSTS = (
    "management.azure.com",
    "login.microsoftonline.com",
    "graph.microsoft.com",
    "acme.vault.azure.net",
    "acme.snowflakecomputing.com",
    "elsewhere.example",
)


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    host: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Raw:
    """The bytes of an answer, piece by piece, without an end if they have none."""

    pieces: Iterable[bytes]


def answer(body: Any = None, status: int = 200, headers: Mapping[str, str] | None = None) -> Raw:
    """An answer with a body of bytes, or of anything as JSON."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    shown = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
    head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{name}: {value}\r\n" for name, value in shown.items()) + "\r\n"
    return Raw((head.encode("latin-1") + content,))


TOKEN = {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": "a-token"}
CHALLENGE = 'Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="https://vault.azure.net"'


def usual_token(_: Asked) -> Raw:
    return answer(TOKEN)


@dataclass
class Internet:
    """`say` answers for one host; a host that nobody answers for is not there."""

    authority: trustme.CA = field(default_factory=trustme.CA)
    asked: list[Asked] = field(default_factory=list)
    says: dict[str, Callable[[Asked], Raw]] = field(default_factory=dict)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def say(self, host: str, *answers: Raw | Callable[[Asked], Raw]) -> None:
        """Answer in this order; the last one answers all that follows."""
        left = deque(answers)

        def next_answer(asked: Asked) -> Raw:
            found = left.popleft() if len(left) > 1 else left[0]
            return found if isinstance(found, Raw) else found(asked)

        self.says[host] = next_answer

    def of(self, host: str) -> list[Asked]:
        return [one for one in self.asked if one.host == host]

    @asynccontextmanager
    async def served(self, directory: Path, environment: pytest.MonkeyPatch) -> AsyncIterator[Internet]:
        """Serve, and let the environment name the proxy and the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*HOSTS).configure_cert(context)
        self.authority.cert_pem.write_to_path(str(directory / "ca.pem"))

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
                    await self._serve(reader, writer, context)
            finally:
                self.closed.set()
                writer.close()
                self._tasks.discard(task)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for name in ("NO_PROXY", "no_proxy", "https_proxy"):
            environment.delenv(name, raising=False)
        environment.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        environment.setenv("SSL_CERT_FILE", str(directory / "ca.pem"))
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        host = head.split()[1].partition(":")[0]
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await writer.drain()
        await writer.start_tls(context)
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
            method, path, _ = lines[0].split(" ", 2)
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            asked = Asked(host, method, path, headers, body)
            self.asked.append(asked)
            for piece in self.says[host](asked).pieces:
                if writer.transport.is_closing():
                    return
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
