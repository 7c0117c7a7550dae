"""One simulated Azure for all of these tests, with an OpenID Connect issuer of their own; names are never used twice."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
from sandbox.azure import process
from sandbox.azure.timings import FOR_GOOD, WITHOUT_LIMITS
from tests.sandbox.issuer import SERVICE_ACCOUNT, Issuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from sandbox.azure.process import AzureProcess

# Far above Azure's own, which test_throttling.py puts back.
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    running = Issuer(tmp_path_factory.mktemp("issuer"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[AzureProcess]:
    directory = tmp_path_factory.mktemp("azure")
    running = process.start(directory, oidc_ca=issuer.ca)
    yield running
    running.stop()
    assert not (directory / "azure.log").read_text(), "the sandbox itself failed"


@pytest.fixture(scope="session")
def env(azure: AzureProcess) -> Mapping[str, str]:
    return azure.env


@pytest.fixture(scope="session")
def identity(env: Mapping[str, str], issuer: Issuer) -> ProviderIdentity:
    async def prepared() -> ProviderIdentity:
        async with (
            SandboxControl(env["SANDBOX_CONTROL"]) as control,
            ProviderAdministrator(env) as provider,
            CustomerAdministrator(env) as customer,
        ):
            # tests/sandbox/test_lags.py is about the two delays. The older api-versions stay, however far a test turns the clock.
            await control.set_timings(
                **WITHOUT_LIMITS,
                vault_settings_propagation_seconds=0,
                recovered_vault_appears_seconds=0,
                older_vault_versions_end_at=FOR_GOOD,
            )
            made = await provider.prepare(issuer=issuer.url, service_account=SERVICE_ACCOUNT)
            await customer.consent(made.application_client_id)
            await control.advance(10)
            return made

    return asyncio.run(prepared())


@pytest.fixture
async def control(env: Mapping[str, str], identity: ProviderIdentity) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(env["SANDBOX_CONTROL"]) as opened:
        before = await opened.timings()
        yield opened
        await opened.clear_faults()
        await opened.set_timings(**before)


@pytest.fixture
async def provider(env: Mapping[str, str], identity: ProviderIdentity) -> AsyncIterator[ProviderAdministrator]:
    async with ProviderAdministrator(env) as opened:
        yield opened


@pytest.fixture
async def customer(env: Mapping[str, str], identity: ProviderIdentity) -> AsyncIterator[CustomerAdministrator]:
    async with CustomerAdministrator(env) as opened:
        yield opened


@pytest.fixture
def name() -> Callable[[str], str]:
    return lambda prefix: f"{prefix}{next(_NUMBERS)}"


@dataclass(frozen=True)
class Reply:
    """A response as it was on the wire."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


class Wire:
    """Bare HTTPS through the proxy, for what no SDK would ever send."""

    def __init__(self, session: aiohttp.ClientSession, proxy: str) -> None:
        self._session = session
        self._proxy = proxy

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        body: object = None,
        form: Mapping[str, str] | None = None,
        text: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        sent = dict(headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        without = () if "Content-Type" in sent or text is None else ("Content-Type",)
        async with self._session.request(
            method,
            url,
            json=body,
            data=form if text is None else io.BytesIO(text.encode()),
            headers=sent,
            skip_auto_headers=without,
            proxy=self._proxy,
            allow_redirects=False,
        ) as response:
            return Reply(response.status, dict(response.headers), await response.text())


@pytest.fixture
async def wire(env: Mapping[str, str], identity: ProviderIdentity) -> AsyncIterator[Wire]:
    context = ssl.create_default_context(cafile=env["SSL_CERT_FILE"])
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield Wire(session, env["HTTPS_PROXY"])


@dataclass(frozen=True)
class Protected:
    """A storage account on a customer's key."""

    account: str
    account_id: str
    vault: str
    key: str
    key_id: str


def encryption(
    identity: ProviderIdentity, vault: str, key: str, version: str | None = "", /, **changes: object
) -> dict[str, Any]:
    """The PATCH body that puts an account on a customer's key."""
    properties = {"keyname": key, "keyvaulturi": f"https://{vault}.vault.azure.net"}
    if version is not None:
        properties["keyversion"] = version
    who = {
        "userAssignedIdentity": identity.managed_identity_resource_id,
        "federatedIdentityClientId": identity.application_client_id,
    }
    block = {"keySource": "Microsoft.Keyvault", "keyvaultproperties": properties, "identity": who, **changes}
    assigned = {"type": "UserAssigned", "userAssignedIdentities": {identity.managed_identity_resource_id: {}}}
    return {"identity": assigned, "properties": {"encryption": block}}


@pytest.fixture
async def key_of_customer(
    customer: CustomerAdministrator, identity: ProviderIdentity, control: SandboxControl, name: Callable[[str], str]
) -> tuple[str, str, str]:
    """A vault, a key in it that the application may use, and the key's id."""
    vault, key = name("fabrikam-kv"), name("cmk")
    await customer.create_vault(vault)
    key_id = await customer.create_key(vault, key)
    await customer.grant(identity.application_client_id, vault)
    await control.advance(2)
    return vault, key, key_id


@pytest.fixture
async def protected(
    provider: ProviderAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> Protected:
    vault, key, key_id = key_of_customer
    account = name("contoso")
    account_id = await provider.create_storage_account(account)
    await provider.patch(account_id, "2026-09-01", encryption(identity, vault, key))
    return Protected(account, account_id, vault, key, key_id)
