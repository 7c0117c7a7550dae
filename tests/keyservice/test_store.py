"""The queries, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from cmk_keyservice.problem import Kind, ProblemError
from cmk_keyservice.store.rows import DataKeyRow, Fence, Fenced, Notice, Observed, Rewrapped, Word, Write
from cmk_keyservice.store.store import Store
from tests.keyservice.rows import FENCE, NEW, OLD, WAITING, new_data_key, stored

if TYPE_CHECKING:
    from sandbox.postgresql import Postgresql


def _known(uid: str, revision: int) -> Observed:
    return Observed(Fence(uid, revision), "shop")


def _rewrapped(row: DataKeyRow, kid: str = NEW) -> Rewrapped:
    return Rewrapped(row.id, row.row_version, kid, "RSA-OAEP-256", secrets.token_bytes(300))


async def test_what_was_stored_is_found_by_id_and_as_the_newest_epoch(store: Store) -> None:
    first, second = await stored(store), await stored(store, epoch=2)
    found = await store.data_key(first.id)
    assert found is not None
    assert replace(found, age=first.age) == first
    assert found.age > first.age
    newest = await store.newest("acme", "shop/orders", "orders")
    assert newest is not None
    assert newest.id == second.id
    of_first = await store.of_epoch("acme", "shop/orders", "orders", 1)
    assert of_first is not None
    assert of_first.id == first.id
    assert await store.newest("acme", "shop/other", "orders") is None
    assert 0 <= newest.age < 60


async def test_of_many_first_data_keys_one_wins_and_all_get_it(store: Store) -> None:
    await store.observe("acme", FENCE, "shop")
    rows = await asyncio.gather(*(store.first_or_existing(new_data_key(), FENCE) for _ in range(20)))
    assert len({row.id for row in rows if isinstance(row, DataKeyRow)}) == 1
    assert [(count.kid, count.data_keys) for count in await store.by_kid("acme")] == [(OLD, 1)]


async def test_a_writer_with_older_settings_is_fenced(store: Store) -> None:
    row = await stored(store)
    assert await store.observe("acme", Fence("uid-1", 2), "shop") == _known("uid-1", 2)
    known = Fenced(Fence("uid-1", 2))
    assert await store.first_or_existing(new_data_key(epoch=2), FENCE) == known
    assert await store.compare_and_set("acme", _rewrapped(row), FENCE) is Write.FENCED
    assert await store.compare_and_set("acme", _rewrapped(row), Fence("uid-1", 2)) is Write.WRITTEN
    assert await store.first_or_existing(new_data_key(organization="other"), FENCE) == Fenced(None)


async def test_the_revision_of_one_object_never_goes_back_and_a_new_object_replaces_it(store: Store) -> None:
    assert await store.observe("acme", Fence("uid-1", 5), "shop") == _known("uid-1", 5)
    assert await store.observe("acme", Fence("uid-1", 4), "shop") == _known("uid-1", 5)
    assert await store.observe("acme", Fence("uid-2", 1), "shop") == _known("uid-2", 1)


async def test_an_organization_with_data_keys_stays_in_its_namespace(store: Store) -> None:
    assert await store.observe("acme", FENCE, "shop") == Observed(FENCE, "shop")
    foreign = Fence("uid-2", 9)
    assert await store.observe("acme", foreign, "evil") == Observed(foreign, "evil")
    await store.observe("acme", FENCE, "shop")
    await store.first_or_existing(new_data_key(), FENCE)
    assert await store.observe("acme", foreign, "evil") == Observed(FENCE, "shop")
    assert await store.first_or_existing(new_data_key(epoch=2), foreign) == Fenced(FENCE)
    assert await store.observe("acme", foreign, "shop") == Observed(foreign, "shop")


async def test_observing_waits_for_writes_under_older_settings(store: Store) -> None:
    await store.observe("acme", FENCE, "shop")
    async with store.transaction() as connection:
        await store.first_or_existing(new_data_key(), FENCE, within=connection)
        observing = asyncio.create_task(store.observe("acme", Fence("uid-1", 2), "shop"))
        while (await store.rows(WAITING))[0][0] == 0:
            assert not observing.done()
    await observing
    assert [count.data_keys for count in await store.by_kid("acme")] == [1]


async def test_another_namespace_waits_for_the_first_data_key_and_then_gets_nothing(store: Store) -> None:
    await store.observe("acme", FENCE, "shop")
    async with store.transaction() as connection:
        await store.first_or_existing(new_data_key(), FENCE, within=connection)
        observing = asyncio.create_task(store.observe("acme", Fence("uid-2", 1), "evil"))
        while (await store.rows(WAITING))[0][0] == 0:
            assert not observing.done()
    assert await observing == Observed(FENCE, "shop")


async def test_kid_and_edek_change_together_and_the_previous_ones_are_kept(store: Store) -> None:
    row = await stored(store)
    change = _rewrapped(row)
    assert await store.compare_and_set("acme", change, FENCE) is Write.WRITTEN
    now = await store.data_key(row.id)
    assert now is not None
    assert (now.kid, now.edek, now.row_version) == (NEW, change.edek, 2)
    assert (now.previous_kid, now.previous_algorithm, now.previous_edek) == (OLD, row.algorithm, row.edek)
    assert await store.compare_and_set("acme", change, FENCE) is Write.STALE
    assert await store.compare_and_set("other", _rewrapped(now), FENCE) is Write.FENCED
    await store.observe("other", FENCE, "shop")
    assert await store.compare_and_set("other", _rewrapped(now), FENCE) is Write.STALE
    assert [(count.kid, count.data_keys, count.previous) for count in await store.by_kid("acme")] == [(OLD, 0, 1), (NEW, 1, 0)]
    assert await store.drop_previous("acme", OLD) == 1
    assert [(count.kid, count.data_keys, count.previous) for count in await store.by_kid("acme")] == [(NEW, 1, 0)]


async def test_ten_thousand_rows_change_in_one_transaction(store: Store, database_url: str) -> None:
    await store.observe("acme", FENCE, "shop")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO data_key (id, organization, service, purpose, epoch, suite, kid, algorithm, edek, context_digest)"
            " SELECT gen_random_uuid(), 'acme', 'shop/orders', 'orders', n, 1, %s, 'RSA-OAEP-256',"
            " decode(repeat(md5(n::text), 19), 'hex'), sha256(n::text::bytea) FROM generate_series(1, 10000) AS n",
            [OLD],
        )
    async with store.rewrap_batch("acme", NEW, 10_000) as batch:
        written = await store.compare_and_set_all(
            "acme", [_rewrapped(row) for row in batch.rows], FENCE, within=batch.connection
        )
    assert isinstance(written, frozenset)
    assert len(written) == 10_000
    assert [(count.kid, count.data_keys, count.previous) for count in await store.by_kid("acme")] == [
        (OLD, 0, 10_000),
        (NEW, 10_000, 0),
    ]


async def test_two_replicas_never_get_the_same_row_to_rewrap(store: Store) -> None:
    for epoch in range(1, 6):
        await stored(store, epoch=epoch)
    async with store.rewrap_batch("acme", NEW, 3) as one, store.rewrap_batch("acme", NEW, 3) as other:
        assert len(one.rows) == 3
        assert len(other.rows) == 2
        assert not {row.id for row in one.rows} & {row.id for row in other.rows}


async def test_a_batch_that_fails_changes_nothing(store: Store) -> None:
    row = await stored(store)

    async def written_and_then_failed() -> None:
        async with store.rewrap_batch("acme", NEW, 3) as batch:
            await store.compare_and_set_all("acme", [_rewrapped(row)], FENCE, within=batch.connection)
            raise KeyError("the vault's answer")

    with pytest.raises(KeyError):
        await written_and_then_failed()
    found = await store.data_key(row.id)
    assert found is not None
    assert found.kid == OLD


async def test_a_proof_counts_from_when_the_vault_was_asked(store: Store) -> None:
    assert await store.read_proof("acme") is None
    assert await store.write_proof("acme", FENCE, OLD, Word.PROVEN, "", 30.0)
    proof = await store.read_proof("acme")
    assert proof is not None
    assert proof.age is not None
    assert 30 <= proof.age < 90
    assert (proof.uid, proof.revision, proof.kid, proof.verdict, proof.refused_age) == ("uid-1", 1, OLD, Word.PROVEN, None)


async def test_an_outage_keeps_the_proof_and_a_refusal_its_beginning(store: Store) -> None:
    await store.write_proof("acme", FENCE, OLD, Word.PROVEN, "", 300.0)
    await store.write_proof("acme", FENCE, OLD, Word.UNAVAILABLE, "timeout", 200.0)
    proof = await store.read_proof("acme")
    assert proof is not None
    assert proof.age is not None
    assert proof.age >= 300
    assert (proof.verdict, proof.detail) == (Word.UNAVAILABLE, "timeout")
    await store.write_proof("acme", FENCE, OLD, Word.REFUSED, "403", 100.0)
    await store.write_proof("acme", FENCE, OLD, Word.REFUSED, "403", 50.0)
    proof = await store.read_proof("acme")
    assert proof is not None
    assert proof.refused_age is not None
    assert proof.refused_age >= 100
    await store.write_proof("acme", FENCE, OLD, Word.PROVEN, "", 0.0)
    proof = await store.read_proof("acme")
    assert proof is not None
    assert proof.refused_age is None


async def test_the_answer_to_an_older_question_does_not_replace_that_of_a_newer_one(store: Store) -> None:
    await store.write_proof("acme", FENCE, OLD, Word.REFUSED, "403", 10.0)
    assert not await store.write_proof("acme", FENCE, OLD, Word.PROVEN, "", 60.0)
    proof = await store.read_proof("acme")
    assert proof is not None
    assert proof.verdict is Word.REFUSED


async def test_a_proof_of_other_settings_is_not_carried_over(store: Store) -> None:
    await store.write_proof("acme", FENCE, OLD, Word.PROVEN, "", 20.0)
    await store.write_proof("acme", Fence("uid-1", 2), NEW, Word.UNAVAILABLE, "", 10.0)
    proof = await store.read_proof("acme")
    assert proof is not None
    assert (proof.revision, proof.kid, proof.age) == (2, NEW, None)


async def test_access_is_kept_for_each_version_with_its_newest_credentials(store: Store) -> None:
    access = {"method": "Registration", "clientId": "a"}
    await store.write_access("acme", FENCE, OLD, access, b"first")
    await store.write_access("acme", FENCE, OLD, access, b"second")
    await store.write_access("acme", Fence("uid-1", 2), OLD, access | {"clientId": "b"}, None)
    await store.write_access("acme", Fence("uid-2", 1), NEW, access, b"other")
    found = await store.access_for("acme", OLD)
    assert [(row.revision, row.access["clientId"], row.credentials) for row in found] == [(2, "b", None), (1, "a", b"second")]
    assert b"second" not in repr(found).encode()


async def test_a_lock_is_held_by_one_replica_and_free_afterwards(store: Store, database_url: str) -> None:
    other = await Store.open(database_url)
    async with store.try_lock("probe acme") as held, other.try_lock("probe acme") as missed, other.try_lock("probe b") as free:
        assert held is not None
        assert await held.still_held()
        assert missed is None
        assert free is not None
        async with store.try_lock("probe acme") as again:
            assert again is None
    async with other.try_lock("probe acme") as taken:
        assert taken is not None
    await other.close()


async def test_a_lock_whose_connection_ended_is_known_to_be_lost(store: Store, database_url: str) -> None:
    async with store.try_lock("probe acme") as held:
        assert held is not None
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%advisory%' AND pid <> pg_backend_pid()"
            )
        assert not await held.still_held()
        other = await Store.open(database_url)
        async with other.try_lock("probe acme") as taken:
            assert taken is not None
        await other.close()


async def test_a_notice_reaches_every_listener_and_a_new_connection_says_that_anything_may_have_changed(
    store: Store, database_url: str
) -> None:
    listener = store.listen()
    assert await anext(listener) is None
    other = await Store.open(database_url)
    await other.notify("access", "acme")
    assert await anext(listener) == Notice("access", "acme")
    await other.write_proof("acme", FENCE, OLD, Word.PROVEN, "", 0.0)
    assert await anext(listener) == Notice("proof", "acme")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    assert await anext(listener) is None
    await listener.aclose()  # type: ignore[attr-defined]  # an async generator
    await other.close()


async def test_a_database_that_is_older_than_its_own_report_was_restored(store: Store) -> None:
    assert await store.note_report("acme") is None
    await store.observe("acme", FENCE, "shop")
    reported = await store.note_report("acme")
    assert reported is not None
    assert not await store.note_restore("acme", reported)
    later = reported + timedelta(hours=1)
    assert await store.note_restore("acme", later)
    assert not await store.note_restore("acme", later)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800"], ids=["a NUL", "half a surrogate pair"])
async def test_a_name_that_postgresql_does_not_store_is_the_callers_problem(store: Store, name: str) -> None:
    await store.observe("acme", FENCE, "shop")
    with pytest.raises(ProblemError) as refused:
        await store.first_or_existing(new_data_key(service=name), FENCE)
    assert refused.value.problem.kind is Kind.INVALID


async def test_a_database_without_tables_is_told_to_be_migrated(postgres: Postgresql) -> None:
    url = postgres.create("empty")
    store = await Store.open(url)
    for asking in (store.check(), store.read_proof("acme")):
        with pytest.raises(ProblemError) as refused:
            await asking
        assert refused.value.problem.code == "DatabaseNotMigrated"
        assert "cmk-keyservice migrate" in refused.value.problem.remedy
    await store.close()
    postgres.drop("empty")


@pytest.mark.parametrize("url", ["", "mysql://h/d", "nonsense", "postgresql"])
async def test_an_address_that_is_not_of_postgresql_is_refused(url: str) -> None:
    with pytest.raises(ProblemError) as refused:
        await Store.open(url)
    assert refused.value.problem.code == "DatabaseAddressInvalid"
