"""How close the operator comes to the shortest time that Azure's own limits allow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from bench.measurements import BUDGETS, PATIENCE, Row, began_at
from bench.watching import watching
from sandbox.azure.timings import WITHOUT_LIMITS, Timings
from sandbox.operator_process import start_operator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from bench.fleet import Fleet
    from bench.measurements import Bench
    from sandbox.administrators import ProviderAdministrator

FREE: Final = "rg-free"
LIMITED: Final = {1: "rg-limits", 5: "rg-limits-5"}
"""The group and namespace for each number of subscriptions. Each has subscriptions of its own: Azure lists whole subscriptions."""
SUBSCRIPTIONS: Final = sum(LIMITED)
GROUPS: Final = (FREE, *LIMITED.values())
LONGEST_WINDOW: Final = 301.0
"""Seconds after which Azure's longest window, that of lists, is empty again."""


@dataclass
class Limits:
    """New accounts, with Azure's limits and the operator's own budgets in force, beside as many without."""

    fleet: Fleet
    bench: Bench

    async def measure(self, number: int) -> list[Row]:
        """Rows of the time until all are Ready, and its ratio to what the limits allow or the operator needs without them."""
        free = await self._seconds(FREE, number, (), BUDGETS)
        rows = [Row("without limits: all Ready", f"{free:.1f} s", f"{number} accounts")]
        others = iter(self.fleet.others)
        for subscriptions, group in LIMITED.items():
            owners = tuple(islice(others, subscriptions))
            allowed = allowed_seconds(-(-number // subscriptions), Timings())
            seconds = await self._limited(group, number, owners)
            least = max(allowed, free)
            name = f"with Azure's limits, {subscriptions} subscription{'s' if subscriptions > 1 else ''}"
            rows += [
                Row(f"{name}: all Ready", f"{seconds:.1f} s", f"{number} accounts; the limits allow {allowed:.1f} s"),
                Row(f"{name}: time ÷ least", f"{seconds / least:.2f}", f"goal: at most 1.1; least is {least:.1f} s"),
            ]
        return rows

    async def _limited(self, group: str, number: int, owners: Sequence[ProviderAdministrator]) -> float:
        async def limit() -> None:
            azure = Timings()
            await self.fleet.control.set_timings(**{name: getattr(azure, name) for name in WITHOUT_LIMITS})
            # What was asked without limits counts against Azure's windows of up to five minutes as well.
            await self.fleet.control.advance(LONGEST_WINDOW)

        try:
            return await self._seconds(group, number, owners, {}, limit)
        finally:
            await self.fleet.control.set_timings(**WITHOUT_LIMITS)

    async def _seconds(
        self,
        group: str,
        number: int,
        owners: Sequence[ProviderAdministrator],
        settings: Mapping[str, str],
        limit: Callable[[], Awaitable[None]] | None = None,
    ) -> float:
        """From the start of the process until all are Ready; the manifests are removed afterwards."""
        fleet = self.fleet
        await fleet.create_accounts(group, number, owners)
        await fleet.apply_keys(group)
        await fleet.apply_resources(group)
        if limit is not None:
            await limit()
        async with watching(fleet.objects, group) as readiness:
            operator = await asyncio.to_thread(
                start_operator, fleet.cluster, self.bench.env, self.bench.directory / "operator", settings
            )
            try:
                seconds = await readiness.until_ready(number, PATIENCE) - began_at(operator.pid)
            finally:
                operator.stop()
        await fleet.remove(group)
        return seconds


def allowed_seconds(writes: int, azure: Timings) -> float:
    """The least time in which one subscription takes so many writes: Resource Manager's bucket, and Storage's writes a second."""
    by_resource_manager = (writes - azure.arm_write_bucket) / azure.arm_write_refill_per_second
    by_storage = (writes - azure.storage_write_per_second) / azure.storage_write_per_second
    return max(0.0, by_resource_manager, by_storage)
