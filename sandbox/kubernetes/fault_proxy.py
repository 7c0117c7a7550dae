"""A reverse proxy between a client and an API server that injects the faults that networks and API servers really have.

It listens on plain HTTP on loopback, in a thread of its own, so that tests and the benchmark can drive it from any event loop.
Verbs are those of Kubernetes' audit log: get, list, watch, create, update, patch, delete. Source: Kubernetes API concepts,
"Efficient detection of changes" (watches, bookmarks, ERROR events) and "API Priority and Fairness" (429 with Retry-After).
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

KINDS: Final = frozenset({"answer", "drop", "delay", "hold", "truncate"})
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_FORWARDED: Final = ("Authorization", "Content-Type", "Accept")
_LINE_LIMIT: Final = 4 * 1024 * 1024
_CONTROL_SECONDS: Final = 10.0
T = TypeVar("T")


@dataclass
class Fault:
    """What happens to the requests that match `verb` and `path` (a regular expression on path and query), `times` times.

    With `containing`, only those whose body has this text. `answer` refuses with a Kubernetes Status of `status`; `drop` breaks the
    connection; `delay` waits `seconds`; `hold` waits for `release`, and a request whose sender is gone by then goes nowhere;
    `truncate` sends half of the answer and breaks the connection. With `after_delivery` the API server has done the work first,
    and only the answer is concerned. `times` None: until it is taken away.
    """

    kind: str
    verb: str = ".*"
    path: str = ".*"
    times: int | None = 1
    status: int = 500
    retry_after: int | None = None
    seconds: float = 0.0
    after_delivery: bool = False
    containing: str = ""
    hits: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def matches(self, verb: str, target: str, body: bytes) -> bool:
        """By verb, path and body, while it has not happened often enough."""
        return (
            (self.times is None or self.hits < self.times)
            and re.fullmatch(self.verb, verb) is not None
            and re.search(self.path, target) is not None
            and self.containing.encode() in body
        )


@dataclass(slots=True)
class Request:
    """One request as the client sent it; `status` 0 until it is answered, and for ever if the client got no answer."""

    n: int
    verb: str
    path: str
    status: int = 0
    delivered: bool = False
    """Whether the API server did what was asked (it answered, and not with a refusal)."""
    resource_version: str = ""
    """That of the object after a write that was delivered; a write that changed nothing leaves it as it was."""
    fault: str = ""


@dataclass(eq=False, slots=True)
class _Watch:
    path: str
    response: web.StreamResponse
    task: asyncio.Task[Any]
    transport: asyncio.Transport | None
    silent: bool = False


class FaultProxy:
    """Passes everything on but for the faults in force; every public method may be called from any thread."""

    def __init__(self, upstream: str, ca_file: Path) -> None:
        self._upstream = upstream
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._faults: list[Fault] = []
        self._requests: list[Request] = []
        self._watches: set[_Watch] = set()
        self._held: dict[str, asyncio.Event] = {}
        self._silenced: list[str] = []
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._port = 0

    def __enter__(self) -> Self:
        """Listen on a free port of 127.0.0.1."""
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *unused: object) -> None:
        """Break every connection and end the thread."""
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CONTROL_SECONDS)
        self._loop.close()

    @property
    def url(self) -> str:
        """Base URL for the client's kubeconfig."""
        return f"http://127.0.0.1:{self._port}"

    # What tests do.

    def inject(self, kind: str, verb: str = ".*", path: str = ".*", **settings: Any) -> Fault:  # noqa: ANN401 - the fields of a Fault
        """Put a fault in force, after those that are. Raises ValueError for an unknown kind, TypeError for an unknown field."""
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(sorted(KINDS))}")
        fault = Fault(kind, verb, path, **settings)
        self._call(lambda: self._faults.append(fault))
        return fault

    def release(self, fault: Fault) -> None:
        """Let the requests that a `hold` stopped go on."""
        self._call(fault.released.set)

    def clear(self) -> None:
        """Take every fault away and let everything held go on."""
        self._call(self._clear)

    def requests(self, verb: str = ".*", path: str = ".*", since: int = 0) -> list[Request]:
        """The log after entry `since`, of one verb and path (regular expressions)."""
        return self._call(
            lambda: [
                request
                for request in self._requests[since:]
                if re.fullmatch(verb, request.verb) and re.search(path, request.path)
            ]
        )

    @property
    def position(self) -> int:
        """The number of the newest entry of the log."""
        return self._call(lambda: len(self._requests))

    def open_watches(self, path: str = ".*") -> int:
        """How many watches are open now."""
        return self._call(lambda: len(self._watching(path)))

    def silence_watches(self, path: str = ".*") -> int:
        """Leave the open watches open and let no byte through any more, as a half-open connection; how many there were."""
        return self._call(lambda: self._silence(path))

    def cut_watches(self, path: str = ".*") -> int:
        """Break the connections of the open watches; how many there were."""
        return self._call(lambda: self._cut(path))

    def end_watches(self, path: str, code: int) -> int:
        """End the open watches by an ERROR event with a Status of `code`; how many there were."""
        return self._run(self._end(path, code))

    def hold_events(self, path: str) -> None:
        """Keep back the events of watches on `path`, present and future ones, until `release_events`."""
        self._call(lambda: self._held.setdefault(path, asyncio.Event()))

    def release_events(self) -> None:
        """Deliver what was kept back, in order."""
        self._call(self._release_events)

    def refuse_connections(self) -> None:
        """Break all connections and accept none, as an API server that is down."""
        self._run(self._close_port())

    def accept_connections(self) -> None:
        """Listen again, on the same port."""
        self._run(self._open_port())

    # How it works: everything below runs in the proxy's own loop.

    def _call(self, function: Callable[[], T]) -> T:
        async def called() -> T:
            return function()

        return self._run(called())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CONTROL_SECONDS)

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(
            self._upstream,
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            read_bufsize=_LINE_LIMIT,
            auto_decompress=False,
            trust_env=False,
        )
        application = web.Application(client_max_size=_LINE_LIMIT)
        application.router.add_route("*", "/{path:.*}", self._serve)
        # A client that is gone takes its request with it, if the API server has not got it yet.
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._open_port()

    async def _stop(self) -> None:
        self._clear()
        await self._close_port()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _open_port(self) -> None:
        if self._runner is None:
            raise RuntimeError("use the proxy as a context manager")
        if self._site is not None:
            return
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await self._site.start()
        self._port = int(self._runner.addresses[0][1])

    async def _close_port(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
        for connection in self._runner.server.connections if self._runner is not None and self._runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()

    def _clear(self) -> None:
        for fault in self._faults:
            fault.released.set()
        self._faults.clear()
        self._release_events()

    def _release_events(self) -> None:
        for gate in self._held.values():
            gate.set()
        self._held.clear()

    def _watching(self, path: str) -> list[_Watch]:
        return [watch for watch in self._watches if re.search(path, watch.path)]

    def _silence(self, path: str) -> int:
        watches = self._watching(path)
        for watch in watches:
            watch.silent = True
        return len(watches)

    def _cut(self, path: str) -> int:
        watches = self._watching(path)
        for watch in watches:
            if watch.transport is not None:
                watch.transport.abort()
        return len(watches)

    async def _end(self, path: str, code: int) -> int:
        watches = self._watching(path)
        event = {"type": "ERROR", "object": _status(code, "injected into the stream")}
        for watch in watches:
            watch.silent = True
            await watch.response.write(json.dumps(event).encode() + b"\n")
            watch.task.cancel()
        return len(watches)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        target = request.raw_path
        entry = Request(len(self._requests) + 1, _verb_of(request), target)
        self._requests.append(entry)
        body = await request.read() if any(one.containing for one in self._faults) else b""
        fault = next((one for one in self._faults if one.matches(entry.verb, target, body)), None)
        if fault is not None:
            fault.hits += 1
            entry.fault = fault.kind
            if not fault.after_delivery and fault.kind != "truncate":
                refusal = await self._suffer(fault, request)
                if refusal is not None:
                    entry.status = 0 if fault.kind == "drop" else refusal.status
                    return refusal
        try:
            return await self._forward(request, entry, fault)
        except (aiohttp.ClientError, ConnectionError):
            return _broken(request)

    @staticmethod
    async def _suffer(fault: Fault, request: web.Request) -> web.Response | None:
        """What a fault does to one request; None: it may go on. A broken connection is an answer that reaches nobody."""
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        elif fault.kind == "hold":
            await fault.released.wait()
        elif fault.kind == "drop":
            return _broken(request)
        elif fault.kind == "answer":
            headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
            return web.json_response(_status(fault.status, "injected"), status=fault.status, headers=headers)
        return None

    async def _forward(self, request: web.Request, entry: Request, fault: Fault | None) -> web.StreamResponse:
        if self._session is None:
            raise RuntimeError("use the proxy as a context manager")
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        body = await request.read()
        async with self._session.request(
            request.method, request.raw_path, data=body or None, headers=headers | {"Accept-Encoding": "identity"}
        ) as answer:
            entry.delivered = answer.status < 400
            if entry.verb == "watch" and answer.status == 200:
                entry.status = answer.status
                return await self._stream(request, answer)
            content = await answer.read()
            if entry.delivered and entry.verb == "patch":
                entry.resource_version = _version_of(content)
            if fault is not None and fault.after_delivery:
                refusal = await self._suffer(fault, request)
                if refusal is not None:
                    entry.status = 0 if fault.kind == "drop" else refusal.status
                    return refusal
            shown = {
                name: answer.headers[name] for name in ("Content-Type", "Retry-After", "Warning") if name in answer.headers
            }
            if fault is not None and fault.kind == "truncate":
                return await _send_half(request, answer.status, shown, content)
            entry.status = answer.status
            return web.Response(status=answer.status, body=content, headers=shown)

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a handler runs in a task")
        response = web.StreamResponse(headers={"Content-Type": answer.headers["Content-Type"]})
        await response.prepare(request)
        watch = _Watch(request.raw_path, response, task, request.transport)
        self._watches.add(watch)
        try:
            async for line in answer.content:
                for held in [gate for path, gate in self._held.items() if re.search(path, watch.path)]:
                    await held.wait()
                if not watch.silent:
                    await response.write(line)
        finally:
            self._watches.discard(watch)
            if watch.silent:
                # An ERROR event was the last word, or nobody may hear of the end.
                _finish(watch)
        return response


def _finish(watch: _Watch) -> None:
    if watch.transport is not None:
        watch.transport.close()


def _verb_of(request: web.Request) -> str:
    if request.method != "GET":
        return _VERBS.get(request.method, request.method.lower())
    if request.query.get("watch") in {"true", "1"}:
        return "watch"
    segments = request.path.strip("/").split("/")
    if segments[0] not in {"api", "apis"}:
        return "get"
    # /api/v1/… and /apis/GROUP/VERSION/…, then perhaps namespaces/NAME, then RESOURCE and perhaps NAME.
    below = segments[2:] if segments[0] == "api" else segments[3:]
    if len(below) > 2 and below[0] == "namespaces":
        below = below[2:]
    return "list" if len(below) == 1 else "get"


def _status(code: int, message: str) -> dict[str, Any]:
    reason = {409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests"}.get(code, HTTPStatus(code).phrase)
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason.replace(" ", ""),
        "code": code,
    }


def _broken(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


def _version_of(content: bytes) -> str:
    return str(json.loads(content).get("metadata", {}).get("resourceVersion", ""))


async def _send_half(request: web.Request, status: int, headers: dict[str, str], content: bytes) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers | {"Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    _broken(request)
    return response
