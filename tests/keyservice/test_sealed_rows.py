"""Rows of a database that somebody changed, restored, or sealed by another version of the internal key ring."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from cmk_keyservice.crypto import ciphertext, key_ring
from cmk_keyservice.crypto.context import credentials_context
from cmk_keyservice.crypto.edek import open_edek, seal_edek
from cmk_keyservice.crypto.key_ring import KeyRing, RingName
from cmk_keyservice.crypto.suites import open_, seal
from cmk_keyservice.problem import ProblemError
from cmk_keyservice.store.rows import DataKeyRow, Fence, Rewrapped, Write
from cmk_keyservice.store.sealing import check_ring, ring_keys_in_use, seal_again
from cmk_keyservice.store.store import Store
from tests.keyservice.first_data_keys import mint, opened
from tests.keyservice.rows import FENCE, NEW, OLD, stored

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.postgresql import Postgresql

_DOCUMENT = key_ring.new_key_ring()
_RING = KeyRing.parse(RingName.INTERNAL, _DOCUMENT)


async def _row(store: Store, epoch: int = 1) -> DataKeyRow:
    found = await store.of_epoch("acme", "shop/orders", "orders", epoch)
    assert found is not None
    return found


def _change(url: str, statement: str, *values: object) -> None:
    """What somebody does who may write to the database and has no key."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement, values)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kid", NEW),
        ("kid", "https://attacker.vault.azure.net/keys/k/00000000000000000000000000000001"),
        ("epoch", 2),
        ("organization", "evil"),
        ("purpose", "other"),
        ("service", "evil/service"),
        ("suite", 2),
        ("edek", b"\0" * 100),
        ("id", "00112233-4455-6677-8899-aabbccddeeff"),
    ],
    ids=["another version", "foreign kid", "epoch", "organization", "purpose", "service", "suite", "edek", "id"],
)
async def test_a_row_that_somebody_changed_is_refused(store: Store, database_url: str, column: str, value: object) -> None:
    await store.observe("acme", FENCE, "shop")
    await mint(store, _RING)
    opened(await _row(store), _RING)
    _change(database_url, f"UPDATE data_key SET {column} = %s", value)  # noqa: S608 - of the table above
    with psycopg.connect(database_url) as connection:
        (id_,) = connection.execute("SELECT id FROM data_key").fetchone() or (None,)
    row = await store.data_key(id_)
    assert row is not None
    with pytest.raises(ProblemError) as refused:
        opened(row, _RING)
    assert refused.value.problem.code in {"StoredValueAltered", "DataKeyAltered", "UnknownSuite"}
    assert not refused.value.problem.retryable


async def test_the_edek_of_another_row_is_refused(store: Store, database_url: str) -> None:
    await store.observe("acme", FENCE, "shop")
    await mint(store, _RING)
    other = await stored(store, epoch=2)
    _change(database_url, "UPDATE data_key SET edek = (SELECT edek FROM data_key WHERE epoch = 1) WHERE id = %s", other.id)
    with pytest.raises(ProblemError) as refused:
        opened(await _row(store, 2), _RING)
    assert refused.value.problem.code == "StoredValueAltered"


async def test_fifty_first_data_keys_from_two_processes_are_one_row_and_all_of_them_open(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    await store.observe("acme", FENCE, "shop")
    ring_file = tmp_path / "ring.json"
    ring_file.write_bytes(_DOCUMENT)
    command = [sys.executable, "-m", "tests.keyservice.first_data_keys", database_url, str(ring_file)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    replicas = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: ASYNC220
        for _ in range(2)
    ]
    for replica in replicas:
        assert replica.stdout is not None
        assert replica.stdout.readline() == "ready\n"
    for replica in replicas:
        assert replica.stdin is not None
        replica.stdin.write("go\n")
        replica.stdin.flush()
    lines = [line.split() for replica in replicas for line in replica.communicate()[0].splitlines()]
    assert len(lines) == 50
    assert len({id_ for id_, _ in lines}) == 1
    assert [count.data_keys for count in await store.by_kid("acme")] == [1]
    key = opened(await _row(store), _RING)
    assert {open_(key, ciphertext.parse(bytes.fromhex(sealed)), b"") for _, sealed in lines} == {b"first"}


async def test_the_ring_of_another_database_is_refused_before_anything_is_served(store: Store) -> None:
    await check_ring(store, _RING)
    await store.observe("acme", FENCE, "shop")
    await mint(store, _RING)
    await check_ring(store, _RING)
    other = KeyRing.parse(RingName.INTERNAL, key_ring.new_key_ring())
    with pytest.raises(ProblemError) as refused:
        await check_ring(store, other)
    problem = refused.value.problem
    assert problem.code == "InternalKeyUnavailable"
    assert f"sealed by key {_RING.primary_id}, the ring holds only {other.primary_id}" in problem.detail


async def test_after_a_rotation_of_the_ring_everything_is_sealed_again_and_the_old_key_can_go(store: Store) -> None:
    await store.observe("acme", FENCE, "shop")
    key = await mint(store, _RING)
    row = await _row(store)
    again = Rewrapped(row.id, row.row_version, NEW, row.algorithm, _resealed(row, NEW))
    assert await store.compare_and_set("acme", again, FENCE) is Write.WRITTEN
    secret = _RING.encrypt(b"client secret", credentials_context("acme", FENCE.uid, FENCE.revision, OLD))
    await store.write_access("acme", FENCE, OLD, {}, secret)
    added = key_ring.with_new_key(RingName.INTERNAL, _DOCUMENT)
    (new_id,) = KeyRing.parse(RingName.INTERNAL, added).key_ids - _RING.key_ids
    rotated = key_ring.with_primary(RingName.INTERNAL, added, new_id)
    assert await ring_keys_in_use(store) == {_RING.primary_id: 3}
    ring = KeyRing.parse(RingName.INTERNAL, rotated)
    assert await seal_again(store, ring) == 2
    assert await seal_again(store, ring) == 0
    assert await ring_keys_in_use(store) == {new_id: 3}
    last = KeyRing.parse(RingName.INTERNAL, key_ring.without_key(RingName.INTERNAL, rotated, _RING.primary_id))
    await check_ring(store, last)
    row = await _row(store)
    assert opened(row, last).material == key.material
    assert row.previous_edek is not None
    (access,) = await store.access_for("acme", OLD)
    assert access.credentials is not None
    assert last.decrypt(access.credentials, credentials_context("acme", FENCE.uid, FENCE.revision, OLD)) == b"client secret"


def _resealed(row: DataKeyRow, kid: str) -> bytes:
    """What a re-wrap writes, without the vault."""
    return seal_edek(_RING, open_edek(_RING, row.edek, "acme", row.id, row.kid, row.epoch), "acme", row.id, kid, row.epoch)


async def test_a_database_of_an_hour_ago_opens_its_rows_and_says_that_it_is_old(
    store: Store, database_url: str, postgres: Postgresql
) -> None:
    await store.observe("acme", FENCE, "shop")
    old = seal(await mint(store, _RING), b"old data", b"")
    row = await _row(store)
    await store.note_report("acme")
    await store.close()  # nobody may be connected to a database that is copied
    backup = postgres.create("backup", database_url.rpartition("/")[2])

    now = await Store.open(database_url)
    later = Fence("uid-1", 2)
    await now.observe("acme", later, "shop")
    again = Rewrapped(row.id, row.row_version, NEW, row.algorithm, _resealed(row, NEW))
    assert await now.compare_and_set("acme", again, later) is Write.WRITTEN
    lost = await stored(now, epoch=2, fence=later)
    _change(database_url, "UPDATE organization SET reported_at = reported_at + interval '1 hour'")
    with psycopg.connect(database_url) as connection:
        (reported,) = connection.execute("SELECT reported_at FROM organization").fetchone() or (None,)
    await now.close()

    restored = await Store.open(backup)
    assert await restored.note_restore("acme", reported)
    assert (await restored.by_kid("acme"))[0].kid == OLD
    assert open_(opened(await _row(restored), _RING), ciphertext.parse(old), b"") == b"old data"
    assert await restored.data_key(lost.id) is None
    await restored.observe("acme", later, "shop")
    async with restored.rewrap_batch("acme", NEW, 10) as batch:
        assert [one.id for one in batch.rows] == [row.id]
    assert (await stored(restored, epoch=2, fence=later)).id != lost.id
    await restored.close()
    postgres.drop("backup")
