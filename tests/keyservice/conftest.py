"""A real PostgreSQL server for each test process, and a database of its own for each test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from cmk_keyservice.store.schema import migrate
from cmk_keyservice.store.store import Store
from sandbox import postgresql
from sandbox.kubernetes.cache import UnavailableProgramError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sandbox.postgresql import Postgresql

_TEMPLATE = "template_keyservice"
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgresql]:
    """The server of this test process, with the database that the others are copies of."""
    try:
        server = postgresql.start(tmp_path_factory.mktemp("postgresql") / "server")
    except UnavailableProgramError as missing:
        pytest.fail(str(missing))
    try:
        migrate(server.create(_TEMPLATE))
        yield server
    finally:
        server.stop()


@pytest.fixture
def database_url(postgres: Postgresql) -> Iterator[str]:
    """The URL of a new database with all tables."""
    name = f"keyservice_{next(_NUMBERS)}"
    yield postgres.create(name, _TEMPLATE)
    postgres.drop(name)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """The store on a new database."""
    opened = await Store.open(database_url)
    yield opened
    await opened.close()
