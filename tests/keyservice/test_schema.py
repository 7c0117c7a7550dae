"""The migrations make the tables that the queries know, once, and in turns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from cmk_keyservice.audit.counters import Counters
from cmk_keyservice.audit.journal import Journal
from cmk_keyservice.audit.record import KEY_SERVICE, Event, Record
from cmk_keyservice.problem import ProblemError
from cmk_keyservice.store.database import address
from cmk_keyservice.store.rows import Rewrapped, Word, Write
from cmk_keyservice.store.schema import migrate
from cmk_keyservice.store.store import Store
from cmk_keyservice.store.tables import METADATA
from tests.keyservice.rows import FENCE, NEW, OLD, stored

if TYPE_CHECKING:
    from sandbox.postgresql import Postgresql

_DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "application-level-encryption.md"


def test_the_migrations_make_the_tables_that_the_queries_know(database_url: str) -> None:
    engine = create_engine(address(database_url))
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    engine.dispose()
    assert differences == []


def test_two_migrations_take_turns_and_a_second_one_changes_nothing(postgres: Postgresql) -> None:
    url = postgres.create("fresh")
    with ThreadPoolExecutor(2) as both:
        applied = sorted(both.map(migrate, [url, url]))
    assert applied == [[], ["m0001"]]
    postgres.drop("fresh")


async def test_a_database_ahead_of_this_release_is_served_and_one_behind_is_not(store: Store, database_url: str) -> None:
    await store.check()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'm9999'")
        await store.check()
        assert migrate(database_url) == []
        connection.execute("DELETE FROM alembic_version")
    with pytest.raises(ProblemError) as refused:
        await store.check()
    assert refused.value.problem.code == "DatabaseNotMigrated"


async def test_the_rights_of_the_documentation_are_enough_to_serve_and_not_to_change_the_record(
    database_url: str, postgres: Postgresql
) -> None:
    """The statements are those of the documentation."""
    statements = _DOCUMENT.read_text().partition("```sql\n")[2].partition("```")[0].replace("cmk_keyservice", "limited")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE limited LOGIN PASSWORD 'limited'")
        connection.execute(statements.encode())
    limited = database_url.replace(f"cmk:{postgres.password}@", "limited:limited@")
    store = await Store.open(limited)
    try:
        await store.check()
        row = await stored(store)
        new = Rewrapped(row.id, row.row_version, NEW, row.algorithm, row.edek)
        assert await store.compare_and_set("acme", new, FENCE) is Write.WRITTEN
        await store.write_access("acme", FENCE, OLD, {}, b"sealed")
        await store.write_proof("acme", FENCE, NEW, Word.PROVEN, "", 0.0)
        await store.note_report("acme")
        counters = Counters(store, Journal(store))
        counters.count("acme", "shop/orders", "encrypt")
        await counters.flush()
        await Journal(store).append("acme", [Record(Event.KEY_USED, KEY_SERVICE, "unwrap")])
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("UPDATE counter SET minute = '2026-01-02T03:04Z'")
        await counters.record()
        assert (await Journal(store).verify("acme")).entries == 3
        with psycopg.connect(limited) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("ALTER TABLE audit DISABLE TRIGGER ALL")
    finally:
        await store.close()
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("DROP OWNED BY limited")
            connection.execute("DROP ROLE limited")
