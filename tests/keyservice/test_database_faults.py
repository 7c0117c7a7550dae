"""A database that is gone, does not answer, or comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from cmk_keyservice.audit.journal import Journal
from cmk_keyservice.audit.record import KEY_SERVICE, Event, Record
from cmk_keyservice.problem import Kind, ProblemError
from cmk_keyservice.store.rows import DataKeyRow
from cmk_keyservice.store.schema import migrate
from cmk_keyservice.store.store import Store
from sandbox import postgresql
from sandbox.kubernetes.processes import free_ports
from tests.keyservice.rows import FENCE, new_data_key, stored

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.postgresql import Postgresql

_USED = Record(Event.KEY_USED, KEY_SERVICE, "unwrap")


async def test_a_server_that_was_killed_and_restarted_has_everything_that_was_answered(tmp_path: Path) -> None:
    server = postgresql.start(tmp_path / "server")
    try:
        url = server.create("keyservice")
        migrate(url)
        store = await Store.open(url)
        row, journal = await stored(store), Journal(store)
        await journal.append("acme", [_USED])
        server.kill()
        for asking in (
            store.data_key(row.id),
            store.first_or_existing(new_data_key(2), FENCE),
            journal.append("acme", [_USED]),
        ):
            with pytest.raises(ProblemError) as refused:
                await asking
            assert (refused.value.problem.kind, refused.value.problem.retryable) == (Kind.UNAVAILABLE, True)
        server = server.restarted()
        found = await store.data_key(row.id)
        assert found is not None
        assert found.edek == row.edek
        assert isinstance(await store.first_or_existing(new_data_key(2), FENCE), DataKeyRow)
        await journal.append("acme", [_USED])
        verdict = await journal.verify("acme")
        assert (verdict.whole, verdict.entries) == (True, 3)
        await store.close()
    finally:
        server.stop()


async def test_a_read_survives_connections_that_ended(store: Store, database_url: str) -> None:
    row = await stored(store)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await store.data_key(row.id) is not None


async def test_a_server_that_is_frozen_is_an_outage_and_not_a_hang(
    store: Store, database_url: str, postgres: Postgresql
) -> None:
    impatient = await Store.open(database_url, timeout=0.5)
    await impatient.ping()
    with postgres.frozen(), pytest.raises(ProblemError) as refused:
        await impatient.ping()
    assert (refused.value.problem.kind, refused.value.problem.code) == (Kind.UNAVAILABLE, "DatabaseUnavailable")
    await impatient.ping()
    await impatient.close()


async def test_a_statement_that_waits_for_a_lock_ends(store: Store, database_url: str) -> None:
    impatient = await Store.open(database_url, timeout=0.5)
    await stored(store)
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE data_key")
        with pytest.raises(ProblemError) as refused:
            await impatient.newest("acme", "shop/orders", "orders")
    assert refused.value.problem.kind is Kind.UNAVAILABLE
    await impatient.close()


async def test_a_database_that_cannot_be_reached_names_neither_user_nor_password(postgres: Postgresql) -> None:
    (port,) = free_ports(1)
    urls = {
        f"postgresql://cmk:hunter2@127.0.0.1:{port}/keyservice": "DatabaseUnavailable",
        postgres.url().replace(postgres.password, "hunter2"): "DatabaseUnavailable",
        postgres.url("absent"): "DatabaseUnavailable",
    }
    for url, code in urls.items():
        store = await Store.open(url, timeout=2)
        with pytest.raises(ProblemError) as refused:
            await store.ping()
        assert refused.value.problem.code == code
        assert "hunter2" not in f"{refused.value} {refused.value.problem!r} {refused.value.__cause__!r}"
        with pytest.raises(ProblemError):
            async with store.try_lock("probe"):
                pass
        await store.close()
