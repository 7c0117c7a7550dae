"""What keeps its word when parts fail: the bound of a revocation on two replicas, and outages of the database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from cmk_keyservice.keys.clock import seconds
from cmk_keyservice.keys.limits import Limits
from cmk_keyservice.keys.standing import Serving
from cmk_keyservice.problem import Kind, ProblemError
from tests.keyservice.keys.way import Way
from tests.keyservice.keys.world import SERVICE, Clock, World, eventually, problem_of

if TYPE_CHECKING:
    from cmk_keyservice.keys.access import Known
    from cmk_keyservice.replica import Replica

PROBE, CONFIRM, LEASE, SLACK = 1.0, 0.2, 1.0, 20.0
LIMITS = Limits(confirm=CONFIRM, lease=LEASE, tick=0.1, report_every=5.0)


@pytest.fixture
async def acme(world: World) -> World:
    await world.make_key()
    await world.accept()
    return world


def known_of(replica: Replica, acme: World) -> Known:
    organization = replica.organizations.find(acme.name)
    assert organization is not None
    known = replica.access.of(organization)
    assert known is not None
    return known


async def test_under_load_on_two_replicas_the_last_plaintext_is_within_the_bound_and_it_comes_back(world: World) -> None:
    await world.make_key()
    await world.accept(probe=PROBE, grace=60)
    replicas = [await world.replica(limits=LIMITS), await world.replica(limits=LIMITS)]
    data_key = await replicas[0].data_keys.current(world.name, SERVICE, "orders")
    for replica in replicas:
        await replica.data_keys.by_id(world.name, data_key.id)
        await world.run(replica)
    served, last, ends = [0, 0], [0.0, 0.0], [0.0, 0.0]
    stop = asyncio.Event()

    async def caller(number: int) -> None:
        while not stop.is_set():
            try:
                lease = await replicas[number].data_keys.lease(world.name, SERVICE, "orders", data_key.id)
            except ProblemError:
                await asyncio.sleep(0.01)
                continue
            now = seconds()
            served[number] += 1
            last[number] = now
            ends[number] = max(ends[number], now + lease.seconds)
            await asyncio.sleep(0.005)

    callers = [asyncio.create_task(caller(number % 2)) for number in range(12)]
    await eventually("load", lambda: _true(min(served) > 200))
    await world.disable()
    disabled = seconds()

    async def refused() -> bool:
        return all(known_of(replica, world).standing.refusal is not None for replica in replicas)

    await eventually("the refusal on both", refused)
    at = list(served)
    for replica in replicas:
        assert (await problem_of(replica.data_keys.by_id(world.name, data_key.id))).kind is Kind.DENIED
    assert max(last) - disabled <= PROBE + CONFIRM + SLACK
    assert max(ends) - disabled <= PROBE + CONFIRM + LEASE + SLACK
    await world.enable()
    await eventually("service on both", lambda: _true(all(now > was for now, was in zip(served, at, strict=True))))
    stop.set()
    await asyncio.gather(*callers)


async def _true(value: bool) -> bool:  # noqa: FBT001 - a condition
    return value


async def test_one_replica_looks_for_both_and_the_vault_is_asked_once_an_interval(world: World) -> None:
    await world.make_key()
    await world.accept(probe=PROBE, grace=60)
    replicas = [await world.replica(limits=LIMITS), await world.replica(limits=LIMITS)]
    for replica in replicas:
        await world.run(replica)
    await eventually("a first look", lambda: _true(all(known_of(one, world).standing.proven_at > 0 for one in replicas)))
    await world.control.clear_requests()
    began = seconds()
    proofs: set[float] = set()

    async def several() -> bool:
        proofs.add(round(known_of(replicas[0], world).standing.proven_at, 1))
        return len(proofs) >= 4

    await eventually("more looks", several)
    assert await world.vault_calls() <= (seconds() - began) / PROBE + 2


async def test_what_one_replica_finds_holds_for_another_whose_clock_differs_by_a_minute(acme: World) -> None:
    ahead, behind = await acme.replica(clock=Clock(60.0)), await acme.replica(clock=Clock(-60.0))
    await ahead.access.look_if_due(acme.organization())
    await behind.access.learn_from_all(acme.name)
    known = known_of(behind, acme)
    assert behind.access.state(known) is Serving.SERVING
    assert known.standing.proven_at <= seconds() - 60.0
    await acme.control.clear_requests()
    data_key = await behind.data_keys.current(acme.name, SERVICE, "orders")
    await acme.disable()
    for replica in (ahead, behind):
        await acme.turn(replica.access._clock, 60)  # type: ignore[arg-type]  # noqa: SLF001 - the test's clocks
    await ahead.access.look_if_due(acme.organization())
    await behind.access.learn_from_all(acme.name)
    assert behind.access.state(known_of(behind, acme)) is Serving.REFUSED
    assert (await problem_of(behind.data_keys.by_id(acme.name, data_key.id))).kind is Kind.DENIED


@pytest.mark.parametrize("columns", [("asked_at", "proven_at"), ("proven_at",)])
async def test_a_proof_from_the_future_proves_nothing_and_gives_way_to_the_next_look(
    acme: World, columns: tuple[str, ...]
) -> None:
    clock = Clock()
    replica, other = await acme.replica(clock=clock), await acme.replica(clock=clock)
    data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
    await replica.access.look_if_due(acme.organization())
    await acme.turn(clock, 60)
    changes = ", ".join(f"{column} = {column} + interval '1 day'" for column in columns)
    async with replica.store.transaction() as connection:
        await connection.execute(text(f"UPDATE proof SET {changes}"))  # noqa: S608 - columns of this test
    await acme.disable()
    await other.access.learn_from_all(acme.name)
    assert known_of(other, acme).standing.proven_at < seconds()
    await replica.access.look_if_due(acme.organization())
    assert (await problem_of(replica.data_keys.by_id(acme.name, data_key.id))).kind is Kind.DENIED
    await other.access.learn_from_all(acme.name)
    assert other.access.state(known_of(other, acme)) is Serving.REFUSED
    shared = await replica.store.read_proof(acme.name)
    assert shared is not None
    assert shared.asked_age >= 0


async def test_without_the_database_known_data_keys_go_on_and_nothing_new_is_made(acme: World) -> None:
    clock = Clock()
    async with Way(acme.database_url) as way:
        replica = await acme.replica(clock=clock, database_url=way.url)
        data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
        cold = await replica.data_keys.current(acme.name, SERVICE, "cold")
        replica.data_keys.evict(acme.name)
        await replica.data_keys.current(acme.name, SERVICE, "orders")
        way.cut()
        clock.ahead += 60
        assert (await replica.data_keys.current(acme.name, SERVICE, "orders")).id == data_key.id
        problem = await problem_of(replica.data_keys.by_id(acme.name, cold.id))
        assert (problem.kind, problem.code) == (Kind.UNAVAILABLE, "DatabaseUnavailable")
        assert (await problem_of(replica.data_keys.current(acme.name, SERVICE, "new"))).kind is Kind.UNAVAILABLE
        # The replica looks for itself when nobody can say that he looked for all.
        clock.ahead += 700
        assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id
        await acme.disable()
        clock.ahead += 700
        await problem_of(replica.data_keys.by_id(acme.name, data_key.id))
        await eventually("the confirmed refusal", lambda: _true(known_of(replica, acme).standing.refusal is not None))
        assert (await problem_of(replica.data_keys.by_id(acme.name, data_key.id))).kind is Kind.DENIED
        assert len(replica.data_keys) == 0
        way.mend()
        await acme.enable()
        await acme.turn(clock, 60)
        await replica.access.look_if_due(acme.organization())
        assert (await replica.data_keys.by_id(acme.name, cold.id)).id == cold.id


async def test_a_database_that_does_not_answer_delays_no_known_data_key(acme: World) -> None:
    async with Way(acme.database_url) as way:
        replica = await acme.replica(database_url=way.url, database_timeout=1.0)
        data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
        cold = await replica.data_keys.current(acme.name, SERVICE, "cold")
        replica.data_keys.evict(acme.name)
        await replica.data_keys.current(acme.name, SERVICE, "orders")
        way.stop()
        asked = asyncio.create_task(problem_of(replica.data_keys.by_id(acme.name, cold.id)))
        for _ in range(100):
            assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id
        assert not asked.done()
        assert (await asked).kind is Kind.UNAVAILABLE
        way.mend()


async def test_the_api_server_is_not_needed_for_what_is_accepted(acme: World) -> None:
    clock = Clock()
    replica = await acme.replica(clock=clock)
    await replica.data_keys.current(acme.name, SERVICE, "orders")
    acme.api_server_answers = False
    await acme.turn(clock, 700)
    assert (await replica.data_keys.current(acme.name, SERVICE, "new")).epoch == 1


async def test_a_refusal_that_nobody_can_check_is_an_outage_until_the_ceiling(acme: World) -> None:
    clock = Clock()
    async with Way(acme.database_url) as way:
        replica = await acme.replica(clock=clock, database_url=way.url)
        data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
        acme.api_server_answers = False
        way.cut()
        await acme.disable()
        clock.ahead += 100
        assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id
        clock.ahead += 500
        assert (await problem_of(replica.data_keys.by_id(acme.name, data_key.id))).kind is Kind.UNAVAILABLE


async def test_an_object_of_another_namespace_gets_no_data_key_that_is_there(acme: World) -> None:
    first = await acme.replica()
    data_key = await first.data_keys.current(acme.name, SERVICE, "orders")
    acme.uid, acme.namespace, acme.status = "uid-2", "intruder", {}
    await acme.accept(publish=False)
    other = await acme.replica()
    problem = await problem_of(other.data_keys.by_id(acme.name, data_key.id))
    assert (problem.kind, problem.code) == (Kind.FORBIDDEN, "OrganizationTaken")
    assert (await problem_of(other.data_keys.current(acme.name, SERVICE, "new"))).kind is Kind.FORBIDDEN
    await other.upkeep.tend(acme.organization())
    assert acme.status["dataKeys"]["serving"]["state"] == "NotServing"
    assert "byKid" not in acme.status["dataKeys"]


async def test_an_object_that_is_made_again_in_its_namespace_goes_on(acme: World) -> None:
    first = await acme.replica()
    data_key = await first.data_keys.current(acme.name, SERVICE, "orders")
    await acme.rotate()
    await acme.accept()
    await first.upkeep.tend(acme.organization())
    acme.uid, acme.status = "uid-2", {}
    await acme.accept()
    for replica in (first, await acme.replica()):
        assert (await replica.data_keys.by_id(acme.name, data_key.id)).id == data_key.id
        assert (await replica.data_keys.current(acme.name, SERVICE, "new")).epoch == 1
