"""The running operator's metrics through a loss and its healing, as Prometheus would scrape them."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from typing import TYPE_CHECKING

from sandbox.kubernetes import binaries
from tests.monitoring.queries import metrics_of, queries

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import Operator
    from tests.environment import Environment


class Scrapes:
    """What the operator tells of one environment's key and resource."""

    def __init__(self, operator: Operator, environment: Environment) -> None:
        self.operator = operator
        self.environment = environment

    async def text(self) -> str:
        """All metrics."""
        return await asyncio.to_thread(self.operator.process.metrics)

    async def own(self) -> dict[str, float]:
        """The samples of the environment's namespace, and of its cluster-wide objects: `metric other=label` and value."""
        lines = re.findall(r"^(cmk_\w+)\{(.*)\} (\S+)$", await self.text(), re.MULTILINE)
        found = {}
        for metric, labels, value in lines:
            named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if named.pop("namespace", None) == self.environment.namespace or named.get("name") == self.environment.name:
                rest = [f"{name}={text}" for name, text in sorted(named.items()) if name != "name"]
                found[" ".join([metric, *rest])] = float(value)
        return found

    async def until(self, what: str, test: Callable[[dict[str, float]], object]) -> dict[str, float]:
        """Scrape until it is so."""
        seen: dict[str, float] = {}

        async def is_so() -> bool:
            seen.clear()
            seen.update(await self.own())
            return bool(test(seen))

        await self.environment.eventually(what, is_so)
        return seen


async def test_a_scrape_follows_a_key_from_its_first_probe_through_a_loss_to_its_end(
    environment: Environment, operator: Operator
) -> None:
    scrapes = Scrapes(operator, environment)
    version = await environment.ready()
    well = {
        "cmk_key_resources kind=StorageAccount": 1,
        "cmk_key_resources_not_ready kind=StorageAccount": 0,
        "cmk_key_resources_on_old_version kind=StorageAccount": 0,
        "cmk_key_access_state state=Accessible": 1,
        "cmk_key_ready": 1,
        "cmk_resource_ready key=cmk kind=StorageAccount": 1,
        "cmk_identity_ready": 1,
        "cmk_tenant_ready": 1,
        "cmk_tenant_consent_state state=Granted": 1,
    }
    # Tenant and identity are told a moment later than the key.
    seen = await scrapes.until("all well", lambda now: "cmk_key_versions phase=Active" in now and well.items() <= now.items())
    assert abs(time.time() - seen["cmk_key_last_access_success_timestamp_seconds"]) < 60
    assert "cmk_key_data_cut_off_timestamp_seconds" not in seen

    await environment.customer.disable(environment.vault, "cmk", version)
    seen = await scrapes.until("lost", lambda now: "cmk_key_access_state state=Disabled" in now)
    assert [name for name in seen if name.startswith("cmk_key_access_state ")] == ["cmk_key_access_state state=Disabled"]
    assert 0 < seen["cmk_key_data_cut_off_timestamp_seconds"] - time.time() <= 600
    probed = seen["cmk_key_last_probe_timestamp_seconds"]
    seen = await scrapes.until("probed again", lambda now: now["cmk_key_last_probe_timestamp_seconds"] > probed)
    assert seen["cmk_key_last_access_success_timestamp_seconds"] < probed
    await scrapes.until("not ready", lambda now: now["cmk_resource_ready key=cmk kind=StorageAccount"] == 0)

    await environment.customer.enable(environment.vault, "cmk", version)
    seen = await scrapes.until("accessible", lambda now: "cmk_key_access_state state=Accessible" in now)
    assert "cmk_key_data_cut_off_timestamp_seconds" not in seen

    host = f'host="{environment.vault}.vault.azure.net"'
    assert f'{{code="200",{host},operation="wrapKey",service="key_vault"}}' in await scrapes.text()
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    await environment.objects.delete("CustomerManagedKey", "cmk", environment.namespace)
    await environment.objects.delete("CustomerTenant", environment.name)
    await environment.objects.delete("FederatedIdentity", environment.name)
    await scrapes.until("gone without a trace", lambda now: not now)
    assert host not in await scrapes.text()


async def test_the_dashboard_asks_only_for_what_the_operator_tells_and_prometheus_linter_is_content(operator: Operator) -> None:
    text = await asyncio.to_thread(operator.process.metrics)
    told = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    assert {metric for query in queries() for metric in metrics_of(query)} <= told
    linted = await asyncio.to_thread(_linted, text)
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")


def _linted(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binaries.promtool(), "check", "metrics"], input=text, capture_output=True, text=True, check=False)
