"""The HTTPS CONNECT proxy: the only way into the simulated Azure, and the proof that nothing else is called."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 65_536


class ConnectProxy:
    """Tunnels `CONNECT <known host>:443` to the TLS server.

    A host that Azure's DNS would not know is answered 502, as a proxy does when a name does not resolve. A host that is none of
    Azure's is answered 403 and written down.
    """

    def __init__(self, target_port: int, known: Callable[[str], bool], azure: Callable[[str], bool]) -> None:
        self._target_port = target_port
        self._known = known
        self._azure = azure
        self._refused: deque[dict[str, Any]] = deque(maxlen=1000)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def start(self) -> int:
        """Listen on a free loopback port, and say which."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Close the port and every tunnel."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def refused(self) -> list[dict[str, Any]]:
        """The requests for hosts that are none of Azure's."""
        return list(self._refused)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(30):
                head = await reader.readuntil(b"\r\n\r\n")
            await self._tunnel(head.decode("latin-1"), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            writer.close()

    async def _tunnel(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, _, rest = head.partition(" ")
        target = rest.split(" ")[0]
        host, _, port = target.rpartition(":")
        host = host.lower()
        if method != "CONNECT" or port != "443" or not self._azure(host):
            self._refused.append({"time": time.time(), "method": method, "target": target})
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        if not self._known(host):
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_copied(reader, inner_writer), _copied(inner_reader, writer))
        finally:
            inner_writer.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        writer.transport.abort()
    finally:
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()
