"""A customer's key and the operator's own session with Azure: what every provider is tried with."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cmk_operator.azure.credentials import IdentityChain
from cmk_operator.core.encryption.long_running import Ended, Failed, Running
from cmk_operator.core.encryption.protection import KeyChoice
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault, FaultKind
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from cmk_operator.providers.protocol import Plan, Started, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cmk_operator.azure.session import AzureSession
    from cmk_operator.providers.protocol import Provider, ResourceFacts
    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl

PATIENCE = 60.0
REQUESTS = 12
"""More than any kind needs for one change of key."""


@dataclass
class World:
    """Everyone around one case."""

    name: str
    session: AzureSession
    provider_admin: ProviderAdministrator
    customer: CustomerAdministrator
    control: SandboxControl
    identity: ProviderIdentity

    @property
    def vault(self) -> str:
        return f"{self.name}-kv"

    @property
    def chain(self) -> IdentityChain:
        return IdentityChain(
            CLOUDS[CloudName.PUBLIC],
            self.provider_admin.tenant_id,
            self.identity.managed_identity_client_id,
            self.identity.application_client_id,
            by_service_account=False,
        )

    async def key(self, name: str = "cmk") -> str:
        """A key in the customer's vault that the application may use; its newest version."""
        await self.customer.create_vault(self.vault)
        version = (await self.customer.create_key(self.vault, name)).rsplit("/", 1)[-1]
        await self.customer.grant(self.identity.application_client_id, self.vault)
        return version

    async def newer(self, name: str = "cmk") -> str:
        """A newer version of the key."""
        return (await self.customer.new_version(self.vault, name)).rsplit("/", 1)[-1]

    def want(self, version: str, *, pinned: bool = False, name: str = "cmk") -> KeyChoice:
        """The key at a version that is taken for probed."""
        uri = parse_key_uri(f"https://{self.vault}.vault.azure.net/keys/{name}")
        return KeyChoice(
            uri.at(version) if pinned else uri,
            version,
            ArmId(self.identity.managed_identity_resource_id),
            self.identity.application_client_id,
            vault_region="westeurope",
            key_size=2048,
            customer_tenant_id=self.customer.tenant_id,
        )


@dataclass(frozen=True)
class Kind:
    """One kind of resource: its type, and how its administrator makes one that is on a Microsoft-managed key (or absent)."""

    resource_type: str
    make: Callable[[World, str], Awaitable[str]]
    options: Callable[[World], object | None] = lambda _: None
    reverts: bool = True
    """Whether the resource itself can go back to a Microsoft-managed key."""
    before: Callable[[Subject, KeyChoice], Awaitable[None]] | None = None
    """What must be on the key before the resource can be."""
    takes_the_key_itself: bool = True
    """Whether Azure tries the key when the resource is put on it; else what it takes the key from was tried."""
    shown_at: str = ""
    """What follows the resource's id in the id of the object that shows what protects it."""
    on_another_key: Mapping[str, Any] = field(kw_only=True)
    """Values, by JSON pointer, with which that object names a key that is not one of a Key Vault."""
    lacking: tuple[Mapping[str, Any], ...] = field(kw_only=True)
    """Values with each of which that object does not show what protects the resource."""

    def __str__(self) -> str:
        return self.resource_type


@dataclass
class Subject:
    """One resource under its provider, driven as the engine drives it."""

    world: World
    kind: Kind
    provider: Provider[Any, Any]
    target: Target

    async def observe(self, max_age: float = 0.0) -> ResourceFacts[Any]:
        seen = await self.provider.observe(self.world.chain, self.target, max_age=max_age)
        assert not isinstance(seen, AzureFailure), seen
        return seen

    async def alter(self, values: Mapping[str, Any]) -> None:
        """Let the object that shows what protects the resource have these values in every answer of Azure, until it is cleared."""
        resource = f"{self.target.id}{self.kind.shown_at}"
        await self.world.control.inject(kind="alter", resource=resource, replace=values)

    async def prepare(self, want: KeyChoice) -> None:
        """Bring what must be on the key before the resource can be."""
        if self.kind.before is not None:
            await self.kind.before(self, want)

    async def plan(self, want: KeyChoice) -> Plan[Any] | Fault | None:
        await self.prepare(want)
        return self.provider.plan(self.target, want, await self.observe())

    async def bring(self, want: KeyChoice) -> int:
        """Send what the plans say until nothing is left; how many requests that took."""
        return await self._until_nothing_is_left(lambda: self.plan(want))

    async def revert(self) -> int:
        async def plan() -> Plan[Any] | Fault | None:
            return self.provider.plan_revert(self.target, await self.observe())

        return await self._until_nothing_is_left(plan)

    async def _until_nothing_is_left(self, next_plan: Callable[[], Awaitable[Plan[Any] | Fault | None]]) -> int:
        for requests in range(REQUESTS):
            plan = await next_plan()
            if isinstance(plan, Fault) and plan.kind is FaultKind.BUSY:
                # Something that Azure took over, though its answer was lost, is still under way.
                await self.world.control.advance(5)
                continue
            if plan is None:
                return requests
            assert isinstance(plan, Plan), plan
            await self.send(plan)
        raise AssertionError(f"after {REQUESTS} requests there is still something to do: {await next_plan()}")

    async def send(self, plan: Plan[Any]) -> None:
        answer = await self.provider.apply(self.world.chain, self.target, plan)
        assert not isinstance(answer, AzureFailure), answer
        if isinstance(answer, Started):
            ended = await self.ended(answer)
            assert isinstance(ended, Ended), ended

    async def ended(self, started: Started) -> Ended | Failed:
        """What came of an operation."""
        deadline = time.monotonic() + PATIENCE
        while True:
            asked = await self.provider.poll(self.world.chain, self.target, started.operation)
            if isinstance(asked, Ended | Failed):
                return asked
            assert isinstance(asked, Running), asked
            assert time.monotonic() < deadline, "the operation does not end"
            await self.world.control.advance(5)
            await asyncio.sleep(0.02)

    def at(self, other: str) -> Subject:
        """The same provider on another resource."""
        return replace(self, target=replace(self.target, id=ArmId(other)))
