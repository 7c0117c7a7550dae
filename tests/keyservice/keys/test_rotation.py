"""Rotation and re-wrap: rows move to the key version in force, data stays as it is, and no step that dies loses anything."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from cmk_keyservice.crypto.ciphertext import parse
from cmk_keyservice.crypto.suites import open_, seal
from cmk_keyservice.keys.limits import Limits
from cmk_keyservice.problem import Kind
from cmk_keyservice.store.rows import Fence, Fenced
from cmk_keyservice.vaults.accepted import PLATFORM_KEY
from cmk_keyservice.vaults.answers import NotDone, Unwrapped
from cmk_operator.core.kinds.call_rates import Rate
from tests.keyservice.keys.world import SERVICE, Clock, World, eventually, minted, problem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cmk_keyservice.replica import Replica
    from cmk_keyservice.vaults.accepted import Organization

ROWS = 6


@pytest.fixture
async def acme(world: World) -> World:
    await world.make_key()
    await world.accept()
    return world


async def written(replica: Replica, acme: World, number: int = ROWS) -> list[bytes]:
    """Ciphertexts under this many data keys."""
    ids = await minted(replica, acme.name, number)
    keys = [await replica.data_keys.by_id(acme.name, one) for one in ids]
    return [seal(one.primitive, f"row {one.purpose}".encode(), b"context") for one in keys]


async def read_all(replica: Replica, acme: World, rows: list[bytes]) -> list[bytes]:
    read = []
    for row in rows:
        data_key = await replica.data_keys.by_id(acme.name, parse(row).data_key_id)
        read.append(open_(data_key.primitive, parse(row), b"context"))
    return read


async def by_kid(replica: Replica, acme: World) -> dict[str, tuple[int, int]]:
    return {one.kid: (one.data_keys, one.previous) for one in await replica.store.by_kid(acme.name)}


def expected(number: int = ROWS) -> list[bytes]:
    return [f"row p{one}".encode() for one in range(number)]


async def test_after_a_rotation_everything_is_readable_without_the_old_version(acme: World) -> None:
    first = await acme.replica()
    rows = await written(first, acme)
    await acme.rotate()
    await acme.accept()
    await first.upkeep.tend(acme.organization())
    assert await by_kid(first, acme) == {acme.kid(): (ROWS, 0)}
    report = acme.status["dataKeys"]
    assert (report["revision"], report["total"]) == (2, ROWS)
    assert report["byKid"] == [{"kid": acme.kid(), "dataKeys": ROWS}]
    assert report["rewrap"] == {"pending": 0, "failed": 0, "message": ""}
    await acme.disable(0)
    again = await acme.replica()
    assert await read_all(again, acme, rows) == expected()
    assert await read_all(first, acme, rows) == expected()


async def test_the_kid_and_the_wrap_change_together_after_the_new_wrap_was_unwrapped(acme: World) -> None:
    replica = await acme.replica()
    rows = await written(replica, acme, 1)
    await acme.rotate()
    await acme.accept()
    await replica.upkeep.tend(acme.organization())
    row = await replica.store.data_key(parse(rows[0]).data_key_id)
    assert row is not None
    assert (row.kid, row.row_version) == (acme.kid(), 2)
    seen = [
        one["path"].partition("?")[0]
        for one in await acme.control.requests()
        if "rewrap" in str(one) or "/keys/" in one["path"]
    ]
    operations = [path.rpartition("/")[2] for path in seen if acme.versions[-1] in path]
    assert operations[-2:] == ["wrapkey", "unwrapkey"]


async def test_a_vault_that_rotates_in_between_leaves_the_kid_of_the_wrap(acme: World) -> None:
    replica = await acme.replica()
    await acme.rotate()  # nobody has accepted the newer version yet
    data_key = await replica.data_keys.current(acme.name, SERVICE, "orders")
    row = await replica.store.data_key(data_key.id)
    assert row is not None
    assert row.kid == acme.kid(0)
    assert (await (await acme.replica()).data_keys.by_id(acme.name, data_key.id)).id == data_key.id


async def test_an_unwrap_with_another_version_is_no_refusal(acme: World) -> None:
    replica = await acme.replica()
    rows = await written(replica, acme, 1)
    await acme.rotate()
    row = await replica.store.data_key(parse(rows[0]).data_key_id)
    assert row is not None
    organization = acme.organization()
    wrapped = (await replica.vaults.wrap(organization, organization.accepted, b"x" * 64, purpose="probe")).ciphertext  # type: ignore[arg-type,union-attr]  # accepted, and not refused
    answer = await replica.vaults.unwrap(organization, acme.kid(1), "RSA-OAEP-256", wrapped, purpose="probe")
    assert (answer.refuses, answer.problem.kind) == (False, Kind.UNAVAILABLE)  # type: ignore[union-attr]  # not unwrapped


STEPS: dict[str, Callable[[Replica, World], None]] = {}


class KilledError(BaseException):
    """The process is gone at this step."""


def step(name: str) -> Callable[[Callable[[Replica, World], None]], Callable[[Replica, World], None]]:
    def add(kill: Callable[[Replica, World], None]) -> Callable[[Replica, World], None]:
        STEPS[name] = kill
        return kill

    return add


def dies_after(subject: object, method: str, calls: int = 1) -> None:
    """Let the process die when a method has returned for the n-th time."""
    inner = getattr(subject, method)
    left = calls

    async def dying(*given: object, **named: object) -> object:
        nonlocal left
        result = await inner(*given, **named)
        left -= 1
        if left <= 0:
            raise KilledError
        return result

    setattr(subject, method, dying)


@step("the first unwrap under the old version")
def _(replica: Replica, _: World) -> None:
    dies_after(replica.vaults, "unwrap")


@step("the wrap under the new version")
def _(replica: Replica, _: World) -> None:
    dies_after(replica.vaults, "wrap")


@step("a later unwrap")
def _(replica: Replica, _: World) -> None:
    dies_after(replica.vaults, "unwrap", ROWS + 1)


@step("the write, before its commit")
def _(replica: Replica, _: World) -> None:
    dies_after(replica.store, "compare_and_set_all")


@step("the commit, before the old wraps are dropped")
def _(replica: Replica, _: World) -> None:
    dies_after(replica.store, "by_kid", 2)


@step("the drop of the old wraps")
def _(replica: Replica, _: World) -> None:
    dies_after(replica.store, "drop_previous")


@pytest.mark.parametrize("at", STEPS)
async def test_a_re_wrap_that_dies_at_any_step_loses_nothing_and_is_finished_by_another_replica(acme: World, at: str) -> None:
    dying, other = await acme.replica(), await acme.replica()
    rows = await written(other, acme)
    await acme.rotate()
    await acme.accept()
    STEPS[at](dying, acme)
    with pytest.raises((KilledError, BaseExceptionGroup)):
        await dying.upkeep.tend(acme.organization())
    assert await read_all(await acme.replica(), acme, rows) == expected()
    await other.upkeep.tend(acme.organization())
    assert await by_kid(other, acme) == {acme.kid(): (ROWS, 0)}
    await acme.disable(0)
    assert await read_all(await acme.replica(), acme, rows) == expected()


@pytest.mark.parametrize("method", ["wrap", "unwrap"])
async def test_a_first_data_key_that_dies_at_any_step_leaves_one_or_none(acme: World, method: str) -> None:
    dying, other = await acme.replica(), await acme.replica()
    await dying.access.require(acme.organization())
    dies_after(dying.vaults, method)
    with pytest.raises((KilledError, BaseExceptionGroup)):
        await dying.data_keys.current(acme.name, SERVICE, "orders")
    made = await other.data_keys.current(acme.name, SERVICE, "orders")
    assert (await by_kid(other, acme))[acme.kid()] == (1, 0)
    assert (await (await acme.replica()).data_keys.by_id(acme.name, made.id)).id == made.id


async def test_a_first_data_key_that_dies_after_its_commit_is_the_one_that_all_use(acme: World) -> None:
    dying, other = await acme.replica(), await acme.replica()
    dies_after(dying.store, "first_or_existing")
    with pytest.raises((KilledError, BaseExceptionGroup)):
        await dying.data_keys.current(acme.name, SERVICE, "orders")
    made = await other.data_keys.current(acme.name, SERVICE, "orders")
    assert (await by_kid(other, acme))[acme.kid()] == (1, 0)
    assert made.epoch == 1


async def test_two_replicas_re_wrap_each_row_once(acme: World) -> None:
    replicas = [await acme.replica(), await acme.replica()]
    rows = await written(replicas[0], acme)
    await acme.rotate()
    await acme.accept()
    await asyncio.gather(*(one.access.admission.observe(acme.organization()) for one in replicas))
    await asyncio.gather(*(one.rewrap.run_pass(acme.organization()) for one in replicas))
    assert await by_kid(replicas[0], acme) == {acme.kid(): (ROWS, 0)}
    for row in rows:
        found = await replicas[0].store.data_key(parse(row).data_key_id)
        assert found is not None
        assert found.row_version == 2


async def test_a_replica_that_was_stopped_reads_again_before_it_refuses(acme: World) -> None:
    clock = Clock()
    stopped, other = await acme.replica(clock=clock), await acme.replica(clock=clock)
    acme.deaf.append(stopped)
    rows = await written(stopped, acme)
    old = acme.organization()
    await acme.rotate()
    await acme.accept()
    await other.upkeep.tend(acme.organization())
    await acme.disable(0)
    await acme.turn(clock, 60)
    assert stopped.organizations.find(acme.name) == old
    await stopped.access.look_if_due(old)  # the vault refuses the older canary, twice
    found = stopped.organizations.find(acme.name)
    assert found is not None
    assert found.accepted is not None
    assert found.accepted.revision == 2
    assert await read_all(stopped, acme, rows) == expected()
    stopped.data_keys.evict(acme.name)
    assert await read_all(stopped, acme, rows) == expected()


async def test_a_replica_that_has_not_heard_reads_what_others_have_moved(acme: World) -> None:
    deaf, other = await acme.replica(), await acme.replica()
    acme.deaf.append(deaf)
    rows = await written(deaf, acme)
    deaf.data_keys.evict(acme.name)
    await acme.rotate()
    await acme.accept()
    await other.upkeep.tend(acme.organization())
    await acme.disable(0)
    acme.api_server_answers = False
    assert await read_all(deaf, acme, rows) == expected()


async def test_a_replica_that_was_stopped_never_writes_under_the_old_version(acme: World) -> None:
    stopped, other = await acme.replica(), await acme.replica()
    await stopped.data_keys.current(acme.name, SERVICE, "orders")
    acme.deaf.append(stopped)
    old = acme.organization()
    await acme.rotate()
    await acme.accept()
    await other.upkeep.tend(acme.organization())
    made = await stopped.data_keys.current(acme.name, SERVICE, "new")
    row = await other.store.data_key(made.id)
    assert row is not None
    assert row.kid == acme.kid(1)
    assert old.accepted is not None
    again = await stopped.rewrap.run_pass(old)
    assert "changed" in again.message
    assert set(await by_kid(other, acme)) == {acme.kid(1)}


async def test_a_replica_that_was_stopped_in_its_wrap_is_fenced(acme: World) -> None:
    stopped = await acme.replica()
    await stopped.access.require(acme.organization())
    old = acme.organization()
    assert old.accepted is not None
    made = await stopped.data_keys._wrapping.make(old, old.accepted, (acme.name, SERVICE, "orders"), 1)  # noqa: SLF001
    await acme.rotate()
    await acme.accept()
    await (await acme.replica()).upkeep.tend(acme.organization())
    written = await stopped.store.first_or_existing(made.row, Fence(old.uid, 1))  # type: ignore[union-attr]  # it was made
    assert isinstance(written, Fenced)


async def test_an_old_version_that_is_disabled_too_soon_is_named_and_the_rest_goes_on(acme: World) -> None:
    clock = Clock()
    replica = await acme.replica(clock=clock)
    rows = await written(replica, acme)
    await acme.rotate()
    await acme.accept()
    await acme.disable(0)
    fresh = await acme.replica(clock=clock)
    asked = parse(rows[0]).data_key_id
    assert (await problem_of(fresh.data_keys.by_id(acme.name, asked))).code == "RefusalBeingConfirmed"
    await acme.turn(clock, 1)
    problem = await problem_of(fresh.data_keys.by_id(acme.name, asked))
    assert (problem.kind, problem.code) == (Kind.DENIED, "OldVersionUnavailable")
    assert acme.kid(0) in problem.remedy
    await fresh.upkeep.tend(acme.organization())
    report = acme.status["dataKeys"]
    assert (report["rewrap"]["pending"], report["rewrap"]["failed"]) == (ROWS, ROWS)
    assert report["serving"]["state"] == "Serving"
    made = await fresh.data_keys.current(acme.name, SERVICE, "new")
    assert made.epoch == 1
    await acme.enable(0)
    await fresh.upkeep.tend(acme.organization())
    assert await by_kid(fresh, acme) == {acme.kid(): (ROWS + 1, 0)}
    assert await read_all(fresh, acme, rows) == expected()


async def test_a_former_vault_that_gives_no_answer_silences_no_call_to_the_one_in_force(acme: World) -> None:
    replica = await acme.replica()
    organization = acme.organization()
    accepted = organization.accepted
    assert accepted is not None
    assert accepted.canary is not None
    gone = f"https://gone-{acme.vault}.vault.azure.net/keys/k/{'1' * 32}"
    moved = replace(organization, earlier=(replace(accepted, kid=gone),))
    wrapped, algorithm = accepted.canary.wrapped, accepted.algorithm
    await acme.control.inject(kind="reset", host="gone-*")
    former = await replica.vaults.unwrap(moved, gone, algorithm, wrapped, purpose="rewrap")
    assert isinstance(former, NotDone)
    assert await replica.vaults.unwrap(moved, gone, algorithm, wrapped, purpose="rewrap") is former  # not asked again yet
    assert isinstance(await replica.vaults.unwrap(moved, accepted.kid, algorithm, wrapped, purpose="probe"), Unwrapped)


async def test_settings_that_are_accepted_during_a_turn_are_reported_at_once(acme: World) -> None:
    apply, again = acme.apply, asyncio.Event()

    async def accepting(organization: Organization, report: Mapping[str, Any]) -> None:
        if not again.is_set():
            again.set()
            await acme.accept(probe=30)  # the same key, so that nothing else makes a turn due
        await apply(organization, report)

    acme.apply = accepting  # type: ignore[method-assign]  # the operator, who acts meanwhile
    replica = await acme.replica(limits=Limits(tick=0.05, report_every=600))
    await replica.access.require(acme.organization())
    await acme.run(replica)

    async def reported() -> bool:
        return bool(acme.status.get("dataKeys", {}).get("revision") == 2)

    await eventually("a report under the second revision", reported)


async def test_a_data_key_in_memory_is_refused_by_its_own_version_while_another_is_in_force(acme: World) -> None:
    clock = Clock()
    replica = await acme.replica(clock=clock)
    rows = await written(replica, acme, 1)
    asked = parse(rows[0]).data_key_id
    await acme.rotate()
    await acme.accept()
    await acme.disable(0)
    assert (await replica.data_keys.by_id(acme.name, asked)).id == asked
    await acme.turn(clock, 61)
    assert (await replica.data_keys.by_id(acme.name, asked)).id == asked  # one refusal is not enough
    await acme.turn(clock, 1)
    assert (await problem_of(replica.data_keys.by_id(acme.name, asked))).code == "OldVersionUnavailable"
    assert len(replica.data_keys) == 0


async def test_back_to_an_older_version_after_a_restore_of_the_database(acme: World) -> None:
    replica = await acme.replica()
    rows = await written(replica, acme)
    async with replica.store.transaction() as connection:
        await connection.execute(text("CREATE TABLE backup AS SELECT * FROM data_key"))
    await acme.rotate()
    await acme.accept()
    await replica.upkeep.tend(acme.organization())
    async with replica.store.transaction() as connection:
        await connection.execute(text("DELETE FROM data_key"))
        await connection.execute(text("INSERT INTO data_key SELECT * FROM backup"))
        await connection.execute(text("UPDATE organization SET revision = 1, reported_at = NULL"))
    fresh = await acme.replica()
    assert await read_all(fresh, acme, rows) == expected()
    await fresh.upkeep.tend(acme.organization())
    # Backups of now need the old version again: the operator is told before the re-wrap takes it away.
    assert acme.status["dataKeys"]["byKid"] == [{"kid": acme.kid(0), "dataKeys": ROWS}]
    assert acme.status["dataKeys"]["rewrap"]["pending"] == ROWS
    await fresh.upkeep.tend(acme.organization())
    assert await by_kid(fresh, acme) == {acme.kid(): (ROWS, 0)}
    assert acme.status["dataKeys"]["byKid"] == [{"kid": acme.kid(), "dataKeys": ROWS}]
    events = [json.loads(line)["event"] async for line in fresh.journal.lines(acme.name)]
    assert events.count("DatabaseRestored") == 1


async def test_an_organization_that_brings_its_own_key_is_moved_to_it_and_gets_new_data_keys(world: World) -> None:
    world.accept_platform()
    replica = await world.replica()
    rows = await written(replica, world, 2)
    assert await by_kid(replica, world) == {PLATFORM_KEY: (2, 0)}
    await world.make_key()
    await world.accept()
    await replica.upkeep.tend(world.organization())
    assert await by_kid(replica, world) == {world.kid(): (2, 0)}
    assert await read_all(await world.replica(), world, rows) == expected(2)
    world.accept_platform()
    await replica.upkeep.tend(world.organization())
    await world.disable(0)
    assert await by_kid(replica, world) == {PLATFORM_KEY: (2, 0)}
    assert await read_all(await world.replica(), world, rows) == expected(2)


async def test_data_after_the_move_to_an_own_key_is_under_no_data_key_that_the_platforms_key_once_wrapped(world: World) -> None:
    world.accept_platform()
    platform = await world.replica()
    await written(platform, world, 1)
    await world.make_key()
    await world.accept()
    await platform.upkeep.tend(world.organization())  # the re-wrap has ended, and dropped the wraps by the platform's key
    own = await world.replica()
    assert (await own.data_keys.current(world.name, SERVICE, "p0")).epoch == 2
    await world.rotate()
    await world.accept()
    await own.upkeep.tend(world.organization())
    assert (await (await world.replica()).data_keys.current(world.name, SERVICE, "p0")).epoch == 2


async def test_the_record_tells_each_act_on_the_keys_with_azures_request_ids(acme: World) -> None:
    replica = await acme.replica()
    rows = await written(replica, acme, 1)
    await acme.rotate()
    await acme.accept()
    await replica.upkeep.tend(acme.organization())
    entries = [json.loads(line) async for line in replica.journal.lines(acme.name)]
    assert [one["event"] for one in entries] == [
        *("RecordStarted", "SettingsObserved", "DataKeyCreated", "KeyUsed", "SettingsObserved", "DataKeyRewrapped"),
    ]
    created, used, moved = entries[2], entries[3], entries[5]
    assert {one["object"]["name"] for one in (created, used, moved)} == {str(parse(rows[0]).data_key_id)}
    assert (moved["from"], moved["to"]) == (acme.kid(0), acme.kid(1))
    known = {one["request_id"] for one in await acme.control.requests()}
    ids = [one["azureRequestId"].split() for one in (created, used, moved)]
    assert [len(some) for some in ids] == [2, 1, 3]
    assert {one for some in ids for one in some} <= known
    assert not (await replica.journal.verify(acme.name)).findings


async def test_a_re_wrap_leaves_three_quarters_of_a_vaults_budget_to_callers(acme: World) -> None:
    rows = await written(await acme.replica(), acme)
    await acme.rotate()
    await acme.accept()
    replica = await acme.replica(rate=Rate(20, 10_000))  # 20 calls, and none more while this test runs
    assert await replica.access.admission.observe(acme.organization()) is None
    await acme.control.clear_requests()
    re_wrapping = asyncio.create_task(replica.rewrap.run_pass(acme.organization()))
    assert await acme.vault_calls("wrapkey", least=5) == 5
    assert await read_all(replica, acme, rows[:4]) == expected(4)
    assert await acme.vault_calls("wrapkey", least=10) == 10  # one of them is the look
    assert not re_wrapping.done()
    re_wrapping.cancel()
    await asyncio.gather(re_wrapping, return_exceptions=True)
    assert await read_all(await acme.replica(), acme, rows) == expected()
