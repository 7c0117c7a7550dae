"""How soon a loss is in status, and what the checks cost: many keys, default intervals, the operator's budgets and Azure's limits."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench.fleet import OWN_GRANTS_VAULT, VAULT, in_batches
from bench.floor import peak_memory, processor_seconds
from bench.measurements import PATIENCE, Row
from bench.watching import watching
from sandbox.azure.timings import WITHOUT_LIMITS, Timings
from sandbox.operator_process import start_operator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rich.console import Console

    from bench.fleet import Fleet
    from bench.measurements import Bench

INTERVAL: Final = 45.0
"""The default; figures are given per such interval."""
SETTLING: Final = 2.5 * INTERVAL
STEADY: Final = 6 * INTERVAL
SAMPLE: Final = 100
"""Keys disabled in each vault."""
SPREAD: Final = 2 * INTERVAL
POLL: Final = 0.1
WINDOW: Final = 10.0
LIMIT: Final = 4000
"""Azure's published limit of RSA 2048 operations of one vault in ten seconds."""
SHOWN: Final = {VAULT: "role on the vault", OWN_GRANTS_VAULT: "role on each key"}


@dataclass
class States:
    """The access state of each key and of each resource's key, as a watch shows it, and when that was written."""

    keys: dict[str, tuple[str, float]] = field(default_factory=dict)
    resources: dict[str, tuple[str, float]] = field(default_factory=dict)

    async def follow(self, fleet: Fleet, kind: str, namespace: str, kept: dict[str, tuple[str, float]]) -> None:
        """Store what the watch shows, until it is cancelled."""
        while True:
            async for body in fleet.objects.changes(kind, namespace):
                name, state = body["metadata"]["name"], _state(body.get("status", {}))
                if kept.get(name, ("", 0.0))[0] != state:
                    kept[name] = (state, time.monotonic())


def _state(status: dict[str, Any]) -> str:
    found: dict[str, Any] = next((one for one in status.get("conditions", ()) if one["type"] == "KeyAccessible"), {})
    return str(found.get("reason", ""))


@dataclass
class Detection:
    """One fleet, half of its keys in a vault on which the application has its role, half in one with a role on each key."""

    fleet: Fleet
    bench: Bench
    console: Console
    namespace: str
    users: dict[str, list[str]] = field(default_factory=dict)

    async def measure(self) -> list[Row]:
        """Rows of times from the customer's call to the status, and of calls to the vaults."""
        fleet, names = self.fleet, list(self.fleet.keys)
        for index, resource_id in enumerate(fleet.accounts[self.namespace]):
            self.users.setdefault(names[index % len(names)], []).append(resource_id.rsplit("/", 1)[-1])
        self.console.print("all new, without limits …")
        async with watching(fleet.objects, self.namespace) as readiness:
            operator = await asyncio.to_thread(self.bench.start)
            try:
                await readiness.until_ready(len(fleet.accounts[self.namespace]), PATIENCE)
                await readiness.until_settled()
            finally:
                operator.stop()
        azure = Timings()
        await fleet.control.set_timings(**{name: getattr(azure, name) for name in WITHOUT_LIMITS})
        operator = start_operator(fleet.cluster, self.bench.env, self.bench.directory / "operator")
        try:
            async with self._states() as states:
                self.console.print("steady state, with limits …")
                await asyncio.sleep(SETTLING)
                rows = self._shown(await self._steady(operator.pid))
                self.console.print("single keys are disabled …")
                rows += self._shown(await self._disabled(states))
                self.console.print("a role on a vault is withdrawn …")
                rows += self._shown(await self._revoked(states))
            rows.append(Row("peak resident memory", f"{peak_memory(operator.pid):.0f} MB"))
        finally:
            operator.stop()
        return rows

    def _shown(self, rows: list[Row]) -> list[Row]:
        """Print the first results at once, because the rest takes minutes."""
        for row in rows:
            self.console.print(f"  {row.what}: {row.figure}")
        return rows

    @asynccontextmanager
    async def _states(self) -> AsyncIterator[States]:
        states = States()
        tasks = [
            asyncio.create_task(states.follow(self.fleet, "CustomerManagedKey", self.namespace, states.keys)),
            asyncio.create_task(states.follow(self.fleet, "EncryptedResource", self.namespace, states.resources)),
        ]
        try:
            yield states
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _keys_of(self, vault: str) -> list[str]:
        return [name for name in self.fleet.keys if self.fleet.vaults.get(name, VAULT) == vault]

    async def _steady(self, pid: int) -> list[Row]:
        await self.fleet.control.clear_requests()
        used = processor_seconds(pid)
        await asyncio.sleep(STEADY)
        share = (processor_seconds(pid) - used) / STEADY
        rows, requests = [], await self._requests()
        for vault, shown in SHOWN.items():
            times = [entry["time"] for entry in requests if entry["host"].startswith(f"{vault}.")]
            each = len(times) / len(self._keys_of(vault)) / (STEADY / INTERVAL)
            rows.append(
                Row(
                    f"steady, {shown}: vault calls per key and interval",
                    f"{each:.2f}",
                    f"goal: under 1 with a list, 4/3 without; {len(self._keys_of(vault))} keys, at most {busiest(times)} calls in 10 s of {LIMIT}",
                )
            )
        rows.append(Row("steady: share of one processor", f"{share * 100:.1f} %"))
        return rows

    async def _disabled(self, states: States) -> list[Row]:
        await self.fleet.control.clear_requests()
        chosen = [
            name for vault in SHOWN for name in random.sample(self._keys_of(vault), min(SAMPLE, len(self._keys_of(vault))))
        ]

        async def disable(name: str) -> tuple[float, float]:
            await asyncio.sleep(random.uniform(0, SPREAD))
            began = time.monotonic()
            await self.fleet.customer.disable(self.fleet.vaults.get(name, VAULT), name)
            return await self._seen(states, name, "Disabled", began)

        delays = dict(zip(chosen, await asyncio.gather(*(disable(name) for name in chosen)), strict=True))
        rows = []
        for vault, shown in SHOWN.items():
            mine = [delays[name] for name in chosen if self.fleet.vaults.get(name, VAULT) == vault]
            rows += told(f"a key is disabled, {shown}", mine, f"{len(mine)} keys within {SPREAD:.0f} s")
        rows += await self._limits("while they were disabled")

        async def enable(name: str) -> None:
            await self.fleet.customer.enable(self.fleet.vaults.get(name, VAULT), name)

        began = time.monotonic()
        await in_batches(chosen, enable)
        await asyncio.gather(*(self._seen(states, name, "Accessible", began) for name in chosen))
        await asyncio.sleep(SETTLING)
        return rows

    async def _revoked(self, states: States) -> list[Row]:
        """All keys of one vault are lost at once: the list on which they relied is refused."""
        fleet, application = self.fleet, self.fleet.identity.application_client_id
        await fleet.control.clear_requests()
        names, began = self._keys_of(VAULT), time.monotonic()
        await fleet.customer.revoke_grant(application, VAULT)
        delays = await asyncio.gather(*(self._seen(states, name, "PermissionDenied", began) for name in names))
        rows = told("the role on the vault is withdrawn", list(delays), f"{len(names)} keys at once")
        rows += await self._limits("after the role was withdrawn")
        began = time.monotonic()
        await fleet.customer.grant(application, VAULT)
        healed = await asyncio.gather(*(self._seen(states, name, "Accessible", began) for name in names))
        return [*rows, *told("the role is given back: healed", list(healed), f"{len(names)} keys at once")]

    async def _seen(self, states: States, name: str, state: str, began: float) -> tuple[float, float]:
        """Seconds until the key's status told the state, and until that of the last of its resources did."""
        while not (states.keys[name][0] == state and states.keys[name][1] >= began):
            if time.monotonic() - began > PATIENCE:
                raise TimeoutError(f"{name} is {states.keys[name][0]}, not {state}")
            await asyncio.sleep(POLL)
        key = states.keys[name][1] - began
        while any(states.resources[user][0] != state for user in self.users.get(name, ())):
            if time.monotonic() - began > PATIENCE:
                raise TimeoutError(f"a resource on {name} is not {state}")
            await asyncio.sleep(POLL)
        last = max((states.resources[user][1] for user in self.users.get(name, ())), default=began)
        return key, max(key, last - began)

    async def _limits(self, when: str) -> list[Row]:
        requests = await self._requests()
        throttled = sum(1 for entry in requests if entry["status"] == 429)
        most = max(busiest([one["time"] for one in requests if one["host"].startswith(f"{vault}.")]) for vault in SHOWN)
        services = Counter(entry["service"] for entry in requests)
        counts = ", ".join(f"{name} {count}" for name, count in sorted(services.items()))
        return [Row(f"vault calls in 10 s {when}", f"{most}", f"of {LIMIT} of one vault; {throttled} answers 429; {counts}")]

    async def _requests(self) -> list[dict[str, Any]]:
        """The operator's calls, without the customer's own."""
        own = self.fleet.customer.client_id
        return [entry for entry in await self.fleet.control.requests() if entry["application"] != own]


def busiest(times: list[float]) -> int:
    """The most requests in any ten seconds."""
    window: deque[float] = deque()
    most = 0
    for moment in sorted(times):
        window.append(moment)
        while moment - window[0] > WINDOW:
            window.popleft()
        most = max(most, len(window))
    return most


def told(what: str, delays: list[tuple[float, float]], remark: str) -> list[Row]:
    """Half and nearly all of the delays, of the keys and of the last of each one's resources."""
    rows = []
    for shown, values in (("key's status", [key for key, _ in delays]), ("all its resources'", [last for _, last in delays])):
        ordered = sorted(values)
        p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
        figure = f"{statistics.median(ordered):.1f} s / {p99:.1f} s / {ordered[-1]:.1f} s"
        rows.append(Row(f"{what}: {shown}, p50 / p99 / longest", figure, remark))
    return rows
