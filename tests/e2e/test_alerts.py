"""The running operator's own metrics, scraped while many things are wrong at once, fire the alerts in Prometheus' own engine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.administrators.provider import STORAGE
from sandbox.kubernetes.objects import has
from sandbox.operator_process import start_operator
from tests.e2e.conftest import SETTINGS
from tests.monitoring.live import Scrape, Timeline, fired
from tests.monitoring.live_alerts import SEEN_END_TO_END

if TYPE_CHECKING:
    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

PLATFORM: dict[str, Any] = {"properties": {"encryption": {"keySource": "Microsoft.Storage"}}}
HELD = 5
"""Minutes of the timeline for one scrape."""
SCRAPES = 14
"""Enough for a rule that waits for an hour."""
RECORD = "CMK_SANDBOX_SCRAPES"
"""Environment variable with a folder in which the scrapes are kept, for the picture of the dashboard."""


class Trouble:
    """One environment with vaults and keys in many states."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.graph_fails = ""
        """Id of the fault."""
        self.vaults = {name: f"{environment.name}-{name}" for name in ("weak", "walled", "failing", "busy")}

    async def vaults_and_keys(self) -> None:
        """Vaults of all sorts, and keys in the good one."""
        here, customer = self.environment, self.environment.customer
        await here.vault_with_key()
        for name in ("good", "idle", "old", "superseded", "approved", "acme"):
            await customer.create_key(here.vault, name)
        principal = await customer.principal_id(customer.client_id)
        for name, vault in self.vaults.items():
            await customer.create_vault(vault, purge_protection=name != "weak")
            await customer.assign_role(principal, "Key Vault Administrator", customer.vault_id(vault))
            await here.allowed(lambda vault=vault, name=name: customer.create_key(vault, name))  # type: ignore[misc]
            await customer.grant(here.identity.application_client_id, vault)
        for account in ("docs", "fought", "plain", "lagging", "moved"):
            await here.account(account)

    async def manifests(self) -> None:
        """Everything on its key, as yet."""
        here = self.environment
        suffix = here.customer.cloud.vault_suffix
        await here.apply_identity()
        await here.apply_tenant(allowedVaults=[f"{one}{suffix}" for one in (here.vault, *self.vaults.values())])
        for name in ("cmk", "good", "idle", "old"):
            await here.apply_key(name, keyUri=here.key_uri(key=name), rotation={"apply": "Immediately"})
        await here.apply_key(
            "superseded", keyUri=here.key_uri(key="superseded"), rotation={"apply": "Immediately", "backupRetention": "840h"}
        )
        await here.apply_key(
            "approved", keyUri=here.key_uri(key="approved"), rotation={"apply": "Immediately", "approval": "Manual"}
        )
        for name, vault in self.vaults.items():
            await here.apply_key(name, keyUri=here.key_uri(key=name, vault=vault), prerequisites="Warn")
        await here.apply_key("stranger", keyUri=here.key_uri(key="cmk", vault="stranger-kv"))
        for name, key in (("docs", "cmk"), ("fought", "good"), ("lagging", "old"), ("moved", "superseded")):
            await here.apply_resource(name, keyRef={"name": key})
        await here.apply_resource("plain", keyRef={"name": "good"}, mode="Observe")
        await here.apply_resource("gone", keyRef={"name": "good"}, resourceId=f"{here.accounts['docs']}x")
        await here.apply_organization(keyUri=here.key_uri(key="acme"))
        await here.apply_organization("typo", keyUri=here.key_uri(key="absent"))
        for name in ("docs", "fought", "lagging", "moved"):
            await here.resource_until("Ready", has("Ready"), name)
        await here.organization_until("in force", has("ConfigurationAccepted"))

    async def wrong(self) -> None:
        """What customers, Azure and other teams do."""
        here, customer = self.environment, self.environment.customer
        old = {name: await self._version(name) for name in ("old", "superseded")}
        await here.apply_resource("lagging", keyRef={"name": "old"}, mode="Observe")
        await here.resource_until("observed", lambda status: status.get("effective", {}).get("mode") == "Observe", "lagging")
        for name in ("old", "superseded", "approved"):
            await customer.new_version(here.vault, name)
        await here.resource_until("on the new version", lambda seen: seen["applied"]["version"] != old["superseded"], "moved")
        await here.key_until("a superseded version", lambda seen: len(seen["versions"]) == 2, "superseded")
        await here.key_until("a newer version than one in use", lambda seen: seen["activeVersion"] != old["old"], "old")
        for name, version in old.items():
            await customer.disable(here.vault, name, version)
        for name in ("cmk", "idle", "acme"):
            await customer.disable(here.vault, name)
        await customer.set_firewall(self.vaults["walled"])
        for name, status in (("failing", 503), ("busy", 429)):
            await here.control.inject(kind="status", status=status, host=f"{self.vaults[name]}.vault.azure.net", retry_after=1)
        await here.objects.apply(
            "FederatedIdentity",
            f"{here.name}-broken",
            {
                "tenantId": here.provider.tenant_id,
                "application": {"clientId": here.identity.application_client_id},
                "managedIdentity": {
                    "resourceId": here.identity.managed_identity_resource_id,
                    "clientId": here.provider.tenant_id,
                },
            },
        )
        self.graph_fails = await here.control.inject(kind="status", status=503, host="graph.microsoft.com")
        for times in (1, 2):
            await here.provider.patch(here.accounts["fought"], STORAGE, PLATFORM)

            def changed_back(status: dict[str, Any], times: int = times) -> bool:
                found = status["contention"]
                return len(found.get("changedBack", ())) == times and "inPlaceSince" in found

            await here.resource_until("on the key again", changed_back, "fought")
        await here.provider.patch(here.accounts["fought"], STORAGE, PLATFORM)
        await here.resource_until("contested", has("Ready", "False", "Contested"), "fought")

    async def _version(self, name: str) -> str:
        key = await self.environment.objects.get("CustomerManagedKey", name, self.environment.namespace)
        return str(key["status"]["activeVersion"])


def _scraped(scrapes: list[Scrape]) -> list[Scrape]:
    folder = os.environ.get(RECORD)
    for number, scrape in enumerate(scrapes if folder else ()):
        Path(folder or "", f"{number:03}-{scrape.at:.3f}.prom").write_text(scrape.text, encoding="utf-8")
    return scrapes


async def test_the_running_operator_fires_each_alert_that_can_be_reached_in_seconds(
    environment: Environment, operator: Operator, tmp_path: Path, empty_cluster: Cluster, azure: AzureProcess
) -> None:
    trouble = Trouble(environment)
    scrapes: list[Scrape] = []

    async def watch(count: int) -> None:
        for _ in range(count):
            await operator.after_passes(10, "customermanagedkeys")
            scrapes.append(await operator.scrape())

    await trouble.vaults_and_keys()
    await trouble.manifests()
    await watch(3)
    assert "CmkKeyInaccessible" not in fired(Timeline(scrapes, HELD), tmp_path), "before anything is wrong"
    await trouble.wrong()
    await watch(SCRAPES)
    await environment.control.clear_fault(trouble.graph_fails)
    await environment.customer.withdraw_consent(environment.identity.application_client_id)
    await environment.objects.until("revoked", "CustomerTenant", environment.name, has("ConsentGranted", "False", "Revoked"))
    _scraped(scrapes)
    # Told minute by minute, a rate sees several scrapes; told with three minutes for each, a rule that waits for an hour ends.
    seen = fired(Timeline(scrapes), tmp_path) | fired(Timeline(scrapes, HELD), tmp_path)
    scrapes.clear()
    await watch(2)
    seen |= fired(Timeline(scrapes, HELD), tmp_path)

    standby = start_operator(empty_cluster, azure.env, tmp_path / "standby", SETTINGS | {"HOSTNAME": "standby"})
    try:
        alone = [Scrape(time.time(), standby.metrics())] * 2
    finally:
        standby.stop()
    seen |= fired(Timeline(alone, held=5), tmp_path)
    seen |= fired(Timeline([*alone, Scrape(time.time(), ""), Scrape(time.time(), "")], held=5), tmp_path)
    missing = sorted(SEEN_END_TO_END - seen.keys())
    assert missing == [], ", ".join(missing)
