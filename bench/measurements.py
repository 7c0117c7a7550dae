"""The measurements; each returns rows of (what, figure, unit or remark)."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import api_server
from bench.fleet import VAULT, Fleet
from bench.floor import Floor, peak_memory, processor_seconds, started
from bench.watching import watching
from sandbox.kubernetes.objects import has
from sandbox.operator_process import OperatorProcess, start_operator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATIENCE = 900.0
UNLIMITED = "10000000"
BUDGETS = {
    f"CMK_OPERATOR_{name}": UNLIMITED
    for name in (
        "ARM_READS",
        "ARM_WRITES",
        "STORAGE_READS",
        "STORAGE_LISTS",
        "STORAGE_WRITES",
        "STORAGE_WRITES_PER_SECOND",
        "VAULT_CALLS",
    )
}
"""The operator's own budgets, raised as Azure's limits are, so that the work is measured and not the waiting."""


@dataclass(frozen=True)
class Row:
    """One figure."""

    what: str
    figure: str
    remark: str = ""


@dataclass
class Bench:
    """One run of the benchmark."""

    fleet: Fleet
    env: dict[str, str]
    directory: Path

    def start(self, settings: Mapping[str, str] | None = None) -> OperatorProcess:
        """Start the operator with its default intervals and lifted budgets."""
        return start_operator(self.fleet.cluster, self.env, self.directory / "operator", {**BUDGETS, **(settings or {})})

    async def new_with_floor(self, namespace: str, floor_namespace: str) -> list[Row]:
        """All resources are new when the operator starts; after it the floor on as many others, with their manifests."""
        number = len(self.fleet.accounts[namespace])
        keys = len(self.fleet.keys)
        async with watching(self.fleet.objects, namespace) as readiness:
            await readiness.until_settled()
            await self.fleet.control.clear_requests()
            asked, server_used = api_server.requests(self.fleet.cluster), api_server.processor_time(self.fleet.cluster)
            operator = await asyncio.to_thread(self.start)
            try:
                seconds = await readiness.until_ready(number, PATIENCE) - began_at(operator.pid)
                used = processor_seconds(operator.pid)
                await readiness.until_settled()
                memory = peak_memory(operator.pid)
            finally:
                operator.stop()
        server_used = api_server.processor_time(self.fleet.cluster) - server_used
        asked = api_server.requests(self.fleet.cluster) - asked
        azure = await self.azure_calls()
        rows = [
            Row("new: all Ready", f"{seconds:.1f} s", f"{number} resources, {keys} keys; with the start of Python"),
            Row("new: resources per second", f"{number / seconds:.0f}"),
            *requests_of(asked, number, keys),
            Row("new: API server's processor time per resource", f"{server_used / number * 1000:.1f} ms", "goal: at most 9.6"),
            Row("new: ARM calls per resource", f"{azure['management'] / number:.2f}", "goal: at most 2"),
            Row("new: vault calls per key", f"{azure['vault'] / keys:.2f}", "goal: at most 4.3"),
            Row("new: peak resident memory", f"{memory:.0f} MB", "goal: at most 170 MB"),
            Row("new: operator's processor time per resource", f"{used / number * 1000:.1f} ms", "goal: at most 6"),
        ]
        await self.fleet.apply_keys(floor_namespace)
        await self.fleet.apply_resources(floor_namespace)
        token_file = self.directory / "operator" / "azure-identity-token"
        floor_began = time.process_time()
        floor = await Floor(self.fleet, self.env, token_file).run(floor_namespace)
        floor_processor = (time.process_time() - floor_began) / number * 1000
        rows += [
            Row("floor: the same calls by a bare client", f"{floor:.1f} s", f"{number} resources"),
            Row("floor: processor time per resource", f"{floor_processor:.1f} ms"),
            Row("operator ÷ floor", f"{seconds / floor:.2f}", "time until all are Ready"),
        ]
        return rows

    async def restart(self, namespace: str) -> tuple[list[Row], OperatorProcess]:
        """Start again with everything Ready; then a changed manifest must be served."""
        name = self.fleet.accounts[namespace][0].rsplit("/", 1)[-1]
        await self.fleet.control.clear_requests()
        asked = api_server.requests(self.fleet.cluster)
        began = time.monotonic()
        operator = self.start()
        ready = time.monotonic() - began
        stamp = f"bench-{began}"
        await self.fleet.objects.merge(
            "EncryptedResource",
            name,
            {"metadata": {"annotations": {"cmk-operator.dev/reconcile-requested-at": stamp}}},
            namespace,
        )
        await self.fleet.objects.until(
            "the request echoed",
            "EncryptedResource",
            name,
            lambda status: status.get("lastHandledReconcileAt") == stamp,
            namespace,
            PATIENCE,
        )
        served = time.monotonic() - began
        await asyncio.sleep(max(0.0, 60.0 - (time.monotonic() - began)))
        azure = await self.azure_calls()
        writes = status_writes(api_server.requests(self.fleet.cluster) - asked)
        rows = [
            Row("restart: until all objects are listed", f"{ready:.1f} s", "with the start of Python"),
            Row("restart: until a request is served", f"{served:.1f} s"),
            Row(
                "restart: status writes in the first minute", f"{writes - 1:.0f}", "goal: 0 (the served request is not counted)"
            ),
            Row("restart: Azure calls in the first minute", f"{sum(azure.values())}", told(azure)),
            Row("restart: processor time in the first minute", f"{processor_seconds(operator.pid):.1f} s", "goal: at most 3"),
            Row("restart: peak resident memory", f"{peak_memory(operator.pid):.0f} MB"),
        ]
        return rows, operator

    async def steady(self, operator: OperatorProcess, namespace: str, seconds: float) -> list[Row]:
        """Nothing happens for a while, after each key has reported Azure's first list of its users: that is written once."""
        listed = has("UsersKnown", "True", "Listed")
        for key in self.fleet.keys:
            await self.fleet.objects.until("Azure's list of its users", "CustomerManagedKey", key, listed, namespace, PATIENCE)
        before = api_server.requests(self.fleet.cluster)
        used = processor_seconds(operator.pid)
        await self.fleet.control.clear_requests()
        await asyncio.sleep(seconds)
        share = (processor_seconds(operator.pid) - used) / seconds * 100
        azure = await self.azure_calls()
        writes = status_writes(api_server.requests(self.fleet.cluster) - before)
        hourly = {service: round(count * 3600 / seconds) for service, count in azure.items()}
        return [
            Row("steady: Azure calls per hour", f"{sum(hourly.values())}", f"{told(hourly)}; from {seconds:.0f} s"),
            Row("steady: status writes", f"{writes:.0f}", "goal: 0"),
            Row("steady: share of one processor", f"{share:.2f} %", "goal: at most 0.6"),
        ]

    async def detection(self, namespace: str, interval: str | None) -> list[Row]:
        """Every key is disabled at a random time; measured from the call until status shows it."""
        settings = {"CMK_OPERATOR_KEY_CHECK_INTERVAL": interval} if interval else {}
        operator = self.start(settings)
        shown = f"{interval} s" if interval else "default (45 s)"
        spread = float(interval or 45)
        try:
            await asyncio.sleep(spread)
            delays = await asyncio.gather(*(self._disabled(namespace, key, spread) for key in self.fleet.keys))
            await asyncio.gather(*(self.fleet.customer.enable(VAULT, key) for key in self.fleet.keys))
            await asyncio.gather(*(self._healed(namespace, key) for key in self.fleet.keys))
        finally:
            operator.stop()
        ordered = sorted(delays)
        p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
        return [
            Row(f"detection, interval {shown}: p50", f"{statistics.median(ordered):.1f} s", f"{len(ordered)} keys"),
            Row(f"detection, interval {shown}: p99", f"{p99:.1f} s"),
        ]

    async def _disabled(self, namespace: str, key: str, spread: float) -> float:
        await asyncio.sleep(random.uniform(0, spread))
        began = time.monotonic()
        await self.fleet.customer.disable(VAULT, key)
        await self.fleet.objects.until(
            "Disabled",
            "CustomerManagedKey",
            key,
            lambda status: status.get("access", {}).get("state") == "Disabled",
            namespace,
            PATIENCE,
        )
        return time.monotonic() - began

    async def _healed(self, namespace: str, key: str) -> None:
        await self.fleet.objects.until(
            "Accessible",
            "CustomerManagedKey",
            key,
            lambda status: status.get("access", {}).get("state") == "Accessible",
            namespace,
            PATIENCE,
        )

    async def azure_calls(self) -> Counter[str]:
        """Requests of the operator so far, by service."""
        found: Counter[str] = Counter()
        for entry in await self.fleet.control.counts():
            found[str(entry["service"])] += int(entry["count"])
        return found


def told(counts: Mapping[str, int]) -> str:
    """Counts as one phrase."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def requests_of(asked: Counter[str], number: int, keys: int) -> list[Row]:
    """The requests to the API server until that many resources were Ready."""
    writes = "APPLY {}/status".format
    events, patches = asked["POST events"], asked["PATCH configmaps"]
    return [
        Row("new: Kubernetes requests per resource", f"{sum(asked.values()) / number:.2f}", "goal: at most 4"),
        Row("new: status writes per resource", f"{asked[writes('encryptedresources')] / number:.2f}", "goal: 1 to 2"),
        Row("new: status writes per key", f"{asked[writes('customermanagedkeys')] / keys:.2f}", "goal: at most 2.2"),
        Row("new: events per resource", f"{events / number:.2f}", f"{events} in all"),
        Row("new: patches of the audit record per resource", f"{patches / number:.2f}", f"{patches} in all"),
        Row("new: reads of keys per resource", f"{asked['GET customermanagedkeys'] / number:.2f}"),
        Row("new: all requests", str(sum(asked.values())), told(asked)),
    ]


def status_writes(asked: Counter[str]) -> int:
    """How many of the requests wrote a status."""
    return sum(count for what, count in asked.items() if what.startswith("APPLY") and what.endswith("/status"))


def began_at(pid: int) -> float:
    """When a process was started, by the monotonic clock; both count from the start of the machine, unless it slept."""
    return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - started(pid))
