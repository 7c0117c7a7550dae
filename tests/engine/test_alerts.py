"""Alerts about the operator itself and about times: its own metrics, behind faulty servers, in Prometheus' own engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from sandbox.kubernetes.objects import has
from sandbox.operator_process import NAMESPACE
from tests.engine.operators import until
from tests.monitoring.live import LASTING, Scrape, Timeline, begun, fired
from tests.monitoring.live_alerts import SEEN_BEHIND_FAULTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.world import World

NOBODY = "https://127.0.0.1:9/nobody-listens"
SETTINGS = {"key_check_interval": 1, "drift_check_interval": 1, "identity_check_interval": 2, "audit_sink_url": NOBODY}
OURS = "/apis/cmk-operator.dev/v1alpha1"
SCRAPES = 4
"""Enough for a rule that waits for ten minutes, or for fifteen, when each is held until just before its rate would not see the next."""
COUNTERS = ("cmk_status_write_failures_total", "cmk_audit_append_failures_total", "cmk_azure_budget_refusals_total")
KEYS = ("month", "week", "day", "first", "second", "third")


async def _scrapes(world: World, counter: str, *, ask: bool) -> list[Scrape]:
    """One after each growth of a counter; `ask`: for a pass over a key each time, as a person who waits may."""
    found: list[Scrape] = []
    for number in range(SCRAPES):
        before = world.operator.metric(counter)
        if ask:
            requested = {"metadata": {"annotations": {RECONCILE_REQUESTED_AT: f"{counter} {number}"}}}
            await world.environment.objects.merge("CustomerManagedKey", KEYS[0], requested, world.environment.namespace)
        await until(f"growth of {counter}", lambda before=before: world.operator.metric(counter) > before)  # type: ignore[misc]
        found.append(await world.operator.scrape())
    return found


async def test_the_operator_fires_the_alerts_about_itself_behind_faulty_servers(world: World, tmp_path: Path) -> None:
    here = world.environment
    for name in KEYS:
        await here.customer.create_key(here.vault, name)
    for name, days in (("month", 20.0), ("week", 3.0), ("day", 0.5)):
        await here.customer.set_expiry(here.vault, name, datetime.now(UTC) + timedelta(days=days))
    world.operator.stop()
    await world.operator.start(**SETTINGS)
    await world.foundation()
    await here.apply_tenant(notifications={"sink": NOBODY})
    for name in KEYS:
        await here.apply_key(name, keyUri=here.key_uri(key=name))
    for name in KEYS:
        await here.key_until("Ready", has("Ready"), name)
    assert [counter for counter in COUNTERS if world.operator.metric(counter)] == [], "before anything is wrong"
    writes, appends, refusals = COUNTERS

    world.proxy.inject("answer", "patch", f"{OURS}/.*/customermanagedkeys/.*/status", status=500, times=None)
    seen = fired(Timeline(await _scrapes(world, writes, ask=True), held=4), tmp_path)
    world.proxy.clear()

    world.proxy.inject("answer", "patch|create", f"/api/v1/namespaces/{NAMESPACE}/configmaps", status=500, times=None)
    await here.customer.disable(here.vault, "first")
    await here.customer.disable(here.vault, "second")
    seen |= fired(Timeline(await _scrapes(world, appends, ask=False), held=9), tmp_path)
    world.proxy.clear()

    await here.customer.disable(here.vault, "third")
    await here.key_until("something to notify of", has("KeyAccessible", "False", "Disabled"), "third")
    await until("watches", lambda: 'cmk_watch_established{kind="organizationkeys"} 1.0' in world.operator.process.metrics())
    watched = await world.operator.scrape()
    world.proxy.inject("answer", "list|watch", f"{OURS}/organizationkeys", status=403, times=None)
    await until("a watch that is cut", lambda: world.proxy.cut_watches(f"{OURS}/organizationkeys"))
    await here.control.inject(kind="status", status=429, host=f"{here.vault}.vault.azure.net", retry_after=200)
    seen |= fired(Timeline(await _scrapes(world, refusals, ask=True), held=4), tmp_path)
    await until("a kind that is named", lambda: "organizationkeys is not watched" in world.operator.readiness)
    for waiting in ("cmk_notifications_pending", "cmk_audit_undelivered_entries"):
        await until(waiting, lambda waiting=waiting: world.operator.metric(waiting) > 0)  # type: ignore[misc]
    troubled = await world.operator.scrape()
    seen |= fired(Timeline([troubled], LASTING), tmp_path)
    assert "CmkKindNotWatched" in begun(watched, troubled, tmp_path, kind="organizationkeys")
    world.operator.stop()  # it would ask nothing of the vault for minutes
    missing = sorted(SEEN_BEHIND_FAULTS - seen.keys())
    assert missing == [], ", ".join(missing)
