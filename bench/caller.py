"""`python -m bench.caller`: calls the key service from a process of its own, over connections that stay open.

It reads a plan (JSON) from standard input and writes what it saw to standard output. Each connection sends its next request
when the last one is answered. It does as little as it can, so that the machine is left to the key service.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from typing import Any

import msgspec
import uvloop

END_OF_HEADERS = b"\r\n\r\n"
LENGTH = b"content-length: "


class Plan(msgspec.Struct):
    """Whom to ask for what: bodies are sent in turn, and each connection begins at another one."""

    host: str
    port: int
    ca_file: str | None
    """None: without TLS."""
    path: str
    token: str
    bodies: list[str]
    connections: int
    seconds: float

    def requests(self) -> list[bytes]:
        """The bytes of each request."""
        head = f"POST {self.path} HTTP/1.1\r\nhost: {self.host}\r\nauthorization: Bearer {self.token}\r\n"
        head += "content-type: application/json\r\ncontent-length: "
        return [f"{head}{len(body)}\r\n\r\n{body}".encode() for body in self.bodies]


class Seen(msgspec.Struct):
    """What came back; times are in milliseconds."""

    requests: int
    refused: int
    """Answers that are no success, or hold a problem of an item."""
    refusal: str
    """The first of them."""
    seconds: float
    p50: float
    p99: float


class Connection(asyncio.Protocol):
    """One connection, until `deadline`."""

    def __init__(self, requests: list[bytes], first: int, deadline: float, done: asyncio.Future[None]) -> None:
        self.times: list[float] = []
        self.refused: list[bytes] = []
        self._requests, self._next, self._deadline, self._done = requests, first, deadline, done
        self._received = bytearray()
        self._sent_at = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the key service closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Wait for the whole answer."""
        self._received += data
        end = self._received.find(END_OF_HEADERS)
        if end < 0:
            return
        begin = self._received.index(LENGTH) + len(LENGTH)
        length = int(self._received[begin : self._received.index(b"\r\n", begin)])
        if len(self._received) < end + len(END_OF_HEADERS) + length:
            return
        self.times.append(time.perf_counter() - self._sent_at)
        if not self._received.startswith(b"HTTP/1.1 200") or b'"problem"' in self._received:
            self.refused.append(bytes(self._received))
        self._received.clear()
        if time.perf_counter() < self._deadline:
            self._send()
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1


async def carry_out(plan: Plan) -> Seen:
    """Call until the time is over; what is under way then is waited for."""
    loop = asyncio.get_running_loop()
    tls = ssl.create_default_context(cafile=plan.ca_file) if plan.ca_file is not None else None
    requests = plan.requests()
    began = time.perf_counter()
    waiting, connections = [], []
    for number in range(plan.connections):
        done: asyncio.Future[None] = loop.create_future()
        made = Connection(requests, number, began + plan.seconds, done)
        connections.append(made)
        await loop.create_connection(lambda made=made: made, plan.host, plan.port, ssl=tls)
        waiting.append(done)
    await asyncio.gather(*waiting)
    seconds = time.perf_counter() - began
    times = sorted(one * 1000 for each in connections for one in each.times)
    refused = [one for each in connections for one in each.refused]
    return Seen(
        requests=len(times),
        refused=len(refused),
        refusal=refused[0].decode(errors="replace")[-600:] if refused else "",
        seconds=seconds,
        p50=times[len(times) // 2],
        p99=times[min(len(times) - 1, int(len(times) * 0.99))],
    )


def main() -> int:
    """Carry out the plan of standard input."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seen = runner.run(carry_out(plan))
    sys.stdout.buffer.write(msgspec.json.encode(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
