"""A simulated Azure speaks for one cloud: its own hosts, issuers and audiences, and no other cloud's tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity.aio import ClientSecretCredential

from sandbox.administrators import CustomerAdministrator, ProviderAdministrator
from sandbox.administrators.rest import ARM, connection
from sandbox.azure import process
from sandbox.azure.endpoints import CLOUDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sandbox.administrators import ProviderIdentity
    from sandbox.azure.process import AzureProcess
    from tests.sandbox.conftest import Wire


@pytest.fixture(scope="module", params=["AzureUSGovernment", "AzureChina"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureProcess]:
    directory = tmp_path_factory.mktemp("other-cloud")
    running = process.start(directory, cloud=request.param)
    yield running
    running.stop()
    assert not (directory / "azure.log").read_text(), "the sandbox itself failed"


def credential(env: Mapping[str, str]) -> ClientSecretCredential:
    """The provider's administrator, at the authority of the cloud."""
    return ClientSecretCredential(
        env["PROVIDER_TENANT_ID"],
        env["PROVIDER_ADMIN_CLIENT_ID"],
        env["PROVIDER_ADMIN_CLIENT_SECRET"],
        authority=CLOUDS[env["SANDBOX_CLOUD"]].login,
        **connection(env),
    )


async def test_its_administrators_work_at_its_own_hosts_with_its_own_audiences(other: AzureProcess) -> None:
    cloud = CLOUDS[other.env["SANDBOX_CLOUD"]]
    async with ProviderAdministrator(other.env) as provider, CustomerAdministrator(other.env) as customer:
        group = await provider.create_resource_group("rg-one")
        assert group.endswith("/rg-one")
        application = await provider.graph.json("POST", "/applications", {"displayName": "one"})
        assert application["@odata.context"].startswith(f"https://{cloud.graph}/v1.0/")
        assert await customer.create_vault("one-kv") == f"https://one-kv{cloud.vault_suffix}/"
    async with credential(other.env) as own:
        token = (await own.get_token(f"https://{cloud.resource_manager}/.default")).token
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["aud"] == f"https://{cloud.resource_manager}"
    assert claims["iss"] == f"{cloud.token_issuer}/{other.env['PROVIDER_TENANT_ID']}/"


async def test_it_knows_no_resource_of_another_cloud_and_takes_no_token_of_one(
    other: AzureProcess, env: Mapping[str, str], identity: ProviderIdentity, wire: Wire
) -> None:
    cloud = CLOUDS[other.env["SANDBOX_CLOUD"]]
    async with credential(other.env) as foreign, credential(env) as public:
        for scope in ("https://management.azure.com", "https://vault.azure.net", "api://AzureADTokenExchange"):
            with pytest.raises(ClientAuthenticationError, match="AADSTS500011:"):
                await foreign.get_token(f"{scope}/.default")
        with pytest.raises(ClientAuthenticationError, match="AADSTS500011:"):
            await public.get_token(f"{cloud.vault_audience}/.default")
        token = (await foreign.get_token(f"https://{cloud.resource_manager}/.default")).token
    refused = await wire("GET", f"{ARM}/subscriptions?api-version=2022-12-01", token=token)
    assert (refused.status, refused.code) == (401, "InvalidAuthenticationToken")


async def test_names_of_another_cloud_do_not_exist_behind_its_proxy(other: AzureProcess, env: Mapping[str, str]) -> None:
    for proxy, host in (
        (other.env["HTTPS_PROXY"], "login.microsoftonline.com"),
        (env["HTTPS_PROXY"], CLOUDS[other.env["SANDBOX_CLOUD"]].login),
    ):
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientHttpProxyError) as refusal:
                await session.get(f"https://{host}/", proxy=proxy)
        assert refusal.value.status == 403


async def test_it_takes_the_uris_of_its_own_vaults_and_of_no_other_clouds(other: AzureProcess) -> None:
    cloud = CLOUDS[other.env["SANDBOX_CLOUD"]]
    async with ProviderAdministrator(other.env) as provider:
        await provider.create_resource_group("rg-contoso")
        server = await provider.sql.create_server("contoso-cloud-sql")
        for suffix, code in ((cloud.vault_suffix, "ConnectionFailed"), (".vault.azure.net", "MalformedVaultUri")):
            body = {"properties": {"serverKeyType": "AzureKeyVault", "uri": f"https://nowhere{suffix}/keys/k"}}
            with pytest.raises(HttpResponseError, match=f"AzureKeyVault{code}"):
                await provider.sql.put(f"{server}/keys/nowhere_k", body)
