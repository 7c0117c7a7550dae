"""One budget for all calls: per subscription and per vault, obedient to Retry-After, and never a long sleep."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import HttpRequest

from cmk_operator.azure import call_budget
from cmk_operator.azure.call_budget import BudgetedTransport, BudgetRates, CallBudget
from cmk_operator.azure.failures import BudgetSpentError, ChangeWithdrawnError, failure_of
from cmk_operator.composition import rates_of
from cmk_operator.core.faults.azure_failure import CHANGE_WITHDRAWN
from cmk_operator.core.kinds.call_rates import Rate, ServiceRates
from cmk_operator.providers.registry import RATES as PUBLISHED
from cmk_operator.settings import Settings
from cmk_operator.telemetry import Telemetry
from cmk_operator.turns import Turns, calls_of
from tests.unit.leaping_loop import run
from tests.unit.samples import SUBSCRIPTION

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

ARM = "https://management.azure.com"
ACCOUNTS = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts"
FEW = Rate(3, 300)
STORAGE = ServiceRates(namespace="microsoft.storage", listed="storageaccounts", reads=FEW, lists=FEW, writes=FEW)
RATES = BudgetRates(FEW, FEW, FEW, FEW, (STORAGE,))


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the budget read the loop's clock, which leaps; the real one is monotonic as well."""
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time(), perf_counter=lambda: 0.0)
    monkeypatch.setattr(call_budget, "time", clock)


@dataclass
class Wire:
    """The network below the transport: answers, and counts what came through."""

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    proxies: list[str | None] = field(default_factory=list)
    broken: bool = False

    def send(self, request: HttpRequest, proxy: str | None) -> SimpleNamespace:
        self.calls.append(request.url)
        self.proxies.append(proxy)
        if self.broken:
            raise ServiceRequestError("no connection")
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        return SimpleNamespace(status_code=status, headers=headers)


WIRE = Wire()


async def _send(_: AioHttpTransport, request: HttpRequest, *, proxy: str | None) -> SimpleNamespace:
    return WIRE.send(request, proxy)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    WIRE.__init__()  # type: ignore[misc]  # anew for each test
    monkeypatch.setattr(AioHttpTransport, "send", _send)


@dataclass
class Client:
    """Clients' transports on one budget."""

    rates: BudgetRates = RATES
    telemetry: Telemetry = field(default_factory=Telemetry)
    budget: CallBudget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = CallBudget(self.rates)

    async def call(self, method: str, url: str) -> int:
        session: Any = SimpleNamespace()  # never used: the network below is not there
        transport = BudgetedTransport(session, self.budget, self.telemetry, url, Turns(16))
        return int((await transport.send(HttpRequest(method, url))).status_code)


def story(
    tell: Callable[[Client], Coroutine[Any, Any, None]], *answers: tuple[int, dict[str, str]], rates: BudgetRates = RATES
) -> Client:
    WIRE.answers = list(answers)
    client = Client(rates)
    run(tell(client))
    return client


async def spend(client: Client, method: str, url: str, times: int = 3) -> None:
    for _ in range(times):
        await client.call(method, url)


@pytest.mark.parametrize(
    ("spent", "free"),
    [
        (("GET", f"{ARM}{ACCOUNTS}/a"), ("GET", f"{ARM}{ACCOUNTS.replace('6', '7')}/a")),
        (("GET", f"{ARM}{ACCOUNTS}/a"), ("PATCH", f"{ARM}{ACCOUNTS}/a")),
        (("GET", "https://abc.vault.azure.net/keys/k"), ("GET", "https://abd.vault.azure.net/keys/k")),
        (("GET", "https://abc.vault.azure.net/keys/k"), ("GET", f"{ARM}{ACCOUNTS}/a")),
        (
            ("POST", "https://login.microsoftonline.com/t/oauth2/v2.0/token"),
            ("GET", "https://graph.microsoft.com/v1.0/applications"),
        ),
    ],
    ids=["subscription", "reads and writes", "vault", "vault and subscription", "entra and graph"],
)
def test_budgets_are_separate(spent: tuple[str, str], free: tuple[str, str]) -> None:
    async def tell(client: Client) -> None:
        await spend(client, *spent)
        with pytest.raises(BudgetSpentError):
            await client.call(*spent)
        assert await client.call(*free) == 200

    story(tell)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://abc.vault.azure.net/keys/k", "https://abc.vault.azure.net/keys/k/wrapkey?api-version=7.6"),
        (f"{ARM}{ACCOUNTS}/a", f"{ARM}{ACCOUNTS.upper()}/b?api-version=2026-09-01"),
        (f"{ARM}{ACCOUNTS}", f"{ARM}{ACCOUNTS}/a"),
    ],
    ids=["one vault", "one subscription in any spelling", "lists count as reads of the subscription"],
)
def test_calls_to_one_place_share_one_budget(first: str, second: str) -> None:
    async def tell(client: Client) -> None:
        await spend(client, "GET", first)
        with pytest.raises(BudgetSpentError):
            await client.call("GET", second)

    story(tell)
    assert len(WIRE.calls) == 3


def test_a_call_that_is_refused_is_not_sent_and_says_when_to_come_back() -> None:
    async def tell(client: Client) -> None:
        await spend(client, "GET", f"{ARM}{ACCOUNTS}/a")
        began = asyncio.get_running_loop().time()
        with pytest.raises(BudgetSpentError) as refused:
            await client.call("GET", f"{ARM}{ACCOUNTS}/a")
        assert asyncio.get_running_loop().time() - began <= call_budget.LONGEST_WAIT + 0.01
        failure = failure_of(refused.value)
        assert (failure.code, failure.status, failure.transient) == ("BudgetSpent", 429, True)
        assert failure.retry_after is not None
        assert failure.retry_after >= 300 / 3

    client = story(tell)
    assert len(WIRE.calls) == 3
    assert client.telemetry.registry.get_sample_value("cmk_azure_budget_refusals_total", {"service": "resource_manager"}) == 1


def test_a_short_wait_is_waited() -> None:
    async def tell(client: Client) -> None:
        began = asyncio.get_running_loop().time()
        await spend(client, "GET", "https://abc.vault.azure.net/keys/k", 10)
        assert 6 <= asyncio.get_running_loop().time() - began <= 8

    rates = BudgetRates(vault_calls=Rate(2, 2))
    story(tell, rates=rates)
    assert len(WIRE.calls) == 10


def test_namespaces_that_use_one_subscription_take_turns_when_its_budget_is_spent() -> None:
    url, waits = f"{ARM}{ACCOUNTS}/a", dict[str, float]()

    async def flood(client: Client, number: int) -> None:
        with calls_of("flood"), contextlib.suppress(BudgetSpentError):
            await client.call("GET", f"{url}{number}")

    async def tell(client: Client) -> None:
        flooding = [asyncio.create_task(flood(client, number)) for number in range(1000)]
        await asyncio.sleep(0.1)
        with calls_of("victim"):
            for name in ("first", "second"):
                began = asyncio.get_running_loop().time()
                await client.call("GET", url)
                waits[name] = asyncio.get_running_loop().time() - began
        await asyncio.gather(*flooding)

    story(tell, rates=BudgetRates(Rate(4, 4)))
    assert max(waits.values()) <= 2.1


def test_a_call_that_no_longer_waits_takes_no_turn() -> None:
    async def tell(client: Client) -> None:
        url = "https://abc.vault.azure.net/keys/k"
        await spend(client, "GET", url, 2)
        given_up = asyncio.create_task(client.call("GET", url))
        await asyncio.sleep(0.1)
        given_up.cancel()
        began = asyncio.get_running_loop().time()
        await client.call("GET", url)
        assert asyncio.get_running_loop().time() - began <= 1.1

    story(tell, rates=BudgetRates(vault_calls=Rate(2, 2)))
    assert len(WIRE.calls) == 3


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [({"retry-after": "60"}, 60.0), ({"retry-after-ms": "90000"}, 90.0), ({"x-ms-retry-after-ms": "30000"}, 30.0)],
)
def test_retry_after_closes_the_budget_for_everybody_until_then(status: int, header: dict[str, str], seconds: float) -> None:
    async def tell(client: Client) -> None:
        url = f"{ARM}{ACCOUNTS}/a"
        assert await client.call("GET", url) == status
        with pytest.raises(BudgetSpentError) as refused:
            await client.call("GET", url.replace("/a", "/b"))
        assert refused.value.retry_after == pytest.approx(seconds)
        await asyncio.sleep(seconds)
        assert await client.call("GET", url) == 200

    story(tell, (status, header))
    assert len(WIRE.calls) == 2


def test_a_short_retry_after_is_waited_for_inside_the_call() -> None:
    async def tell(client: Client) -> None:
        began = asyncio.get_running_loop().time()
        assert await client.call("GET", "https://abc.vault.azure.net/keys/k") == 429
        assert await client.call("GET", "https://abc.vault.azure.net/keys/k") == 200
        assert asyncio.get_running_loop().time() - began >= 3

    story(tell, (429, {"retry-after": "3"}))


def test_a_shorter_retry_after_does_not_open_what_a_longer_one_closed() -> None:
    budget = CallBudget(RATES)

    async def tell() -> None:
        buckets = tuple(budget.buckets_of("GET", "abc.vault.azure.net", "keys/k"))
        budget.close(buckets, 100)
        budget.close(buckets, 10)
        with pytest.raises(BudgetSpentError) as refused:
            await budget.draw(buckets)
        assert refused.value.retry_after == pytest.approx(100)

    run(tell())


def test_a_vault_that_throttles_closes_itself_only() -> None:
    async def tell(client: Client) -> None:
        assert await client.call("GET", "https://abc.vault.azure.net/keys/k") == 429
        with pytest.raises(BudgetSpentError):
            await client.call("GET", "https://abc.vault.azure.net/keys/k")
        assert await client.call("GET", "https://abd.vault.azure.net/keys/k") == 200
        assert await client.call("GET", f"{ARM}{ACCOUNTS}/a") == 200

    story(tell, (429, {"retry-after": "600"}))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"retry-after": "soon"},
        {"retry-after": "Tue, 24 Nov 2026 12:00:00 GMT"},
        {"retry-after": "-5"},
        {"retry-after": "nan"},
    ],
)
def test_a_429_without_a_usable_time_closes_nothing(header: dict[str, str]) -> None:
    async def tell(client: Client) -> None:
        assert await client.call("GET", "https://abc.vault.azure.net/keys/k") == 429
        assert await client.call("GET", "https://abc.vault.azure.net/keys/k") == 200

    story(tell, (429, header))


def test_every_attempt_is_counted_also_one_that_breaks() -> None:
    async def tell(client: Client) -> None:
        await client.call("GET", "https://abc.vault.azure.net/keys/k")
        WIRE.broken = True
        with pytest.raises(ServiceRequestError):
            await client.call("GET", "https://abc.vault.azure.net/keys/k")

    registry = story(tell).telemetry.registry
    for code in ("200", "0"):
        labels = {"service": "key_vault", "host": "abc.vault.azure.net", "operation": "getKey", "code": code}
        assert registry.get_sample_value("cmk_azure_requests_total", labels) == 1


def test_the_rates_stay_below_azure_s_published_limits() -> None:
    rates = rates_of(Settings())
    assert rates.resource_manager_reads.burst <= 250
    assert rates.resource_manager_reads.burst / rates.resource_manager_reads.period <= 25
    assert rates.resource_manager_writes.burst <= 200
    assert rates.resource_manager_writes.burst / rates.resource_manager_writes.period <= 10
    (storage,) = rates.services
    assert storage.namespace == "microsoft.storage"
    assert storage.reads.burst <= 800 * storage.reads.period / 300
    assert storage.lists.burst <= 100 * storage.lists.period / 300
    assert storage.writes.burst <= 1200 * storage.writes.period / 3600
    assert storage.writes_at_once is not None
    assert storage.writes_at_once.burst <= 10 * storage.writes_at_once.period


def test_the_rates_waste_nothing_of_what_azure_allows_for_writes() -> None:
    rates = rates_of(Settings())
    assert rates.resource_manager_writes.burst >= 190
    assert rates.resource_manager_writes.burst / rates.resource_manager_writes.period >= 9.5
    (storage,) = rates.services
    assert storage.writes_at_once is not None
    assert storage.writes_at_once.burst / storage.writes_at_once.period >= 9.5


def test_a_kind_s_own_rates_hold_unless_a_flag_says_otherwise() -> None:
    assert rates_of(Settings()).services == PUBLISHED
    (storage,) = rates_of(Settings(storage_writes_per_second=4)).services
    assert storage == replace(PUBLISHED[0], writes_at_once=Rate(1, 0.25))
    (storage,) = rates_of(Settings(storage_lists=5)).services
    assert (storage.lists, storage.reads, storage.writes) == (Rate(5, 300), PUBLISHED[0].reads, PUBLISHED[0].writes)


def test_a_service_with_limits_of_its_own_has_buckets_of_its_own() -> None:
    things = ServiceRates(
        namespace="microsoft.example", listed="things", reads=Rate(5, 300), lists=Rate(1, 300), writes=Rate(2, 300)
    )
    url = f"{ARM}/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Example/things"

    async def tell(client: Client) -> None:
        for method, path in (("GET", url), ("GET", f"{url}/a"), ("PUT", f"{url}/a"), ("GET", f"{ARM}{ACCOUNTS}/a")):
            assert await client.call(method, path) == 200
        drawn_on = {state.bucket for state in client.budget.drawn_on()}
        assert drawn_on == {"reads", "writes", "example lists", "example reads", "example writes"}

    story(tell, rates=BudgetRates(services=(things,)))


def test_writes_of_a_service_with_a_short_limit_are_spread_over_time() -> None:
    things = ServiceRates(
        namespace="microsoft.example",
        listed="things",
        reads=Rate(5, 300),
        lists=Rate(1, 300),
        writes=Rate(1000, 300),
        writes_at_once=Rate(1, 0.1),
    )
    url = f"{ARM}/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Example/things/a"

    async def tell(client: Client) -> None:
        now = asyncio.get_running_loop().time
        began = now()
        sent = []
        for _ in range(31):
            await client.call("PUT", url)
            sent.append(now() - began)
        assert sent[-1] == pytest.approx(3.0, abs=0.1)
        assert max(sum(start <= one < start + 1 for one in sent) for start in sent) <= 10
        await client.call("GET", url)
        assert now() - began == pytest.approx(sent[-1], abs=0.05), "a read does not wait for writes"

    story(tell, rates=BudgetRates(services=(things,)))


def test_what_is_left_of_a_budget_is_told_while_it_is_not_full() -> None:
    async def tell(client: Client) -> None:
        assert client.budget.drawn_on() == []
        for _ in range(10):
            await client.call("GET", "https://abc.vault.azure.net/keys/k")
        (state,) = client.budget.drawn_on()
        assert (state.owner, state.bucket, state.closed_for) == ("abc.vault.azure.net", "calls", 0.0)
        assert 0.45 <= state.left <= 0.55
        await asyncio.sleep(3600)
        assert client.budget.drawn_on() == []

    story(tell, rates=BudgetRates(vault_calls=Rate(20, 1000)))


def test_a_budget_that_azure_closed_tells_for_how_long() -> None:
    async def tell(client: Client) -> None:
        assert await client.call("GET", "https://abc.vault.azure.net/keys/k") == 429
        (state,) = client.budget.drawn_on()
        assert 59 <= state.closed_for <= 60

    story(tell, (429, {"retry-after": "60"}))


def test_a_transport_goes_through_the_proxy_of_its_own_time_and_not_of_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell() -> None:
        for proxy in ("http://one.test:8080", "http://two.test:8080"):
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            monkeypatch.setenv("NO_PROXY", "excepted.test")
            client = Client()
            await client.call("GET", "https://abc.vault.azure.net/keys/k")
            await client.call("GET", "https://excepted.test/")

    run(tell())
    assert WIRE.proxies == ["http://one.test:8080", None, "http://two.test:8080", None]


@pytest.mark.parametrize(
    ("method", "url", "sent"),
    [
        ("PATCH", f"{ARM}{ACCOUNTS}/a", 0),
        ("PUT", f"{ARM}{ACCOUNTS}/a", 0),
        ("POST", "https://contoso.snowflakecomputing.com/api/v2/statements", 0),
        ("GET", f"{ARM}{ACCOUNTS}/a", 1),
        ("POST", "https://login.microsoftonline.com/t/oauth2/v2.0/token", 1),
        ("POST", "https://abc.vault.azure.net/keys/k/wrapkey", 1),
    ],
)
def test_a_change_that_is_no_longer_allowed_is_not_sent_and_everything_else_is(method: str, url: str, sent: int) -> None:
    async def withdrawn() -> bool:
        return False

    async def tell(client: Client) -> None:
        with call_budget.changes_only_if(withdrawn):
            if sent:
                await client.call(method, url)
            else:
                with pytest.raises(ChangeWithdrawnError) as refused:
                    await client.call(method, url)
                assert failure_of(refused.value).code == CHANGE_WITHDRAWN

    story(tell)
    assert len(WIRE.calls) == sent


def test_a_change_is_judged_after_it_has_waited_for_its_turn() -> None:
    asked: list[float] = []

    async def allowed() -> bool:
        asked.append(asyncio.get_running_loop().time())
        return True

    async def tell(client: Client) -> None:
        began = asyncio.get_running_loop().time()
        with call_budget.changes_only_if(allowed):
            await spend(client, "PATCH", f"{ARM}{ACCOUNTS}/a", 3)
        assert asked[-1] - began >= 1

    story(tell, rates=BudgetRates(resource_manager_writes=Rate(2, 2)))
