"""One budget for all calls to Azure: token buckets for each subscription and each vault, which also obey Retry-After.

A call that would have to wait long is not sent. It fails with the time to wait, so that the work queue waits and not a
worker.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiolimiter import AsyncLimiter
from azure.core.pipeline.transport import AioHttpTransport

from cmk_operator.answer_gate import LONGEST_ANSWER
from cmk_operator.azure.failures import AnotherHostError, BudgetSpentError, ChangeWithdrawnError, seconds_to_wait
from cmk_operator.azure.request_labels import operation_of, service_of, shown_host
from cmk_operator.core.kinds.call_rates import Rate
from cmk_operator.egress_proxy import egress_proxy
from cmk_operator.telemetry import KEY_VAULT
from cmk_operator.turns import owner_of_calls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    import aiohttp

    from cmk_operator.core.kinds.call_rates import ServiceRates
    from cmk_operator.telemetry import Telemetry
    from cmk_operator.turns import Turns

LONGEST_WAIT: Final = 5.0
"""Seconds that a call may wait for its turn during a reconcile."""
LONGEST_CLOSURE: Final = 300.0
"""Most seconds for which one answer may close a bucket, because other calls use the bucket too."""

_STILL_ALLOWED: Final[ContextVar[Callable[[], Awaitable[bool]] | None]] = ContextVar("still allowed", default=None)
_SIGN_IN_AND_KEYS: Final = frozenset({"entra", KEY_VAULT})
"""Services whose POST requests change nothing."""


@contextmanager
def changes_only_if(still_allowed: Callable[[], Awaitable[bool]]) -> Iterator[None]:
    """Ask `still_allowed` right before each request within that changes something is sent, after it has its turn.

    If the answer is no, `ChangeWithdrawnError` is raised instead: a token, a turn or a probe may have taken long.
    """
    token = _STILL_ALLOWED.set(still_allowed)
    try:
        yield
    finally:
        _STILL_ALLOWED.reset(token)


async def _require_still_allowed(service: str, method: str) -> None:
    still_allowed = _STILL_ALLOWED.get()
    if still_allowed is None or method in {"GET", "HEAD"} or service in _SIGN_IN_AND_KEYS:
        return
    if not await still_allowed():
        raise ChangeWithdrawnError


@dataclass(frozen=True, slots=True)
class BudgetRates:
    """The operator's share of Azure's published limits; each rate is below its limit, because others call too.

    Sources: "Understand how Azure Resource Manager throttles requests" (250 reads + 25/s, 200 writes + 10/s per
    subscription and principal); Key Vault service limits (4,000 RSA 2048 operations per 10 s).
    """

    resource_manager_reads: Rate = Rate(200, 10)  # noqa: RUF009 - frozen, so it may be shared
    resource_manager_writes: Rate = Rate(195, 20)  # noqa: RUF009 - frozen, so it may be shared
    vault_calls: Rate = Rate(400, 10)  # noqa: RUF009 - frozen, so it may be shared
    token_calls: Rate = Rate(200, 10)  # noqa: RUF009 - frozen, so it may be shared
    services: tuple[ServiceRates, ...] = ()
    """The rates of resource providers with limits of their own."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """The state of one bucket; `owner` is a subscription id or a host."""

    owner: str
    bucket: str
    left: float
    """Fraction of the burst, from 0 to 1."""
    closed_for: float
    """Seconds for which Azure asked to wait."""


@dataclass(slots=True)
class _Bucket:
    limiter: AsyncLimiter
    closed_until: float = 0.0
    _waiting: OrderedDict[str, deque[asyncio.Future[None]]] = field(default_factory=OrderedDict)
    """The calls that wait, by owner; the owner that has waited longest for its turn is first."""
    _giving: asyncio.Task[None] | None = None

    async def turn(self, owner: str) -> None:
        """Wait until a call may be sent. Owners take turns, so that many calls of one do not delay those of another."""
        if not self._waiting and self.limiter.has_capacity():
            await self.limiter.acquire()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        if self._giving is None:
            self._giving = asyncio.create_task(self._give_turns(), name="turns of calls")
        await turn

    async def _give_turns(self) -> None:
        try:
            while self._drop_cancelled():
                await self.limiter.acquire()
                if not self._drop_cancelled():
                    return
                owner, turns = next(iter(self._waiting.items()))
                turns.popleft().set_result(None)
                self._waiting.move_to_end(owner)
        finally:
            self._giving = None

    def _drop_cancelled(self) -> bool:
        """Drop the calls that wait no longer; returns whether any is left."""
        for owner, turns in list(self._waiting.items()):
            while turns and turns[0].done():
                turns.popleft()
            if not turns:
                del self._waiting[owner]
        return bool(self._waiting)

    def left(self) -> float:
        """Fraction of the burst that could be sent at once, to about one percent.

        The limiter does not report its level, only whether it has capacity for a number of calls.
        """
        if self.limiter.has_capacity(self.limiter.max_rate):
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(7):
            middle = (low + high) / 2
            low, high = (middle, high) if self.limiter.has_capacity(middle * self.limiter.max_rate) else (low, middle)
        return low


@dataclass(slots=True)
class CallBudget:
    """The buckets of one process, made on first use."""

    rates: BudgetRates
    _buckets: dict[tuple[str, str], _Bucket] = field(default_factory=dict)

    def buckets_of(self, method: str, host: str, path: str) -> Iterable[_Bucket]:
        """The buckets of a call, by its host, subscription and resource provider."""
        segments = path.lower().strip("/").split("/")
        if segments[0] != "subscriptions" or len(segments) < 2:
            rate = self.rates.vault_calls if ".vault." in host else self.rates.token_calls
            yield self._bucket(host, "calls", rate)
            return
        subscription = segments[1]
        reads = method in {"GET", "HEAD"}
        yield self._bucket(
            subscription,
            "reads" if reads else "writes",
            self.rates.resource_manager_reads if reads else self.rates.resource_manager_writes,
        )
        for service in self.rates.services:
            if service.namespace in segments:
                yield from self._service_buckets(subscription, service, reads=reads, lists=segments[-1] == service.listed)

    def _service_buckets(self, subscription: str, service: ServiceRates, *, reads: bool, lists: bool) -> Iterable[_Bucket]:
        if reads and lists:
            yield self._bucket(subscription, f"{service.name} lists", service.lists)
        elif reads:
            yield self._bucket(subscription, f"{service.name} reads", service.reads)
        else:
            yield self._bucket(subscription, f"{service.name} writes", service.writes)
            if service.writes_at_once is not None:
                yield self._bucket(subscription, f"{service.name} writes at once", service.writes_at_once)

    def _bucket(self, owner: str, name: str, rate: Rate) -> _Bucket:
        key = (owner, name)
        if key not in self._buckets:
            self._buckets[key] = _Bucket(AsyncLimiter(rate.burst, rate.period))
        return self._buckets[key]

    def drawn_on(self) -> list[BudgetState]:
        """The buckets that are closed or not full. Full ones are left out, so those of a deleted vault disappear."""
        now = time.monotonic()
        states = (
            BudgetState(owner, name, bucket.left(), max(0.0, bucket.closed_until - now))
            for (owner, name), bucket in self._buckets.items()
        )
        return [state for state in states if state.left < 1.0 or state.closed_for > 0]

    async def draw(self, buckets: Iterable[_Bucket]) -> None:
        """Wait for a turn in every bucket; raises `BudgetSpentError` if that takes longer than `LONGEST_WAIT`."""
        for bucket in buckets:
            wait = bucket.closed_until - time.monotonic()
            if wait > LONGEST_WAIT:
                raise BudgetSpentError(wait)
            if wait > 0:
                await asyncio.sleep(wait)
            try:
                async with asyncio.timeout(LONGEST_WAIT):
                    await bucket.turn(owner_of_calls())
            except TimeoutError as error:
                raise BudgetSpentError(bucket.limiter.time_period / bucket.limiter.max_rate + LONGEST_WAIT) from error

    @staticmethod
    def close(buckets: Iterable[_Bucket], seconds: float) -> None:
        """Send nothing from `buckets` for `seconds`: an early retry would only restart Azure's waiting time."""
        until = time.monotonic() + seconds
        for bucket in buckets:
            bucket.closed_until = max(bucket.closed_until, until)


class BudgetedTransport(AioHttpTransport):  # type: ignore[misc]  # azure-core hides its type behind a lazy import
    """Sends every request of every SDK client through the budget, and counts it. Refuses other origins than the client's.

    This is a transport and not a policy, because a policy object may belong to only one pipeline, and azure-identity and Key
    Vault's challenge policy send requests that no earlier policy sees.
    """

    def __init__(
        self, session: aiohttp.ClientSession, budget: CallBudget, telemetry: Telemetry, base_url: str, turns: Turns
    ) -> None:
        """`turns` are those at the session's connections, which all of its transports share."""
        super().__init__(session=session, session_owner=False)
        self._origin = origin_of(base_url)
        self._budget = budget
        self._turns = turns
        self._telemetry = telemetry
        self._proxy_of = lru_cache(maxsize=1024)(egress_proxy)

    async def send(self, request: Any, **config: object) -> Any:  # noqa: ANN401 - the transport serves two request types
        """Wait for the budget, send, count, and obey Retry-After.

        Raises `AnotherHostError` for another host than the client's, before anything is sent, and for a redirect;
        `ChangeWithdrawnError` for a change that is no longer allowed.
        """
        if origin_of(request.url) != self._origin:
            raise AnotherHostError
        host, path = _target_of(request.url)
        method = str(request.method)
        service = service_of(host)
        buckets = tuple(self._budget.buckets_of(method, host, path))
        try:
            await self._budget.draw(buckets)
        except BudgetSpentError:
            self._telemetry.azure_budget_refusals.labels(service).inc()
            raise
        # aiohttp would give a free connection to whoever asks at that moment, and count the wait for one as Azure's silence.
        async with self._turns.turn(owner_of_calls()):
            await _require_still_allowed(service, method)
            began = time.perf_counter()
            status = 0
            try:
                async with asyncio.timeout(LONGEST_ANSWER):
                    response = await super().send(request, proxy=self._proxy_of(host), **config)
                status = response.status_code
            finally:
                operation = operation_of(service, method, path)
                self._telemetry.count_azure_request(service, shown_host(host), operation, status)
                self._telemetry.azure_request_seconds.labels(service).observe(time.perf_counter() - began)
        if status in {429, 503}:
            wait = seconds_to_wait(response.headers)
            if wait:
                self._budget.close(buckets, min(wait, LONGEST_CLOSURE))
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            raise AnotherHostError
        return response


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, without the default port."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].partition("?")[0].partition("#")[0].lower()
    return f"{scheme.lower()}://{host.removesuffix(':443')}"


def _target_of(url: str) -> tuple[str, str]:
    host, _, path = url.partition("://")[2].partition("/")
    return host.lower(), path.partition("?")[0]
