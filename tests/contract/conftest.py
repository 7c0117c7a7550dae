"""One simulated Azure for the suite, and a session as the operator's own; names are never used twice."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING

import pytest

from cmk_operator.azure.call_budget import BudgetRates
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.kinds.call_rates import Rate
from cmk_operator.providers.protocol import Target
from cmk_operator.providers.registry import make_providers
from cmk_operator.telemetry import Telemetry
from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
from sandbox.azure import process
from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS
from tests.contract.kinds import KINDS
from tests.contract.world import Kind, Subject, World
from tests.sandbox.issuer import SERVICE_ACCOUNT, Issuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

_NUMBERS = itertools.count(1)
_MANY = Rate(100_000, 1)
LIST_MAX_AGE = 0.001
"""Seconds: short, so that each case sees what is, and long enough for the list to be the way."""


@pytest.fixture(scope="package")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    running = Issuer(tmp_path_factory.mktemp("issuer"))
    yield running
    running.stop()


@pytest.fixture(scope="package")
def env(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Mapping[str, str]]:
    directory = tmp_path_factory.mktemp("azure")
    running = process.start(directory, oidc_ca=issuer.ca)
    yield running.env
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
            made = await provider.prepare(issuer=issuer.url, service_account=SERVICE_ACCOUNT)
            await customer.consent(made.application_client_id)
            return made

    return asyncio.run(prepared())


@pytest.fixture(scope="package")
def token_file(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Path:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(issuer.token())
    return path


@pytest.fixture(scope="package")
def proxied(env: Mapping[str, str]) -> Iterator[None]:
    """The variables by which any Azure client finds the simulated one."""
    names = ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: env[name] for name in names if name in env})
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture
async def session(proxied: None, token_file: Path) -> AsyncIterator[AzureSession]:
    rates = BudgetRates(_MANY, _MANY, _MANY, _MANY)
    async with AzureSession(Telemetry(), TokenFile(token_file), rates) as opened:
        yield opened


@pytest.fixture
async def control(env: Mapping[str, str], identity: ProviderIdentity) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(env["SANDBOX_CONTROL"]) as opened:
        before = await opened.timings()
        yield opened
        await opened.clear_faults()
        await opened.set_timings(**before)


@pytest.fixture
async def world(
    session: AzureSession, env: Mapping[str, str], control: SandboxControl, identity: ProviderIdentity
) -> AsyncIterator[World]:
    async with ProviderAdministrator(env) as provider, CustomerAdministrator(env) as customer:
        yield World(f"contract{next(_NUMBERS)}", session, provider, customer, control, identity)


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def another(world: World, kind: Kind) -> Callable[[], Awaitable[Subject]]:
    """Make a resource of the kind that no other case knows."""

    async def make() -> Subject:
        made = await kind.make(world, f"{world.name}n{next(_NUMBERS)}")
        provider = make_providers(world.session, LIST_MAX_AGE)[kind.resource_type]
        return Subject(world, kind, provider, Target(ArmId(made), kind.options(world), lambda _: True))

    return make


@pytest.fixture
async def subject(another: Callable[[], Awaitable[Subject]]) -> Subject:
    return await another()
