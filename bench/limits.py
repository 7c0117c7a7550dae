"""How near the operator comes to the time that Azure's own limits allow: nobody can write faster, whoever writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.measurements import PATIENCE, Row, began_at
from bench.watching import watching
from sandbox.azure.timings import WITHOUT_LIMITS, Timings
from sandbox.operator_process import start_operator

if TYPE_CHECKING:
    from bench.fleet import Fleet
    from bench.measurements import Bench

GROUP: Final = "rg-limits"


@dataclass
class Limits:
    """New accounts of one subscription, with Azure's limits and the operator's own budgets in force."""

    fleet: Fleet
    bench: Bench

    async def measure(self, number: int) -> list[Row]:
        """Rows of the time until all are Ready, and of its share of what the limits allow."""
        fleet, azure = self.fleet, Timings()
        await fleet.create_accounts(GROUP, number)
        await fleet.apply_keys(GROUP)
        await fleet.apply_resources(GROUP)
        allowed = max(0, number - azure.arm_write_bucket) / azure.arm_write_refill_per_second
        await fleet.control.set_timings(**{name: getattr(azure, name) for name in WITHOUT_LIMITS})
        try:
            async with watching(fleet.objects, GROUP) as readiness:
                operator = await asyncio.to_thread(
                    start_operator, fleet.cluster, self.bench.env, self.bench.directory / "operator"
                )
                try:
                    seconds = await readiness.until_ready(number, PATIENCE) - began_at(operator.pid)
                finally:
                    operator.stop()
        finally:
            await fleet.control.set_timings(**WITHOUT_LIMITS)
        shown = f"{azure.arm_write_bucket} writes, then {azure.arm_write_refill_per_second:.0f} a second"
        return [
            Row("with Azure's limits: all Ready", f"{seconds:.1f} s", f"{number} accounts of one subscription: {shown}"),
            Row(
                "with Azure's limits: time ÷ what they allow",
                f"{seconds / allowed:.2f}" if allowed else "-",
                f"goal: at most 1.1; allowed are {allowed:.0f} s",
            ),
        ]
