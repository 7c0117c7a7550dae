"""What protects a resource is one of four, for every kind, and a write starts only from two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.encryption.protection import MicrosoftManaged, OnAnotherKey, OnKey, Unreadable, version_in_force
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault, FaultKind
from cmk_operator.core.faults.reason import Reason
from cmk_operator.providers.protocol import Applied, Plan, Started, is_readable
from tests.contract.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.contract.world import Kind, Subject, World

LACKING = [(kind, values) for kind in KINDS for values in (*kind.lacking, {"/properties": None}, {"": {}})]


async def test_a_resource_on_microsofts_key_and_one_on_a_key_of_a_vault_are_told_apart(world: World, subject: Subject) -> None:
    version = await world.key()
    assert isinstance((await subject.observe()).protection, MicrosoftManaged)
    await subject.bring(world.want(version))
    assert isinstance((await subject.observe()).protection, OnKey)


async def test_a_key_that_is_not_of_a_vault_is_quoted_and_starts_no_write(world: World, subject: Subject, kind: Kind) -> None:
    version = await world.key()
    await subject.bring(world.want(version))
    await subject.alter(kind.on_another_key)
    for max_age in (0.0, 60.0):
        seen = await subject.observe(max_age)
        assert isinstance(seen.protection, OnAnotherKey)
        for fault in (
            subject.provider.plan(subject.target, world.want(version), seen),
            subject.provider.plan_revert(subject.target, seen),
        ):
            assert isinstance(fault, Fault)
            assert (fault.kind, fault.reason) == (FaultKind.BLOCKED, Reason.ON_ANOTHER_KEY)
            assert seen.protection.said in fault.message
            assert subject.provider.kind.off_another_key in fault.message
    await world.control.clear_faults()
    assert await subject.plan(world.want(version)) is None


@pytest.mark.parametrize(("kind", "values"), LACKING, ids=str)
async def test_an_answer_that_lacks_what_it_takes_starts_no_write(
    world: World, subject: Subject, values: Mapping[str, Any]
) -> None:
    version = await world.key()
    await subject.bring(world.want(version))
    await subject.alter(values)
    for max_age in (0.0, 60.0):
        seen = await subject.provider.observe(world.chain, subject.target, max_age=max_age)
        if isinstance(seen, AzureFailure):
            assert subject.provider.judge(seen, "name").reason is Reason.UNREADABLE
            continue
        assert isinstance(seen.protection, Unreadable)
        for fault in (
            subject.provider.plan(subject.target, world.want(version), seen),
            subject.provider.plan_revert(subject.target, seen),
        ):
            assert isinstance(fault, Fault)
            assert (fault.kind, fault.reason) == (FaultKind.BUSY, Reason.UNREADABLE)
    await world.control.clear_faults()
    assert await subject.plan(world.want(version)) is None
    assert version_in_force((await subject.observe(60.0)).protection) == version, "nothing of it is remembered"


async def test_an_own_write_whose_answer_lacks_what_it_takes_leaves_nothing_to_conclude(
    world: World, subject: Subject, kind: Kind
) -> None:
    version = await world.key()
    await subject.bring(world.want(version))
    newer = world.want(await world.newer(), pinned=True)
    plan = await subject.plan(newer)
    if plan is None or isinstance(plan, Fault):
        pytest.skip("its set is on the version already")
    assert isinstance(plan, Plan)
    await subject.alter(kind.lacking[0])
    answer = await subject.provider.apply(world.chain, subject.target, plan)
    await world.control.clear_faults()
    if isinstance(answer, Started):
        await subject.ended(answer)
    elif isinstance(answer, AzureFailure):
        assert subject.provider.judge(answer, "name").reason is Reason.UNREADABLE
    else:
        assert isinstance(answer, Applied)
        assert not is_readable(answer.facts)
    await subject.bring(newer)
    assert version_in_force((await subject.observe(60.0)).protection) == newer.probed_version
