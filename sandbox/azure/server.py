"""The TLS server's application: finds the service by host, applies faults, writes the log, adds the request ids."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.azure.alterations import altered
from sandbox.azure.clock import http_date
from sandbox.azure.errors import RefusedError
from sandbox.azure.exchange import Answer, Exchange
from sandbox.azure.faults import STREAMS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sandbox.azure.clock import Clock
    from sandbox.azure.faults import Fault, Faults
    from sandbox.azure.request_log import RequestLog

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

LARGEST_BODY = 80 * 1024 * 1024
TRANSPORT = "sandbox.transport"
FOR_EVER = 86_400.0
OWN_URL = "{url}"
"""In a fault's headers and body, the URL of the request."""


@dataclass(frozen=True)
class Service:
    """One of Azure's services: how it answers, how it refuses, and which headers it adds."""

    name: str
    serve: Callable[[Exchange], Awaitable[Answer]]
    refuse: Callable[[int, str, str], RefusedError]
    headers: Callable[[Exchange, float], Mapping[str, str]] = lambda _exchange, _now: {}


class ConnectionBrokenError(Exception):
    """The connection is to be closed on purpose, after so many seconds of silence."""

    def __init__(self, after: float = 0.0) -> None:
        super().__init__(after)
        self.after = after


async def _closed(receive: Receive) -> None:
    """Wait until the client is gone, so that the server does not miss an answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


class TransportProtocol(H11Protocol):
    """Puts the connection's transport into the ASGI scope, so that a fault can cut the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn types it the same way
        """Wrap the application for this connection."""
        super().connection_made(transport)
        inner = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own types are open
            await inner({**scope, TRANSPORT: transport}, receive, send)

        self.app = with_transport


class AzureApplication:
    """The ASGI application."""

    def __init__(
        self,
        find: Callable[[str], Service | None],
        settle: Callable[[], Awaitable[None]],
        faults: Faults,
        log: RequestLog,
        clock: Clock,
    ) -> None:
        self._find = find
        self._settle = settle
        self._faults = faults
        self._log = log
        self._clock = clock

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = await _received(scope, receive)
        await self._settle()
        service = self._find(exchange.host)
        fault = self._faults.take(exchange)
        try:
            answer = await self._answered(exchange, service, fault)
        except ConnectionBrokenError as broken:
            self._write(exchange, service, 0, fault)
            if broken.after:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(_closed(receive), broken.after)
            # Its client may be gone by now; Python before 3.11.4 fails on a TLS connection that is closed already.
            if not scope[TRANSPORT].is_closing():
                scope[TRANSPORT].abort()
            await _closed(receive)
            return
        self._write(exchange, service, answer.status, fault)
        if fault is not None and fault.kind in STREAMS:
            await self._streamed(send, scope[TRANSPORT], answer, fault)
            await _closed(receive)
            return
        truncated = fault is not None and fault.kind == "truncate"
        await self._sent(send, exchange, answer, truncated=truncated)
        if truncated:
            scope[TRANSPORT].abort()
            await _closed(receive)

    async def _answered(self, exchange: Exchange, service: Service | None, fault: Fault | None) -> Answer:
        if service is None:
            return Answer(421, content=b"Misdirected Request", media_type="text/plain")
        answer: Answer | None = None
        if fault is None or fault.after_effect or fault.kind in {"delay", "truncate"}:
            if fault is not None and fault.kind == "delay" and not fault.after_effect:
                await asyncio.sleep(fault.seconds)
            answer = await self._served(exchange, service)
        if fault is not None and fault.kind == "delay" and fault.after_effect:
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind == "hang":
            raise ConnectionBrokenError(fault.seconds or FOR_EVER)
        if fault is not None and fault.kind == "reset":
            raise ConnectionBrokenError
        if fault is not None and fault.kind in {"status", *STREAMS}:
            answer = self._faulty(exchange, service, fault)
        if answer is None:
            raise AssertionError("every kind of fault has been dealt with")
        shared = {"x-ms-request-id": exchange.request_id, "Date": http_date(self._clock.wall())}
        if client := exchange.headers.get("x-ms-client-request-id"):
            shared["x-ms-client-request-id"] = client
        headers = {**shared, **service.headers(exchange, self._clock.now()), **answer.headers}
        return Answer(answer.status, answer.json, answer.content, answer.media_type, headers)

    async def _served(self, exchange: Exchange, service: Service) -> Answer:
        try:
            answer = await service.serve(exchange)
        except RefusedError as error:
            exchange.notes.error_code = getattr(error, "reason", error.code)
            return error.answer(exchange.request_id, self._clock.now())
        alterations = self._faults.alterations(exchange)
        return replace(answer, json=altered(answer.json, alterations)) if alterations and answer.content is None else answer

    def _faulty(self, exchange: Exchange, service: Service, fault: Fault) -> Answer:
        exchange.notes.error_code = fault.code
        url = f"https://{exchange.host}{exchange.raw_target}"
        headers = {name: value.replace(OWN_URL, url) for name, value in fault.headers.items()}
        headers |= {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
        if fault.raw is not None:
            return Answer(fault.status, content=base64.b64decode(fault.raw), headers=headers)
        if fault.body is not None:
            if isinstance(fault.body, str):
                return Answer(fault.status, content=fault.body.encode(), media_type="text/plain", headers=headers)
            return Answer(fault.status, json.loads(json.dumps(fault.body).replace(OWN_URL, url)), headers=headers)
        answer = service.refuse(fault.status, fault.code, fault.message).answer(exchange.request_id, self._clock.now())
        return Answer(answer.status, answer.json, answer.content, answer.media_type, {**answer.headers, **headers})

    def _write(self, exchange: Exchange, service: Service | None, status: int, fault: Fault | None) -> None:
        notes = exchange.notes
        self._log.add(
            time=self._clock.now(),
            service=service.name if service else "",
            host=exchange.host,
            method=exchange.method,
            path=exchange.raw_target,
            operation=_short(notes.operation or exchange.path),
            status=status,
            principal=notes.principal,
            application=notes.application,
            error_code=notes.error_code,
            request_id=exchange.request_id,
            client_request_id=exchange.headers.get("x-ms-client-request-id", ""),
            user_agent=exchange.headers.get("user-agent", ""),
            fault=fault.id if fault else "",
        )

    @staticmethod
    async def _streamed(send: Send, transport: asyncio.Transport, answer: Answer, fault: Fault) -> None:
        """An answer without an end: the rest of it is spaces. It ends when the client closes the connection."""
        headers = [(b"content-type", answer.media_type.encode("latin-1"))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        first, rest, pause = answer.body(), b" " * 65_536, 0.0
        if fault.kind == "drip":
            rest, pause = b" ", fault.seconds
        await send({"type": "http.response.body", "body": first[:1] if pause else first, "more_body": True})
        while not transport.is_closing():
            await asyncio.sleep(pause)
            await send({"type": "http.response.body", "body": rest, "more_body": True})

    @staticmethod
    async def _sent(send: Send, exchange: Exchange, answer: Answer, *, truncated: bool) -> None:
        body = answer.body()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        if answer.status not in {204, 304}:
            headers.setdefault("content-length", str(len(body)))
            if body or answer.content is not None:
                headers.setdefault("content-type", answer.media_type)
        raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        if truncated:
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return
        await send({"type": "http.response.body", "body": b"" if exchange.method == "HEAD" else body})


def _short(operation: str) -> str:
    """The template without the place: `storageAccounts/{name}` instead of the whole ARM path."""
    lower = operation.lower()
    position = lower.rfind("/providers/microsoft.")
    if position < 0:
        return (
            operation.removeprefix("/subscriptions/{subscription}/")
            if lower.startswith("/subscriptions/{subscription}/")
            else operation
        )
    return operation[position + len("/providers/") :].split("/", 1)[1]


async def _received(scope: dict[str, Any], receive: Receive) -> Exchange:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) > LARGEST_BODY:
            break
    query = scope["query_string"].decode("latin-1")
    raw_path = scope.get("raw_path", b"").decode("latin-1").split("?")[0]
    path = "/" + unquote(raw_path).lstrip("/")
    return Exchange(
        method=scope["method"],
        host=headers.get("host", "").split(":")[0].lower(),
        path=path,
        query={name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)},
        raw_target=raw_path + (f"?{query}" if query else ""),
        headers=headers,
        body=bytes(body),
        request_id=str(uuid.uuid4()),
    )
