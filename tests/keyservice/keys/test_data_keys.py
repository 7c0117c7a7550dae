"""Data keys of an organization with a vault: made once, served within bounds, refused when the organization refuses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from cmk_keyservice.crypto.ciphertext import parse
from cmk_keyservice.crypto.suites import open_, seal
from cmk_keyservice.keys.limits import Limits
from cmk_keyservice.keys.standing import Serving
from cmk_keyservice.problem import Kind
from cmk_operator.core.kinds.call_rates import Rate
from tests.keyservice.keys.world import SERVICE, Clock, World, problem_of

if TYPE_CHECKING:
    from cmk_keyservice.replica import Replica

QUICK = Limits(confirm=0.05)


@pytest.fixture
async def acme(world: World) -> World:
    await world.make_key()
    await world.accept()
    return world


async def confirmed(replica: Replica, acme: World) -> None:
    """Look until a refusal is confirmed."""
    organization = replica.organizations.find(acme.name)
    assert organization is not None
    await replica.access.look_if_due(organization)


def serving(replica: Replica, acme: World) -> Serving:
    organization = replica.organizations.find(acme.name)
    assert organization is not None
    known = replica.access.of(organization)
    assert known is not None
    return replica.access.state(known)


async def test_the_first_data_key_raced_by_two_replicas_is_one(acme: World) -> None:
    replicas = [await acme.replica(), await acme.replica()]
    made = await asyncio.gather(*(replicas[number % 2].data_keys.current(acme.name, SERVICE, "orders") for number in range(50)))
    assert len({one.id for one in made}) == 1
    rows = [seal(one.primitive, b"row", b"context") for one in made]
    again = await acme.replica()
    for row in rows:
        data_key = await again.data_keys.by_id(acme.name, parse(row).data_key_id)
        assert open_(data_key.primitive, parse(row), b"context") == b"row"


async def test_a_data_key_that_is_known_costs_no_call(acme: World) -> None:
    replica = await acme.replica()
    await replica.data_keys.current(acme.name, SERVICE, "orders")
    await acme.control.clear_requests()
    for _ in range(100):
        await replica.data_keys.current(acme.name, SERVICE, "orders")
    assert await acme.vault_calls() == 0


async def test_data_keys_that_expire_at_once_under_200_callers_cost_one_unwrap_each(acme: World) -> None:
    number = 150  # with 1,000 it takes a minute on two cores, and the vault counts 1,000
    replica = await acme.replica()
    ids = await acme.rows(replica.store, number)
    await replica.access.require(acme.organization())
    await acme.control.clear_requests()

    async def caller(one: int) -> int:
        begin = one * 5 % number
        return len([await replica.data_keys.by_id(acme.name, of) for of in ids[begin:] + ids[:begin]])

    assert await asyncio.gather(*map(caller, range(200))) == [number] * 200
    assert await acme.vault_calls(least=number) == number


async def test_callers_wait_for_the_budget_of_a_vault_and_meet_no_exception(acme: World) -> None:
    replica = await acme.replica(rate=Rate(20, 0.5))
    ids = await acme.rows(replica.store, 60)
    await acme.control.clear_requests()
    asked = await asyncio.gather(*(replica.data_keys.by_id(acme.name, one) for one in ids for _ in range(5)))
    assert len(asked) == 300
    assert await acme.vault_calls(least=61) == 61


async def test_an_unknown_organization_or_data_key_is_not_found(acme: World) -> None:
    replica = await acme.replica()
    assert (await problem_of(replica.data_keys.current("contoso", SERVICE, "orders"))).code == "OrganizationUnknown"
    assert (await problem_of(replica.data_keys.by_id(acme.name, uuid4()))).code == "DataKeyUnknown"


async def test_a_data_key_of_another_organization_is_not_found(acme: World) -> None:
    replica = await acme.replica()
    data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
    contoso = acme.organization()
    replica.organizations.note(replace(contoso, id="contoso", name="contoso", uid="uid-2"))
    acme.api_server_answers = False
    assert (await problem_of(replica.data_keys.by_id("contoso", data_key.id))).kind in {Kind.NOT_FOUND, Kind.UNAVAILABLE}


async def test_a_refusal_is_confirmed_and_then_no_data_key_is_served(acme: World) -> None:
    clock = Clock()
    replica = await acme.replica(clock=clock)
    data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
    await acme.disable()
    await acme.turn(clock, 60)
    assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id
    await confirmed(replica, acme)
    problem = await problem_of(replica.data_keys.by_id(acme.name, data_key.id))
    assert (problem.kind, problem.retryable) == (Kind.DENIED, False)
    assert len(replica.data_keys) == 0
    assert not replica.data_keys.in_force(data_key)
    assert (await problem_of(replica.data_keys.lease(acme.name, SERVICE, "orders"))).kind is Kind.DENIED
    await acme.enable()
    await acme.turn(clock, 60)
    await confirmed(replica, acme)
    assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id


async def test_one_refusal_alone_takes_nothing_out_of_service(acme: World) -> None:
    clock = Clock()
    replica = await acme.replica(clock=clock)
    data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
    await acme.control.inject(
        kind="status",
        host=f"{acme.vault}.vault.azure.net",
        path="unwrapkey",
        times=1,
        status=403,
        body={"error": {"code": "Forbidden", "message": "no", "innererror": {"code": "ForbiddenByPolicy"}}},
    )
    await acme.turn(clock, 60)
    await confirmed(replica, acme)
    assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id
    assert serving(replica, acme) is Serving.SERVING


async def test_an_outage_coasts_to_the_ceiling_and_not_beyond(acme: World) -> None:
    clock = Clock()
    replica = await acme.replica(clock=clock)
    data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
    await acme.control.inject(kind="status", host=f"{acme.vault}.vault.azure.net", status=503)
    await acme.turn(clock, 60)
    await confirmed(replica, acme)
    assert serving(replica, acme) is Serving.COASTING
    await acme.turn(clock, 520)
    assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id
    lease = await replica.data_keys.lease(acme.name, SERVICE, "orders", data_key.id)
    assert 0 < lease.seconds <= 20
    assert (await problem_of(replica.data_keys.current(acme.name, SERVICE, "new"))).kind is Kind.UNAVAILABLE
    await acme.turn(clock, 20)
    assert (await problem_of(replica.data_keys.by_id(acme.name, data_key.id))).kind is Kind.UNAVAILABLE
    await acme.control.clear_faults()
    await acme.turn(clock, 1)
    assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id


async def test_a_vault_that_says_when_is_asked_no_sooner_and_known_data_keys_go_on(acme: World) -> None:
    clock = Clock()
    replica = await acme.replica(clock=clock)
    data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
    cold = await replica.data_keys.current(acme.name, SERVICE, "cold")
    replica.data_keys.evict(acme.name)
    await replica.data_keys.by_id(acme.name, data_key.id)
    await acme.control.inject(kind="status", host=f"{acme.vault}.vault.azure.net", status=429, code="Throttled", retry_after=30)
    await acme.control.clear_requests()
    problem = await problem_of(replica.data_keys.by_id(acme.name, cold.id))
    assert (problem.kind, problem.retryable) == (Kind.THROTTLED, True)
    assert problem.retry_after is not None
    for _ in range(20):
        assert (await problem_of(replica.data_keys.by_id(acme.name, cold.id))).kind is Kind.THROTTLED
        assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id
    assert await acme.vault_calls(least=1) == 1
    assert replica.missing() == []


async def test_a_lease_is_not_extended_by_use_and_ends_with_the_proof(acme: World) -> None:
    clock = Clock()
    replica = await acme.replica(clock=clock)
    lease = await replica.data_keys.lease(acme.name, SERVICE, "orders")
    assert lease.seconds == 60
    assert (await replica.data_keys.lease(acme.name, SERVICE, "orders", seconds=5)).seconds == 5
    before = (await replica.data_keys.by_id(acme.name, lease.data_key.id)).expires
    await acme.turn(clock, 30)
    for _ in range(10):
        assert (await replica.data_keys.by_id(acme.name, lease.data_key.id)).expires == before


async def test_an_expired_key_still_decrypts_and_the_next_epoch_waits(acme: World) -> None:
    replica = await acme.replica(limits=Limits(confirm=0.05, epoch_days=0.0))
    first = await (await acme.replica()).data_keys.current(acme.name, SERVICE, "orders")
    await acme.customer.set_expiry(acme.vault, "cmk", await acme.control.now() - 10, acme.versions[-1])
    again = await replica.data_keys.current(acme.name, SERVICE, "orders")
    assert (again.id, again.epoch) == (first.id, 1)
    problem = await problem_of(replica.data_keys.current(acme.name, SERVICE, "other"))
    assert (problem.kind, problem.code) == (Kind.UNAVAILABLE, "Expired")


async def test_new_data_gets_a_new_data_key_when_the_newest_is_old(acme: World) -> None:
    first = await (await acme.replica()).data_keys.current(acme.name, SERVICE, "orders")
    replica = await acme.replica(limits=Limits(confirm=0.05, epoch_days=0.0))
    second = await replica.data_keys.current(acme.name, SERVICE, "orders")
    assert (first.epoch, second.epoch) == (1, 2)
    assert (await replica.data_keys.first(acme.name, SERVICE, "orders")).id == first.id
    assert (await replica.data_keys.by_id(acme.name, first.id)).epoch == 1
