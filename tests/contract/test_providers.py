"""What every provider must hold, whatever its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.encryption.long_running import Failed
from cmk_operator.core.encryption.protection import MicrosoftManaged, OnKey, version_in_force
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, FaultKind
from cmk_operator.providers.protocol import Plan, Started
from cmk_operator.providers.registry import KINDS as DESCRIBED
from cmk_operator.providers.registry import make_providers
from tests.contract.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cmk_operator.azure.session import AzureSession
    from tests.contract.world import Kind, Subject, World

CONTROL_PLANE = "management.azure.com"
TAKERS = [kind for kind in KINDS if kind.takes_the_key_itself]


def test_the_suite_runs_over_every_registered_kind_of_azure(session: AzureSession) -> None:
    # Snowflake has a suite of its own beside this one: it answers in SQL and never tells a version.
    registered = {name for name in make_providers(session, 1.0) if name.startswith("microsoft.")}
    assert registered == {kind.resource_type for kind in KINDS}


def test_every_kind_that_is_described_has_a_provider_of_the_same_description(session: AzureSession) -> None:
    made = make_providers(session, 1.0)
    assert {name: provider.kind for name, provider in made.items()} == DESCRIBED


async def test_a_resource_comes_onto_a_key_that_is_followed_and_then_nothing_is_left(world: World, subject: Subject) -> None:
    version = await world.key()
    want = world.want(version)
    assert await subject.bring(want) > 0
    protection = (await subject.observe()).protection
    assert isinstance(protection, OnKey)
    assert protection.uri.versionless == want.key_uri
    assert version_in_force(protection) == version
    assert await subject.bring(want) == 0


async def test_a_pinned_version_is_put_and_then_moved_to_another(world: World, subject: Subject) -> None:
    first = await world.key()
    await subject.bring(world.want(first, pinned=True))
    assert version_in_force((await subject.observe()).protection) == first
    second = await world.newer()
    await subject.bring(world.want(second, pinned=True))
    assert version_in_force((await subject.observe()).protection) == second


async def test_a_key_that_is_followed_is_never_fought_over_the_version_that_azure_moved_to(
    world: World, subject: Subject
) -> None:
    first = await world.key()
    await subject.bring(world.want(first))
    second = await world.newer()
    # Whether Azure has moved already or not, there is nothing for the operator to do.
    assert await subject.plan(world.want(second)) is None
    await world.control.advance(26 * 3600)
    assert await subject.plan(world.want(second)) is None
    assert version_in_force((await subject.observe()).protection) == second


async def test_the_list_says_what_the_resource_itself_says(world: World, subject: Subject) -> None:
    version = await world.key()
    await subject.bring(world.want(version))
    alone = await subject.observe(0.0)
    assert (await subject.observe(60.0)).protection == alone.protection
    assert subject.provider.plan(subject.target, world.want(version), await subject.observe(60.0)) is None


async def test_what_is_observed_before_a_write_is_what_the_resource_says_after_each_own_write(
    world: World, subject: Subject
) -> None:
    version = await world.key()
    for write in (lambda: subject.bring(world.want(version)), lambda: subject.observe(60.0)):
        await write()
        seen = await subject.provider.observe_before_write(world.chain, subject.target)
        assert not isinstance(seen, AzureFailure)
        assert seen.protection == (await subject.observe(0.0)).protection
        assert subject.provider.plan(subject.target, world.want(version), seen) is None


async def test_a_plan_is_the_same_each_time_and_says_what_it_changes(world: World, subject: Subject) -> None:
    version = await world.key()
    await subject.prepare(world.want(version))
    seen = await subject.observe()
    first, second = (subject.provider.plan(subject.target, world.want(version), seen) for _ in range(2))
    assert isinstance(first, Plan)
    assert first == second
    assert first.changes
    assert first.purpose
    if subject.kind.takes_the_key_itself:
        assert any(world.vault in change.after for change in first.changes), "the key is among what is told"


@pytest.mark.parametrize("kind", TAKERS, ids=str)
async def test_what_somebody_changed_is_planned_back(
    world: World, subject: Subject, another: Callable[[], Awaitable[Subject]]
) -> None:
    version = await world.key()
    await subject.bring(world.want(version))
    other = (await world.customer.create_key(world.vault, "other")).rsplit("/", 1)[-1]
    await subject.bring(world.want(other, name="other"))
    assert isinstance(await subject.plan(world.want(version)), Plan)
    await subject.bring(world.want(version))
    protection = (await subject.observe()).protection
    assert isinstance(protection, OnKey)
    assert protection.uri.key_name == "cmk"


async def test_a_resource_goes_back_to_a_key_of_microsoft_or_says_why_it_cannot(
    world: World, subject: Subject, kind: Kind
) -> None:
    version = await world.key()
    await subject.bring(world.want(version))
    if not kind.reverts:
        # With nothing on it there is nothing to revert; else a fault says what to do instead.
        assert not isinstance(subject.provider.plan_revert(subject.target, await subject.observe()), Plan)
        return
    assert await subject.revert() > 0
    assert isinstance((await subject.observe()).protection, MicrosoftManaged)
    assert await subject.revert() == 0


async def test_a_resource_that_does_not_exist_is_a_fault_that_says_who_must_act(subject: Subject) -> None:
    absent = subject.at(subject.target.id.text.rsplit("/", 1)[0] + "/absent")
    seen = await absent.provider.observe(absent.world.chain, absent.target, max_age=0.0)
    if not isinstance(seen, AzureFailure):
        # A kind that can be created reports its absence as a state, and plans to create it when the manifest says how.
        assert isinstance(seen.protection, MicrosoftManaged)
        return
    fault = absent.provider.judge(seen, "absent")
    assert fault.kind is FaultKind.BLOCKED
    assert fault.actor.value in fault.message


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "code": "TooManyRequests", "retry_after": 1},
        {"kind": "status", "status": 503, "code": "ServiceUnavailable"},
        {"kind": "status", "status": 500, "code": "InternalServerError"},
        {"kind": "status", "status": 409, "code": "Conflict"},
        {"kind": "status", "status": 403, "code": "AuthorizationFailed"},
        {"kind": "reset"},
        {"kind": "truncate"},
    ],
    ids=lambda fault: f"{fault.get('code', fault['kind'])}",
)
async def test_whatever_azure_answers_is_a_value_and_the_next_try_heals(
    world: World, subject: Subject, fault: dict[str, Any]
) -> None:
    version = await world.key()
    plan = await subject.plan(world.want(version))
    assert isinstance(plan, Plan)
    await world.control.inject(host=CONTROL_PLANE, **fault)
    seen = await subject.provider.observe(world.chain, subject.target, max_age=0.0)
    answer = await subject.provider.apply(world.chain, subject.target, plan)
    await world.control.clear_faults()
    answers = [seen, answer]
    if fault["kind"] == "truncate" and isinstance(answer, Started):
        # An acceptance has no body that could be cut short.
        answers.remove(answer)
        await subject.ended(answer)
    for failure in answers:
        assert isinstance(failure, AzureFailure), failure
        judged = subject.provider.judge(failure, "name")
        assert judged.kind in {FaultKind.BUSY, FaultKind.BLOCKED}
        assert judged.message
        if fault.get("retry_after"):
            assert judged.retry_after == fault["retry_after"]
        if fault.get("code") == "AuthorizationFailed":
            assert judged.actor is Actor.PROVIDER_ADMINISTRATOR
    await subject.bring(world.want(version))
    assert version_in_force((await subject.observe()).protection) == version


@pytest.mark.parametrize("kind", TAKERS, ids=str)
async def test_a_key_that_azures_service_may_not_use_is_refused_and_nothing_is_lost(world: World, subject: Subject) -> None:
    version = await world.key()
    await world.customer.disable(world.vault, "cmk")
    before = (await subject.observe()).protection
    failure: AzureFailure | None = None
    for _ in range(8):
        plan = await subject.plan(world.want(version))
        assert isinstance(plan, Plan)
        answer = await subject.provider.apply(world.chain, subject.target, plan)
        if isinstance(answer, Started):
            ended = await subject.ended(answer)
            answer = ended.failure if isinstance(ended, Failed) else answer
        if isinstance(answer, AzureFailure):
            failure = answer
            break
    assert failure is not None, "a disabled key was taken"
    fault = subject.provider.judge(failure, "name")
    assert fault.kind is FaultKind.BLOCKED
    assert fault.actor is Actor.CUSTOMER_ADMINISTRATOR
    assert (await subject.observe()).protection == before
    await world.customer.enable(world.vault, "cmk")
    await subject.bring(world.want(version))
    assert version_in_force((await subject.observe()).protection) == version
