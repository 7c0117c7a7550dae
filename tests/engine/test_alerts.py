"""Alerts about the operator itself and about times: its own metrics, behind a faulty API server, in Prometheus' own engine."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sandbox.kubernetes.objects import has
from sandbox.operator_process import NAMESPACE
from tests.engine.operators import until
from tests.monitoring.live import Scrape, Timeline, fired
from tests.monitoring.live_alerts import SEEN_BEHIND_FAULTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.world import World

SETTINGS = {"key_check_interval": 1, "drift_check_interval": 1, "identity_check_interval": 2}
OURS = "/apis/cmk-operator.dev/v1alpha1"
SCRAPES = 17
"""A minute each: enough for a rule that waits for a quarter of an hour."""
KEYS = ("month", "week", "day", "first", "second", "third")


async def _scrapes(world: World) -> list[Scrape]:
    found: list[Scrape] = []
    for _ in range(SCRAPES):
        before = world.operator.metric("cmk_reconcile_passes_total")
        await until("more passes", lambda before=before: world.operator.metric("cmk_reconcile_passes_total") >= before + 5)  # type: ignore[misc]
        found.append(Scrape(time.time(), await asyncio.to_thread(world.operator.process.metrics)))
    return found


async def test_the_operator_fires_the_alerts_about_itself_behind_a_faulty_api_server(world: World, tmp_path: Path) -> None:
    here = world.environment
    for name in KEYS:
        await here.customer.create_key(here.vault, name)
    for name, days in (("month", 20.0), ("week", 3.0), ("day", 0.5)):
        await here.customer.set_expiry(here.vault, name, datetime.now(UTC) + timedelta(days=days))
    world.operator.stop()
    await world.operator.start(**SETTINGS)
    await world.foundation()
    await here.apply_tenant(notifications={"sink": "https://127.0.0.1:9/nobody-listens"})
    for name in KEYS:
        await here.apply_key(name, keyUri=here.key_uri(key=name))
    for name in KEYS:
        await here.key_until("Ready", has("Ready"), name)
    await here.customer.disable(here.vault, "third")
    await here.key_until("something to notify of", has("KeyAccessible", "False", "Disabled"), "third")
    world.proxy.inject("answer", "list|watch", f"{OURS}/organizationkeys", status=403, times=None)
    await until("a watch that is cut", lambda: world.proxy.cut_watches(f"{OURS}/organizationkeys"))
    await until("a kind that is named", lambda: "organizationkeys is not watched" in world.operator.readiness)
    seen = fired(Timeline(await _scrapes(world)), tmp_path)

    world.proxy.inject("answer", "patch|create", f"/api/v1/namespaces/{NAMESPACE}/configmaps", status=500, times=None)
    await here.customer.disable(here.vault, "first")
    await here.customer.disable(here.vault, "second")
    seen |= fired(Timeline(await _scrapes(world)), tmp_path)
    missing = sorted(SEEN_BEHIND_FAULTS - seen.keys())
    assert missing == [], ", ".join(missing)
