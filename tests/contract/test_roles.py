"""A custom role with exactly the actions that a kind declares is enough for a resource's whole life, and each action is needed."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.encryption.long_running import Ended
from cmk_operator.core.encryption.protection import MicrosoftManaged, version_in_force
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.kinds.required_actions import RequiredActions
from cmk_operator.providers.protocol import Applied, Plan, Started, Target
from cmk_operator.providers.registry import KINDS as DESCRIBED
from cmk_operator.providers.registry import make_providers
from sandbox.administrators.provider import AUDIENCE, IDENTITIES
from tests.conftest import ROOT
from tests.contract.kinds import KINDS
from tests.contract.world import Subject
from tests.sandbox.issuer import SERVICE_ACCOUNT, Issuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.contract.world import Kind, World

REQUESTS = 16


def rights_of(kind: Kind) -> RequiredActions:
    rights = DESCRIBED[kind.resource_type].rights
    assert isinstance(rights, RequiredActions)
    return rights


@dataclass
class Role:
    """A custom role of the managed identity of one case."""

    world: World
    id: str

    async def allow(self, *actions: str) -> None:
        """Let it allow exactly these actions."""
        await self.world.provider_admin.define_role(self.id, f"cmk-operator {self.id}", actions)

    async def assign(self, principal_id: str) -> None:
        """Assign it in the subscription."""
        admin = self.world.provider_admin
        definition = f"{admin.subscription}/providers/Microsoft.Authorization/roleDefinitions/{self.id}"
        await admin.assign_definition(principal_id, definition, admin.subscription)


@pytest.fixture
async def ours(world: World, issuer: Issuer) -> AsyncIterator[World]:
    """The world with a managed identity that may attach itself, and nothing else yet."""
    admin = world.provider_admin
    group = await admin.create_resource_group(f"rg-{world.name}")
    identity_id = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{world.name}"
    made: dict[str, Any] = (await admin.put(identity_id, IDENTITIES, {"location": "westeurope"}))["properties"]
    trust = {"issuer": issuer.url, "subject": SERVICE_ACCOUNT, "audiences": [AUDIENCE]}
    await admin.put(f"{identity_id}/federatedIdentityCredentials/operator", IDENTITIES, {"properties": trust})
    path = f"/applications(appId='{world.identity.application_client_id}')/federatedIdentityCredentials"
    entra = f"https://login.microsoftonline.com/{admin.tenant_id}/v2.0"
    credential = {"name": world.name, "issuer": entra, "subject": made["principalId"], "audiences": [AUDIENCE]}
    kept = await admin.graph.json("POST", path, credential)
    await admin.assign_role(made["principalId"], "Managed Identity Operator", identity_id)
    identity = replace(
        world.identity,
        managed_identity_resource_id=identity_id,
        managed_identity_client_id=made["clientId"],
        managed_identity_principal_id=made["principalId"],
    )
    yield replace(world, identity=identity)
    await admin.graph.json("DELETE", f"{path}/{kept['id']}")


async def subject_of(kind: Kind, world: World, name: str) -> Subject:
    made = await kind.make(world, name)
    provider = make_providers(world.session, 0.001)[kind.resource_type]
    return Subject(world, kind, provider, Target(ArmId(made), kind.options(world), lambda _: True))


async def life(subject: Subject, first: str, second: str) -> AzureFailure | None:
    """Observe, set, follow, rotate, revert, with a poll of each operation; the first refusal, or None."""
    world = subject.world
    wanted = [world.want(first, pinned=True), world.want(second, pinned=True), world.want(second)]
    for want in wanted if subject.kind.takes_the_key_itself else wanted[:1]:
        failure = await _until_nothing_is_left(
            subject, lambda seen, want=want: subject.provider.plan(subject.target, want, seen)
        )
        if failure is not None:
            return failure
    return await _until_nothing_is_left(subject, lambda seen: subject.provider.plan_revert(subject.target, seen))


async def _until_nothing_is_left(subject: Subject, plan_of: Any) -> AzureFailure | None:
    for _ in range(REQUESTS):
        seen = await subject.provider.observe(subject.world.chain, subject.target, max_age=0.0)
        alone = await subject.provider.observe_before_write(subject.world.chain, subject.target)
        for one in (seen, alone):
            if isinstance(one, AzureFailure):
                return one
        plan = plan_of(alone)
        if plan is None:
            return None
        if isinstance(plan, Fault):
            if plan.kind is not FaultKind.BUSY:
                return None  # such as a set, which does not revert
            await subject.world.control.advance(5)
            continue
        failure = await _send(subject, plan)
        if failure is not None:
            return failure
    raise AssertionError("there is always something left")


async def _send(subject: Subject, plan: Plan[Any]) -> AzureFailure | None:
    answer = await subject.provider.apply(subject.world.chain, subject.target, plan)
    if isinstance(answer, AzureFailure):
        return answer
    if isinstance(answer, Applied):
        return None
    assert isinstance(answer, Started)
    for _ in range(REQUESTS):
        polled = await subject.provider.poll(subject.world.chain, subject.target, answer.operation)
        if isinstance(polled, AzureFailure):
            await subject.world.control.advance(60)  # it goes on all the same
            return polled
        if isinstance(polled, Ended):
            return None
        await subject.world.control.advance(5)
    raise AssertionError("the operation does not end")


async def test_exactly_the_declared_actions_are_enough_for_the_whole_life_of_a_resource(kind: Kind, ours: World) -> None:
    first = await ours.key()
    second = await ours.newer()
    role = Role(ours, str(uuid.uuid4()))
    actions = rights_of(kind).every
    if kind.before is not None:
        # The set of a disk is another resource, with a role of its own.
        await role.allow(*actions, *(one for other in KINDS if not other.reverts for one in rights_of(other).every))
    else:
        await role.allow(*actions)
    await role.assign(ours.identity.managed_identity_principal_id)
    subject = await subject_of(kind, ours, f"{ours.name}all")
    await subject.prepare(ours.want(first, pinned=True))
    await role.allow(*actions)
    refused = await life(subject, first, second)
    assert refused is None, refused.message
    if kind.reverts:
        assert isinstance((await subject.observe()).protection, MicrosoftManaged)
    else:
        assert version_in_force((await subject.observe()).protection) == second


ACTIONS = sorted({one for kind in KINDS for one in rights_of(kind).every})


@pytest.mark.parametrize("action", [one for one in ACTIONS if "/revalidate/" not in one])
async def test_each_declared_action_is_needed(action: str, ours: World) -> None:
    first, second = await ours.key(), await ours.newer()
    for number, kind in enumerate(kind for kind in KINDS if action in rights_of(kind).every):
        role = await everything(ours)
        subject = await subject_of(kind, ours, f"{ours.name}n{number}")
        await subject.prepare(ours.want(first, pinned=True))
        await role.allow(*(set(rights_of(kind).every) - {action}))
        refused = await life(subject, first, second)
        if action in rights_of(kind).shows:
            assert refused is None
            continue
        assert refused is not None
        assert refused.code == "AuthorizationFailed"
        fault = subject.provider.judge(refused, "name")
        assert fault.actor is Actor.PROVIDER_ADMINISTRATOR


async def everything(ours: World) -> Role:
    """A role with what all kinds need, assigned."""
    role = Role(ours, str(uuid.uuid4()))
    await role.allow(*ACTIONS)
    await role.assign(ours.identity.managed_identity_principal_id)
    return role


@pytest.mark.parametrize("kind", [kind for kind in KINDS if ".sql/" in kind.resource_type], ids=str)
@pytest.mark.parametrize("allowed", [True, False])
async def test_a_database_that_lost_its_key_for_long_is_opened_by_the_declared_actions(
    kind: Kind, ours: World, *, allowed: bool
) -> None:
    version, role, name = await ours.key(), await everything(ours), f"{ours.name}re"
    subject = await subject_of(kind, ours, name)
    if kind.resource_type.endswith("/servers"):
        await ours.provider_admin.sql.create_database(subject.target.id.text, "orders")
    await subject.bring(ours.want(version))
    await ours.customer.disable(ours.vault, "cmk")
    await ours.control.advance(3600)
    await ours.customer.enable(ours.vault, "cmk")
    await ours.control.advance(60)
    kept = [one for one in rights_of(kind).every if allowed or "/revalidate/" not in one]
    await role.allow(*kept)
    want = ours.want(version)
    refused = await _until_nothing_is_left(subject, lambda seen: subject.provider.plan(subject.target, want, seen))
    if allowed:
        assert refused is None, refused.message
    else:
        assert refused is not None
        assert "/revalidate/action" in refused.message


async def test_the_actions_in_the_installation_guide_are_the_declared_ones() -> None:
    text = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(Microsoft\.[A-Za-z/]+)` \| (.*?) \|$", text, re.MULTILINE))
    documented = {kind.lower(): set(re.findall(r"`([^`]+)`", actions)) for kind, actions in rows.items()}
    assert documented == {kind.resource_type: set(rights_of(kind).every) for kind in KINDS}
