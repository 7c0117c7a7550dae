"""The ASGI application: one endpoint for each route, which knows the caller before it reads the body."""

from __future__ import annotations

import logging
import re
import time
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.routing import Route, Router

from cmk_keyservice.callers.caller import Place
from cmk_keyservice.http import bodies
from cmk_keyservice.http.openapi import DOCUMENT
from cmk_keyservice.http.operations import OPERATIONS, Ask, Named, Newest, Operation, Work, other_use
from cmk_keyservice.http.problems import (
    Answer,
    RequestError,
    answer_of,
    answer_of_request_error,
    body_of,
)
from cmk_keyservice.http.reading import CallerGoneError, Items, read_body, read_one
from cmk_keyservice.http.server import EXCHANGE
from cmk_keyservice.keys.problems import encrypts_nothing_new
from cmk_keyservice.keys.uses import LEASED, is_leased
from cmk_keyservice.problem import Kind, Problem, ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from cmk_keyservice.http.key_service import KeyService
    from cmk_keyservice.http.server import Exchange
    from cmk_keyservice.keys.data_key import Lease
    from cmk_keyservice.telemetry import KeyServiceTelemetry

GENERATE: Final = "generatedatakey"
UNWRAP: Final = "unwrapdatakey"
NEW_DATA: Final = frozenset({"encrypt", "wrap", GENERATE})
"""What brings new data in. The rest reads it, or keeps it under the newest key, and goes on for who is view-only."""
TEXT: Final = b"text/plain; charset=utf-8"
T = TypeVar("T")
_ENCODER: Final = msgspec.json.Encoder()
_ORGANIZATIONS: Final = "/v1/organizations/"
_ORGANIZATION: Final = re.compile(bodies.ORGANIZATION)
_NO_STORE: Final = (b"cache-control", b"no-store")
_LOG: Final = logging.getLogger(__name__)


class Endpoint:
    """Answers one route: maps every error to a problem, counts, and logs what is a bug."""

    def __init__(
        self, name: str, method: str, answer: Callable[[Scope, Receive], Awaitable[Answer]], telemetry: KeyServiceTelemetry
    ) -> None:
        self._name, self._method, self._answer, self._telemetry = name, method, answer, telemetry
        self._seconds = telemetry.request_seconds.labels(name)
        self._codes: dict[int, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        began = time.perf_counter()
        try:
            answer = await self._answered(scope, receive)
        except CallerGoneError:
            return
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is None or answer.headers or scope["method"] == "HEAD" or not exchange.answer(_whole(answer)):
            await _send(answer, send, with_body=scope["method"] != "HEAD")
        counter = self._codes.get(answer.status)
        if counter is None:
            counter = self._codes[answer.status] = self._telemetry.requests.labels(self._name, str(answer.status))
        counter.inc()
        self._seconds.observe(time.perf_counter() - began)

    async def _answered(self, scope: Scope, receive: Receive) -> Answer:
        try:
            if self._method and scope["method"] != self._method:
                allow = ((b"allow", self._method.encode()),)
                raise RequestError(  # noqa: TRY301 - one place makes answers of errors
                    405,
                    "MethodNotAllowed",
                    f"this path knows {self._method} only",
                    "whoever writes the caller must correct it",
                    allow,
                )
            return await self._answer(scope, receive)
        except ProblemError as error:
            return answer_of(error.problem)
        except RequestError as error:
            return answer_of_request_error(error)
        except CallerGoneError:
            raise
        except Exception:  # noqa: BLE001 - the caller is told, and the log has it
            _LOG.exception("a request failed in a way that nobody foresaw", extra={"operation": self._name})
            return answer_of_request_error(
                RequestError(
                    500,
                    "Bug",
                    "the request failed in a way that nobody foresaw",
                    "the provider must look at the key service's log",
                )
            )


async def _send(answer: Answer, send: Send, *, with_body: bool) -> None:
    """Send an answer as ASGI's events."""
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", str(len(answer.body)).encode()),
        _NO_STORE,
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})


def _whole(answer: Answer) -> bytes:
    """The bytes of an answer that has no headers of its own."""
    return b"%b%d\r\n\r\n%b" % (_head(answer.status, answer.content_type), len(answer.body), answer.body)


@lru_cache(maxsize=128)
def _head(status: int, content_type: bytes) -> bytes:
    """Status line and headers up to the length of the body, as `_send` has them."""
    cache_control = b": ".join(_NO_STORE)
    begin = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
    return b"%bcontent-type: %b\r\n%b\r\ncontent-length: " % (begin, content_type, cache_control)


class OperationAnswers:
    """Carries out one operation for the items of a request."""

    def __init__(self, service: KeyService, operation: Operation) -> None:
        self._service, self._operation = service, operation
        self._items = Items(operation.item)
        self._results: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        """The answer: one result, or one for each item in the order of the request."""
        work = await admitted(self._service, scope, self._operation.verb)
        items, is_batch = self._items.read(await read_body(scope, receive))
        if not is_batch:
            return await self._one(work, items[0])
        return await self._many(work, items)

    async def _one(self, work: Work, item: Any) -> Answer:  # noqa: ANN401 - a body of this operation
        operation = self._operation
        try:
            use = await operation.find(work, operation.ask(item))
            result = operation.run(use, item)
            work.confirm()
        except ProblemError as error:
            self._count(work, {error.problem.kind.value: 1})
            raise
        self._count(work, {"Done": 1})
        return Answer(200, _ENCODER.encode(result))

    async def _many(self, work: Work, items: Sequence[Any]) -> Answer:
        operation, run = self._operation, self._operation.run
        ask = operation.ask
        asks: list[Ask | Problem] = []
        for item in items:
            try:
                asks.append(ask(item))
            except ProblemError as error:
                asks.append(error.problem)
        found = await work.find_all(operation, asks)
        results: list[bodies.Result] = []
        counts = {"Done": 0}
        for item, asked in zip(items, asks, strict=True):
            use = asked if isinstance(asked, Problem) else found[asked]
            try:
                results.append(_refused(use, item, counts) if isinstance(use, Problem) else run(use, item))
            except ProblemError as error:
                results.append(_refused(error.problem, item, counts))
        counts["Done"] = len(items) - sum(counts.values())
        work.confirm()
        self._count(work, counts)
        return Answer(200, _ENCODER.encode({"items": results}))

    def _count(self, work: Work, counts: dict[str, int]) -> None:
        done = 0
        for result, number in counts.items():
            if not number:
                continue
            counter = self._results.get(result)
            if counter is None:
                counter = self._results[result] = self._service.telemetry.items.labels(self._operation.name, result)
            counter.inc(number)
            done += number if result == "Done" else 0
        self._service.count(work.organization, work.own, self._operation.name, done, sum(counts.values()) - done)


def _refused(problem: Problem, item: Any, counts: dict[str, int]) -> bodies.Refused:  # noqa: ANN401 - a body of an operation
    """The problem in the place of a result, counted."""
    counts[problem.kind.value] = counts.get(problem.kind.value, 0) + 1
    return bodies.Refused(problem=body_of(problem), reference=item.reference)


class DataKeyAnswers:
    """Leases data keys to callers that encrypt by themselves."""

    def __init__(self, service: KeyService) -> None:
        self._service = service
        self._generate = msgspec.json.Decoder(bodies.GenerateDataKey)
        self._unwrap = msgspec.json.Decoder(bodies.UnwrapDataKey)

    async def generate(self, scope: Scope, receive: Receive) -> Answer:
        """The newest data key of a purpose."""
        work = await admitted(self._service, scope, GENERATE)
        body = read_one(self._generate, await read_body(scope, receive))
        service = await self._counted(work, GENERATE, work.service_of(body.service))
        return await self._leased(work, GENERATE, Newest(service, LEASED + body.purpose))

    async def unwrap(self, scope: Scope, receive: Receive) -> Answer:
        """The data key of an id, if it is one that leaves the service."""
        work = await admitted(self._service, scope, UNWRAP)
        body = read_one(self._unwrap, await read_body(scope, receive))
        try:
            data_key_id = UUID(scope["path_params"]["data_key_id"])
        except ValueError:
            raise RequestError(
                400, "NoDataKeyId", "the path holds no UUID of a data key", "whoever writes the caller must correct the path"
            ) from None
        service = await self._counted(work, UNWRAP, work.service_of(body.service))
        return await self._leased(work, UNWRAP, Named(data_key_id, service))

    async def _leased(self, work: Work, operation: str, wanted: Newest | Named) -> Answer:
        lease = await self._counted(work, operation, self._lease(work, wanted))
        key = lease.data_key
        self._service.telemetry.items.labels(operation, "Done").inc()
        self._service.count(work.organization, work.own, operation, 1, 0)
        leased = bodies.LeasedDataKey(
            data_key_id=key.id,
            key=key.primitive.material,
            suite=key.primitive.suite,
            service=key.service,
            purpose=key.purpose.removeprefix(LEASED),
            epoch=key.epoch,
            lease_seconds=lease.seconds,
        )
        return Answer(200, _ENCODER.encode(leased))

    async def _lease(self, work: Work, wanted: Newest | Named) -> Lease:
        if isinstance(wanted, Newest):
            return await work.source.lease(work.organization, wanted.service, wanted.purpose)
        key = await work.key(wanted)
        if not is_leased(key.purpose):
            # A key that never left the service must not leave it because somebody may unwrap leased ones.
            raise other_use(key.id)
        return await work.source.lease(work.organization, wanted.service, key.purpose, key.id)

    async def _counted(self, work: Work, operation: str, step: Awaitable[T]) -> T:
        try:
            return await step
        except ProblemError as error:
            self._service.telemetry.items.labels(operation, error.problem.kind.value).inc()
            self._service.count(work.organization, work.own, operation, 0, 1)
            raise


async def admitted(service: KeyService, scope: Scope, verb: str) -> Work:
    """The caller's work for the organization of the path.

    Raises `ProblemError` if the caller is not known or may not do `verb`, and `RequestError` for an id that no organization has.
    """
    caller = await service.reviews.caller(_authorization(scope))
    organization = scope["path_params"]["organization"]
    if _ORGANIZATION.fullmatch(organization) is None:
        raise RequestError(
            400,
            "NoOrganizationId",
            "the path holds no id of an organization (a DNS label of at most 63 characters)",
            "whoever writes the caller must correct the path",
        )
    known = service.find(organization)
    place = Place(known.namespace, known.name) if known is not None else Place()
    try:
        await service.reviews.require(caller, place, verb, organization)
    except ProblemError as error:
        if known is not None and error.problem.kind is Kind.FORBIDDEN:
            service.count(organization, caller.service, verb, 0, 1)
        raise
    if verb in NEW_DATA and known is not None and known.accepted is not None and not known.accepted.encrypts:
        service.count(organization, caller.service, verb, 0, 1)
        raise ProblemError(encrypts_nothing_new(organization))
    return Work(caller, organization, place, service.data_keys, service.reviews)


def _authorization(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return bytes(value).decode("latin-1")
    return ""


def _health(service: KeyService) -> tuple[Route, ...]:
    async def healthz(_: Scope, __: Receive) -> Answer:
        return Answer(200, b"ok\n", TEXT)

    async def readyz(_: Scope, __: Receive) -> Answer:
        missing = service.missing()
        text = "".join(f"{line}\n" for line in missing) or "ok\n"
        return Answer(503 if missing else 200, text.encode(), TEXT)

    async def traffic(_: Scope, __: Receive) -> Answer:
        return Answer(200, b"ok\n", TEXT) if service.takes_traffic() else Answer(503, b"not yet, or not any more\n", TEXT)

    return (
        Route("/healthz", Endpoint("healthz", "GET", healthz, service.telemetry)),
        Route("/readyz", Endpoint("readyz", "GET", readyz, service.telemetry)),
        Route("/readyz/traffic", Endpoint("traffic", "GET", traffic, service.telemetry)),
    )


async def _not_found(_: Scope, __: Receive) -> Answer:
    raise RequestError(
        404, "NoSuchPath", "there is no such path", "whoever writes the caller must take the paths of /openapi.json"
    )


async def _document(_: Scope, __: Receive) -> Answer:
    return Answer(200, DOCUMENT)


def application(service: KeyService) -> ASGIApp:
    """What callers reach: the operations, data keys, the OpenAPI document, and health."""
    telemetry, data_keys = service.telemetry, DataKeyAnswers(service)
    operations = {
        operation.name: Endpoint(operation.name, "POST", OperationAnswers(service, operation), telemetry)
        for operation in OPERATIONS
    }
    base = f"{_ORGANIZATIONS}{{organization}}"
    routes = [
        Route(f"{base}/data-keys", Endpoint(GENERATE, "POST", data_keys.generate, telemetry)),
        Route(f"{base}/data-keys/{{data_key_id}}/unwrap", Endpoint(UNWRAP, "POST", data_keys.unwrap, telemetry)),
        Route("/openapi.json", Endpoint("openapi", "GET", _document, telemetry)),
        *_health(service),
    ]
    router = Router(routes, redirect_slashes=False, default=Endpoint("unknown", "", _not_found, telemetry))
    return Straight(operations, router)


class Straight:
    """Leads to the operations on an organization, which most requests are, without a look at each route; else to the router."""

    def __init__(self, operations: Mapping[str, ASGIApp], router: ASGIApp) -> None:
        self._operations, self._router = operations, router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            begin, _, rest = scope["path"].partition(_ORGANIZATIONS)
            organization, _, name = rest.partition("/")
            operation = self._operations.get(name)
            if operation is not None and organization and not begin:
                scope["path_params"] = {"organization": organization}
                return await operation(scope, receive, send)
        return await self._router(scope, receive, send)


def monitoring(service: KeyService) -> ASGIApp:
    """What the kubelet and Prometheus reach, without TLS and without a caller: health and metrics, nothing of any organization."""

    async def metrics(_: Scope, __: Receive) -> Answer:
        return Answer(200, generate_latest(service.telemetry.registry), CONTENT_TYPE_LATEST.encode())

    routes = [*_health(service), Route("/metrics", Endpoint("metrics", "GET", metrics, service.telemetry))]
    return Router(routes, redirect_slashes=False, default=Endpoint("unknown", "", _not_found, service.telemetry))
