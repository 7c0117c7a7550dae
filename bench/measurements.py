"""The measurements; each returns rows of (what, figure, unit or remark)."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from bench.fleet import VAULT, Fleet
from bench.floor import Floor, peak_memory, processor_seconds
from sandbox.operator_process import OperatorProcess, start_operator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATIENCE = 900.0
SETTLED_AFTER = 6.0
UNLIMITED = "10000000"
BUDGETS = {
    f"CMK_OPERATOR_{name}": UNLIMITED
    for name in ("ARM_READS", "ARM_WRITES", "STORAGE_READS", "STORAGE_LISTS", "STORAGE_WRITES", "VAULT_CALLS")
}
"""The operator's own budgets, lifted as Azure's limits are: the engine is measured, not the waiting."""


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

    async def all_ready(self, operator: OperatorProcess, namespace: str, number: int) -> float:
        """Wait until so many resources of a namespace are Ready; the time when they were seen to be."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            # A table of thousands costs the API server more than the operator's own requests: first ask the operator.
            if metrics(operator.metrics()).get(("cmk_status_writes_total", "encryptedresources"), 0.0) < number:
                await asyncio.sleep(0.1)
                continue
            rows = await self.fleet.objects.table("EncryptedResource", namespace)
            ready = sum(1 for row in rows if row["Ready"] == "True")
            if ready >= number:
                return time.monotonic()
            await asyncio.sleep(0.25)
        raise TimeoutError(f"not all of {number} resources were Ready within {PATIENCE:.0f} s")

    async def settled(self, operator: OperatorProcess) -> None:
        """Wait until the operator has written no status for some seconds: keys count their users a little later."""
        last, since = -1.0, time.monotonic()
        while time.monotonic() - since < SETTLED_AFTER:
            writes = sum(value for key, value in metrics(operator.metrics()).items() if key[0] == "cmk_status_writes_total")
            if writes != last:
                last, since = writes, time.monotonic()
            await asyncio.sleep(0.5)

    async def new_with_floor(self, namespace: str, floor_namespace: str) -> list[Row]:
        """All resources are new when the operator starts; after it the floor on as many others, with their manifests."""
        number = len(self.fleet.accounts[namespace])
        await self.fleet.control.clear_requests()
        operator = self.start()
        try:
            began = time.monotonic()
            seconds = await self.all_ready(operator, namespace, number) - began
            await self.settled(operator)
            azure = await self.azure_calls()
            figures = metrics(operator.metrics())
            rows = [
                Row("new: all Ready", f"{seconds:.1f} s", f"{number} resources, {len(self.fleet.keys)} keys"),
                Row("new: resources per second", f"{number / seconds:.0f}"),
                Row(
                    "new: status writes per resource",
                    f"{figures['cmk_status_writes_total', 'encryptedresources'] / number:.2f}",
                    "goal: 1 to 2",
                ),
                Row(
                    "new: status writes per key",
                    f"{figures['cmk_status_writes_total', 'customermanagedkeys'] / len(self.fleet.keys):.2f}",
                ),
                Row(
                    "new: Kubernetes requests per resource",
                    f"{sum(value for key, value in figures.items() if key[0] == 'cmk_kubernetes_requests_total') / number:.2f}",
                    "reads, events and status writes of all kinds",
                ),
                Row("new: ARM calls per resource", f"{azure['management'] / number:.2f}", "goal: at most 2"),
                Row("new: vault calls per key", f"{azure['vault'] / len(self.fleet.keys):.2f}"),
                Row("new: peak resident memory", f"{peak_memory(operator.pid):.0f} MB", "goal: at most 120 MB at 5,000"),
                Row("new: operator's processor time per resource", f"{processor_seconds(operator.pid) / number * 1000:.1f} ms"),
            ]
        finally:
            operator.stop()
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
        figures = metrics(operator.metrics())
        azure = await self.azure_calls()
        writes = sum(value for key, value in figures.items() if key[0] == "cmk_status_writes_total")
        rows = [
            Row("restart: until all objects are listed", f"{ready:.1f} s", "with the start of Python"),
            Row("restart: until a request is served", f"{served:.1f} s"),
            Row(
                "restart: status writes in the first minute", f"{writes - 1:.0f}", "goal: 0 (the served request is not counted)"
            ),
            Row("restart: Azure calls in the first minute", f"{sum(azure.values())}", told(azure)),
            Row("restart: peak resident memory", f"{peak_memory(operator.pid):.0f} MB"),
        ]
        return rows, operator

    async def steady(self, operator: OperatorProcess, seconds: float) -> list[Row]:
        """Nothing happens for a while."""
        before = metrics(operator.metrics())
        used = processor_seconds(operator.pid)
        await self.fleet.control.clear_requests()
        await asyncio.sleep(seconds)
        azure = await self.azure_calls()
        after = metrics(operator.metrics())
        writes = sum(value - before.get(key, 0.0) for key, value in after.items() if key[0] == "cmk_status_writes_total")
        hourly = {service: round(count * 3600 / seconds) for service, count in azure.items()}
        share = (processor_seconds(operator.pid) - used) / seconds * 100
        return [
            Row("steady: Azure calls per hour", f"{sum(hourly.values())}", f"{told(hourly)}; from {seconds:.0f} s"),
            Row("steady: status writes", f"{writes:.0f}", "goal: 0"),
            Row("steady: share of one processor", f"{share:.1f} %"),
        ]

    async def detection(self, namespace: str, interval: str | None) -> list[Row]:
        """Every key is disabled at a random moment; from the call to the status that says so."""
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


def metrics(text: str) -> dict[tuple[str, str], float]:
    """Counters by name and kind (or verb), summed over their other labels."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = sample.labels.get("kind", sample.labels.get("verb"))
            if sample.name.endswith("_total") and label is not None:
                key = (sample.name, label)
                found[key] = found.get(key, 0.0) + sample.value
    return found
