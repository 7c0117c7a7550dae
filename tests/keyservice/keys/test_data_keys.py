"""Data keys of an organization with a vault: made once, served within bounds, refused when the organization refuses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from cmk_keyservice.crypto.ciphertext import parse
from cmk_keyservice.crypto.suites import open_, seal
from cmk_keyservice.keys.limits import Limits
from cmk_keyservice.keys.standing import Serving
from cmk_keyservice.problem import Kind
from cmk_operator.core.kinds.call_rates import Rate
from tests.keyservice.keys.world import SERVICE, Clock, World, eventually, problem_of

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


async def test_who_waits_for_a_throttled_vault_in_vain_is_told_so(acme: World) -> None:
    replica = await acme.replica()
    data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
    replica.data_keys.evict(acme.name)
    await acme.control.inject(kind="status", host=f"{acme.vault}.vault.azure.net", status=429, code="Throttled", retry_after=0)
    await acme.control.clear_requests()
    assert (await problem_of(replica.data_keys.by_id(acme.name, data_key.id))).kind is Kind.THROTTLED
    assert await acme.vault_calls(least=4) == 4


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


async def test_an_application_that_may_only_unwrap_reads_and_its_newest_data_key_goes_on(acme: World) -> None:
    first = await (await acme.replica()).data_keys.current(acme.name, SERVICE, "orders")
    await acme.customer.set_access_policy(acme.identity.application_client_id, acme.vault, permissions=["unwrapKey"])
    replica = await acme.replica(limits=Limits(confirm=0.05, epoch_days=0.0))
    assert (await replica.data_keys.current(acme.name, SERVICE, "orders")).id == first.id
    problem = await problem_of(replica.data_keys.current(acme.name, SERVICE, "new"))
    assert (problem.kind, problem.retryable) == (Kind.UNAVAILABLE, True)
    assert "wrapKey" in problem.remedy
    assert (await replica.data_keys.by_id(acme.name, first.id)).id == first.id


async def test_what_a_look_finds_counts_although_the_object_was_written_meanwhile(acme: World) -> None:
    clock = Clock()
    replica = await acme.replica(clock=clock)
    data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
    await acme.disable()
    await acme.turn(clock, 60)
    looking = asyncio.create_task(confirmed(replica, acme))
    while not looking.done():
        acme.publish()
        await asyncio.sleep(0.005)
    await looking
    assert (await problem_of(replica.data_keys.by_id(acme.name, data_key.id))).kind is Kind.DENIED
    assert len(replica.data_keys) == 0


async def test_another_organization_that_asks_for_a_data_key_disturbs_nobody(acme: World) -> None:
    replica = await acme.replica()
    data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
    replica.data_keys.evict(acme.name)
    other = replace(acme.organization(), id="contoso")
    theirs = asyncio.create_task(replica.data_keys._load(other, data_key.id))  # noqa: SLF001 - as by_id of that organization
    await asyncio.sleep(0)
    assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id
    await theirs
    assert len(replica.data_keys) == 1


async def test_a_vault_that_hangs_delays_no_look_at_another(world: World) -> None:
    await world.make_key()
    await world.accept(probe=1, grace=60)
    replica = await world.replica(limits=Limits(confirm=0.2, tick=0.05))
    organization = world.organization()
    assert organization.accepted is not None
    for number in range(10):
        kid = f"https://hangs-{number}.vault.azure.net/keys/k/{'1' * 32}"
        accepted = replace(organization.accepted, kid=kid)
        name = f"hangs{number}"
        replica.organizations.note(replace(organization, id=name, name=name, uid=name, accepted=accepted))
    await world.control.inject(kind="hang", host="hangs-*")
    await world.run(replica)
    seen: set[float] = set()

    async def looked() -> bool:
        known = replica.access.of(world.organization())
        assert known is not None
        seen.add(known.standing.proven_at)
        return len(seen) >= 4

    await eventually("looks at a vault that answers", looked)
    await world.control.clear_faults()


def registration(acme: World, client_id: str) -> dict[str, Any]:
    credentials = [
        {"secret": "acme", "key": "first", "type": "ClientSecret"},
        {"secret": "acme", "key": "second", "type": "ClientSecret"},
    ]
    return {"method": "Registration", "clientId": client_id, "credentials": credentials}


async def test_an_own_registration_is_used_with_the_second_credential_and_after_its_secret_is_gone(world: World) -> None:
    made = await world.customer.register(f"{world.name} encryption")
    await world.make_key()
    await world.customer.set_access_policy(made.client_id, world.vault, permissions=["wrapKey", "unwrapKey"])
    old, value = await world.customer.add_secret(made)
    world.secrets["acme", "first"] = value.encode()
    await world.accept(**registration(world, made.client_id))
    first = await world.replica()
    data_key = await first.data_keys.current(world.name, SERVICE, "orders")
    _, renewed = await world.customer.add_secret(made)
    world.secrets["acme", "second"] = renewed.encode()
    await world.customer.remove_secret(made, old)
    second = await world.replica()
    assert (await second.data_keys.by_id(world.name, data_key.id)).id == data_key.id
    # Another key, by the platform's application; the Secret of the registration goes.
    await world.rotate()
    second.access.admission.forget(world.name)
    assert await second.access.admission.observe(world.organization()) is None
    await world.accept()
    world.secrets.clear()
    third = await world.replica()
    assert (await third.data_keys.by_id(world.name, data_key.id)).id == data_key.id
    await third.upkeep.tend(world.organization())
    assert {one.kid for one in await third.store.by_kid(world.name)} == {world.kid()}


@pytest.mark.parametrize("content", [b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", b"two words", None])
async def test_a_secret_without_a_credential_is_a_problem_that_names_it(world: World, content: bytes | None) -> None:
    await world.make_key()
    if content is not None:
        world.secrets["acme", "first"] = content
    await world.accept(**registration(world, "3f0a0a3e-0000-4000-8000-000000000001"))
    problem = await problem_of((await world.replica()).data_keys.current(world.name, SERVICE, "orders"))
    assert (problem.kind, problem.code) == (Kind.UNAVAILABLE, "CredentialUnreadable")
    assert "acme" in problem.detail
