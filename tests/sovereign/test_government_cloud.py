"""The whole path in the cloud of the US government: registered, granted, encrypted; and nothing of another cloud gets in."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
from sandbox.azure import process as azure_process
from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS
from sandbox.kubernetes import cluster as clusters
from sandbox.kubernetes.objects import Objects, condition, has
from sandbox.operator_process import install_chart, start_operator
from tests.environment import Environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster

pytestmark = pytest.mark.cluster
CLOUD = "AzureUSGovernment"
NAME = "gov"
SETTINGS = {f"CMK_OPERATOR_{name}_INTERVAL": "1" for name in ("KEY_CHECK", "DRIFT_CHECK", "IDENTITY_CHECK")}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server of its own: its operator serves another cloud than those of other tests."""
    running = clusters.start(tmp_path_factory.mktemp("kubernetes"))
    install_chart(running, "azure.tokenAudience=api://AzureADTokenExchangeUSGov")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[AzureProcess]:
    running = azure_process.start(tmp_path_factory.mktemp("azure"), oidc_ca=cluster.ca_file, cloud=CLOUD)
    yield running
    running.stop()


@pytest.fixture
async def environment(cluster: Cluster, azure: AzureProcess, tmp_path: Path) -> AsyncIterator[Environment]:
    operator = await asyncio.to_thread(start_operator, cluster, azure.env, tmp_path, SETTINGS)
    try:
        async with AsyncExitStack() as stack:
            control = await stack.enter_async_context(SandboxControl(azure.env["SANDBOX_CONTROL"]))
            await control.set_timings(**WITHOUT_LIMITS, **WITHOUT_DELAYS)
            made = Environment(
                NAME,
                await stack.enter_async_context(Objects(cluster)),
                await stack.enter_async_context(ProviderAdministrator(azure.env)),
                await stack.enter_async_context(CustomerAdministrator(azure.env)),
                control,
                ProviderIdentity("", "", "", "", "", ""),
                namespace=NAME,
            )
            await made.objects.create_namespace(NAME)
            yield made
    finally:
        assert operator.stop() == 0


async def registered(environment: Environment) -> ProviderIdentity:
    """The identity that the operator registers in the government's cloud."""
    provider = environment.provider
    registrar = await provider.prepare_registrar(issuer=environment.objects.cluster.issuer)
    identity_id = f"{registrar.resource_group_id}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cmk"
    await environment.apply_identity(
        cloud=CLOUD,
        application={"register": {"displayName": "Contoso CMK"}},
        managedIdentity={"resourceId": identity_id, "register": {"location": "westeurope"}},
        registrar={"clientId": registrar.client_id},
    )
    status = await environment.objects.until("Ready", "FederatedIdentity", NAME, has("Ready"))
    managed, application = status["managedIdentity"], status["application"]
    (credential,) = await provider.federated_credentials(application["clientId"])
    assert credential["issuer"] == f"https://login.microsoftonline.us/{provider.tenant_id}/v2.0"
    assert credential["audiences"] == ["api://AzureADTokenExchangeUSGov"]
    await provider.assign_role(managed["principalId"], "Storage Account Contributor", provider.subscription)
    await provider.assign_role(managed["principalId"], "Managed Identity Operator", identity_id)
    return ProviderIdentity(
        application["clientId"],
        application["displayName"],
        identity_id,
        managed["clientId"],
        managed["principalId"],
        environment.group,
    )


async def test_an_account_of_the_government_becomes_ready_on_a_key_of_the_government_and_other_clouds_stay_out(
    environment: Environment,
) -> None:
    environment.identity = await registered(environment)
    await environment.vault_with_key()
    await environment.account()
    await environment.apply_tenant()
    await environment.apply_key()
    await environment.apply_resource()
    await environment.resource_until("Ready", has("Ready"))
    key = await environment.key_until("Ready", has("Ready"))
    assert key["access"]["state"] == "Accessible"
    encryption = await environment.encryption()
    used = encryption["keyvaultproperties"]["currentVersionedKeyIdentifier"]
    assert used.startswith(f"https://{environment.vault}.vault.usgovcloudapi.net/keys/cmk/")
    tenant = await environment.objects.until("Ready", "CustomerTenant", NAME, has("Ready"))
    assert tenant["consent"]["url"].startswith("https://login.microsoftonline.us/")
    await _public_vaults_are_refused(environment)
    await _public_identities_are_refused(environment)
    hosts = {str(request["host"]) for request in await environment.control.requests()}
    assert all(host.endswith((".us", ".usgovcloudapi.net")) for host in hosts), hosts
    assert await environment.control.refused_hosts() == [], "nobody even tried to reach another cloud"


async def _public_vaults_are_refused(environment: Environment) -> None:
    await environment.apply_key("public", keyUri=f"https://{environment.vault}.vault.azure.net/keys/cmk")
    status = await environment.key_until("refused", has("Ready", "False", "WrongCloud"), "public")
    message = condition(status, "Stalled")["message"]
    assert "the FederatedIdentity is in AzureUSGovernment, whose vaults end in .vault.usgovcloudapi.net" in message
    assert "clouds cannot be mixed" in message


async def _public_identities_are_refused(environment: Environment) -> None:
    """This operator's token is for the government's Entra, and no other cloud takes it."""
    spec: dict[str, Any] = (await environment.objects.get("FederatedIdentity", NAME))["spec"]
    await environment.objects.apply("FederatedIdentity", "public", spec | {"cloud": "AzurePublic"})
    try:
        status = await environment.objects.until(
            "refused", "FederatedIdentity", "public", has("Registered", "False", "WrongTokenAudience")
        )
        assert "the platform engineer must set azure.tokenAudience of the chart" in condition(status, "Stalled")["message"]
    finally:
        await environment.objects.delete("FederatedIdentity", "public")
