"""The hand-over is all that the customer needs: run as it is by the real az CLI, and the data is on the customer's key."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from click.testing import CliRunner

from cmk_operator.cli.commands import cmk
from sandbox.administrators.snowflake import SnowflakeAdministrator
from sandbox.az_cli import Az
from sandbox.kubernetes import binaries
from sandbox.kubernetes.objects import has
from tests.e2e.test_snowflake import Warehouse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from tests.environment import Environment

pytestmark = [pytest.mark.az, pytest.mark.timeout(600)]
VAULTS, KEYS, WORKSPACES, SETTINGS = "2026-02-01", "2026-02-01", "2023-09-01", "2021-05-01-preview"


@pytest.fixture(scope="module")
def az(azure: AzureProcess, tmp_path_factory: pytest.TempPathFactory) -> Az:
    """The customer's administrator at a terminal."""
    env = azure.env
    az = Az(tmp_path_factory.mktemp("administrator"), env)
    az(
        "login", "--service-principal", "--tenant", env["CUSTOMER_TENANT_ID"],
        "--username", env["CUSTOMER_ADMIN_CLIENT_ID"], "--password", env["CUSTOMER_ADMIN_CLIENT_SECRET"],
    )  # fmt: skip
    return az


@pytest.fixture
def handoff(empty_cluster: Cluster) -> Callable[..., Awaitable[str]]:
    """The provider's engineer at a terminal: what `kubectl cmk handoff` prints."""
    path = f"{binaries.kubectl().parent}{os.pathsep}{os.environ['PATH']}"
    runner = CliRunner(env={"KUBECONFIG": str(empty_cluster.kubeconfig), "PATH": path})

    def run(*arguments: str) -> str:
        done = runner.invoke(cmk, ["handoff", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    async def in_a_thread(*arguments: str) -> str:
        return await asyncio.to_thread(run, *arguments)

    return in_a_thread


async def withdrawn(environment: Environment) -> None:
    """The state in which every customer begins: the application is unknown in the tenant."""
    application = environment.identity.application_client_id
    await environment.customer.consent(application)
    await environment.customer.withdraw_consent(application)


async def test_what_is_handed_over_run_verbatim_by_the_customer_is_all_that_is_needed_and_runs_twice(
    environment: Environment, az: Az, handoff: Callable[..., Awaitable[str]]
) -> None:
    await withdrawn(environment)
    await environment.account()
    await environment.apply_identity(
        application={
            "clientId": environment.identity.application_client_id,
            "displayName": 'Contoso\'s "keys" $(touch pwned) `touch pwned` ${HOME}',
        }
    )
    await environment.apply_tenant()
    await environment.apply_key()
    await environment.apply_resource()
    customer, group = environment.customer, f"rg-keys-{environment.name}"
    workspace = f"{customer.subscription}/resourceGroups/{group}-logs/providers/Microsoft.OperationalInsights/workspaces/logs"
    await customer.create_resource_group(f"{group}-logs")
    await customer.put(workspace, WORKSPACES, {"location": "westeurope"})
    script = await handoff(
        environment.name, "--format", "az", "--resource-group", group, "--location", "westeurope", "--log-workspace", workspace,
        "--operator-address", "203.0.113.10", "--reader", "--rotate-after", "180", "--expire-after", "365",
    )  # fmt: skip
    printed = await asyncio.to_thread(az.script, script)

    await environment.resource_until("Ready", has("Ready"))
    # The key may have been found well before the script had made the last of it.
    key = await environment.key_until("every prerequisite met, and shown", lambda seen: has("Ready")(seen) and not unmet(seen))
    version = key["activeVersion"]
    vault = f"{customer.subscription}/resourceGroups/{group}/providers/Microsoft.KeyVault/vaults/{environment.vault}"
    assert printed.splitlines() == [
        f"Vault: {vault}",
        f"Key: {environment.key_uri(version)}",
        environment.key_uri(),
    ]
    assert (await environment.encryption())["keyvaultproperties"]["currentVersionedKeyIdentifier"] == environment.key_uri(
        version
    )

    before = await seen(environment, vault)
    assert await asyncio.to_thread(az.script, script) == printed
    assert await seen(environment, vault) == before, "a second run changes nothing"
    assert list(az.config_directory.glob("**/pwned")) == []


def unmet(key: dict[str, Any]) -> list[str]:
    """Prerequisites that a key's status does not show as met."""
    return [one["name"] for one in key["prerequisites"] if one["result"] != "Pass"]


async def seen(environment: Environment, vault: str) -> dict[str, Any]:
    """Everything that the script made."""
    customer = environment.customer
    settings = f"{vault}/providers/Microsoft.Insights/diagnosticSettings"
    roles = f"{vault}/keys/cmk/providers/Microsoft.Authorization/roleAssignments"
    locks = f"{vault}/providers/Microsoft.Authorization/locks"
    return {
        "vault": (await customer.get(vault, VAULTS))["properties"],
        "key": await customer.get(f"{vault}/keys/cmk", KEYS),
        "log": await customer.get(settings, SETTINGS),
        "roles": sorted(one["id"] for one in (await customer.get(roles, "2022-04-01"))["value"]),
        "locks": sorted(one["id"] for one in (await customer.get(locks, "2020-05-01"))["value"]),
    }


async def test_an_existing_vault_keeps_its_access_policies_and_a_second_consent_is_granted_again(
    environment: Environment, az: Az, handoff: Callable[..., Awaitable[str]]
) -> None:
    await environment.vault_with_key(rbac=False, grant=False)
    await environment.account()
    await environment.apply_all()
    await environment.key_until("PermissionDenied", has("KeyAccessible", "False", "PermissionDenied"))
    script = await handoff(environment.name, "--format", "az")
    await asyncio.to_thread(az.script, script)
    await environment.resource_until("Ready", has("Ready"))
    vault = (await environment.customer.get(environment.customer.vault_id(environment.vault), VAULTS))["properties"]
    assert vault["enableRbacAuthorization"] is False
    granted = [set(policy["permissions"]["keys"]) for policy in vault["accessPolicies"]]
    assert granted == [{"all"}, {"get", "wrapKey", "unwrapKey"}]

    await environment.customer.withdraw_consent(environment.identity.application_client_id)
    await environment.key_until("ConsentMissing", has("KeyAccessible", "False", "ConsentMissing"))
    await environment.customer.consent(environment.identity.application_client_id)
    await environment.key_until("PermissionDenied", has("KeyAccessible", "False", "PermissionDenied"))
    await asyncio.to_thread(az.script, script)
    await environment.key_until("Ready", has("Ready"))


async def test_snowflakes_consent_grant_and_subnets_are_handed_over_once_snowflake_has_told_them(
    environment: Environment, azure: AzureProcess, az: Az, handoff: Callable[..., Awaitable[str]]
) -> None:
    async with SnowflakeAdministrator(azure.env, environment.control) as administrator:
        warehouse = Warehouse(environment, administrator)
        with suppress(ResourceNotFoundError):
            await environment.customer.withdraw_consent(await warehouse.application())
        await warehouse.prepare(grant=False)
        await environment.control.set_timings(snowflake_activation_wait_seconds=0, snowflake_rekey_seconds=0)
        await warehouse.apply(snowflake={"networkRules": True})
        await warehouse.until("consent", has("Ready", "False", "SnowflakeConsentMissing"))
        script = await handoff(environment.name, "--format", "az", "--operator-address", "203.0.113.10")
        await asyncio.to_thread(az.script, script)
        await warehouse.until("Ready", has("Ready"))
    vault = (await environment.customer.get(environment.customer.vault_id(environment.vault), VAULTS))["properties"]
    assert vault["networkAcls"]["defaultAction"] == "Deny"
    assert len(vault["networkAcls"]["virtualNetworkRules"]) == 2


async def test_the_steps_stand_in_the_tenants_status_too(
    environment: Environment, handoff: Callable[..., Awaitable[str]]
) -> None:
    await environment.apply_identity()
    await environment.apply_key()
    await environment.apply_tenant()

    def handed_over(tenant: dict[str, Any]) -> bool:
        return any("wrapKey" in step.get("command", "") for step in tenant.get("handover", ()))

    status = await environment.objects.until("the hand-over", "CustomerTenant", environment.name, handed_over)
    script = await handoff(environment.name, "--format", "az")
    for step in status["handover"]:
        assert step.get("command", "") in script
