"""A simulated Azure, PostgreSQL and replicas of the key service for organizations whose operator the test plays itself."""

from __future__ import annotations

import asyncio
import itertools
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from cmk_keyservice.crypto.key_ring import KeyRing, RingName, new_key_ring
from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
from sandbox.azure import process
from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS
from tests.keyservice.keys.world import World
from tests.sandbox.issuer import Issuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

SERVICE_ACCOUNT = "system:serviceaccount:cmk-operator-system:cmk-keyservice"
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="package")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    running = Issuer(tmp_path_factory.mktemp("issuer"))
    yield running
    running.stop()


@pytest.fixture(scope="package")
def env(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Mapping[str, str]]:
    """The simulated Azure, which every client in this process finds by its variables."""
    directory = tmp_path_factory.mktemp("azure")
    running = process.start(directory, oidc_ca=issuer.ca)
    names = ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: running.env[name] for name in names})
    yield running.env
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    running.stop()
    assert not (directory / "azure.log").read_text(), "the sandbox itself failed"


@pytest.fixture(scope="package")
def identity(env: Mapping[str, str], issuer: Issuer) -> ProviderIdentity:
    async def prepared() -> ProviderIdentity:
        async with (
            SandboxControl(env["SANDBOX_CONTROL"]) as control,
            ProviderAdministrator(env) as provider,
            CustomerAdministrator(env) as customer,
        ):
            await control.set_timings(**WITHOUT_LIMITS, **WITHOUT_DELAYS)
            made = await provider.prepare(issuer=issuer.url, key_service_account=SERVICE_ACCOUNT)
            await customer.consent(made.application_client_id)
            return made

    return asyncio.run(prepared())


@pytest.fixture(scope="package")
def token_file(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Path:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(issuer.token(SERVICE_ACCOUNT))
    return path


@pytest.fixture(scope="session")
def rings() -> tuple[KeyRing, KeyRing]:
    return KeyRing.parse(RingName.INTERNAL, new_key_ring()), KeyRing.parse(RingName.PLATFORM, new_key_ring())


@pytest.fixture
async def world(
    env: Mapping[str, str],
    identity: ProviderIdentity,
    token_file: Path,
    rings: tuple[KeyRing, KeyRing],
    database_url: str,
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(SandboxControl(env["SANDBOX_CONTROL"]))
        provider = await stack.enter_async_context(ProviderAdministrator(env))
        customer = await stack.enter_async_context(CustomerAdministrator(env))
        made = World(f"acme{next(_NUMBERS)}", control, provider, customer, identity, token_file, rings, database_url)
        await stack.enter_async_context(made)
        yield made
        await control.clear_faults()
