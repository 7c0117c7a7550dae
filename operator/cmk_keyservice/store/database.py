"""The connection to PostgreSQL: time limits, and what its errors mean to a caller."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cmk_keyservice.problem import Kind, problem_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sqlalchemy import URL, Executable, Row

    from cmk_keyservice.problem import ProblemError

_UNDEFINED: Final = frozenset({"42P01", "42703", "3F000"})
"""Undefined table, column, schema. Source: PostgreSQL, appendix A."""
_REFUSED: Final = frozenset({"42501", "28000", "28P01", "25006"})
"""Insufficient privilege, invalid authorization, invalid password, read-only transaction."""


def address(url: str, driver: str = "postgresql+psycopg") -> URL:
    """The URL with the driver's name; raises ProblemError if it does not name a PostgreSQL database."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise problem_error(
            Kind.INVALID,
            "DatabaseAddressInvalid",
            "the database's URL is not one of PostgreSQL",
            "Give a URL of the form postgresql://user:password@host:5432/database.",
        )
    return parsed.set(drivername=driver)


@contextmanager
def answers() -> Iterator[None]:
    """Turn what PostgreSQL or the way to it fails with into a ProblemError; a message never quotes the statement's values."""
    try:
        yield
    except (exc.DataError, UnicodeEncodeError):
        raise problem_error(
            Kind.INVALID,
            "ValueNotStorable",
            "a name holds a character that PostgreSQL does not store, or a number is too large",
            "Use names without control characters.",
        ) from None  # the driver's text quotes values, here and below
    except exc.IntegrityError as failure:
        constraint = getattr(getattr(failure.orig, "diag", None), "constraint_name", None)
        raise RuntimeError(f"the constraint {constraint} refuses a row of the key service") from None
    except (exc.DBAPIError, exc.TimeoutError) as failure:
        raise _problem(failure) from None


def _problem(failure: BaseException | None) -> ProblemError:
    original = getattr(failure, "orig", None)
    state = getattr(original, "sqlstate", None) or ""
    said = f"PostgreSQL answered {state} ({type(original).__name__})"
    if state in _UNDEFINED:
        return problem_error(
            Kind.UNAVAILABLE,
            "DatabaseNotMigrated",
            f"the database lacks a table: {said}",
            "The provider must run `cmk-keyservice migrate` with this release.",
        )
    if state in _REFUSED:
        return problem_error(
            Kind.UNAVAILABLE,
            "DatabaseRefuses",
            f"the database refuses the key service: {said}",
            "The provider must check the user, its password and its rights, and that the URL names the primary server.",
        )
    return problem_error(
        Kind.UNAVAILABLE,
        "DatabaseUnavailable",
        said if state else "the database cannot be reached or does not answer in time",
        "Retry. If it lasts, the provider must check PostgreSQL and the way to it.",
    )


class Database:
    """A pool of connections; every statement ends in `timeout` seconds, and each failure is a ProblemError."""

    def __init__(self, url: URL, engine: AsyncEngine, timeout: float) -> None:
        self._url: Final = url
        self._engine: Final = engine
        self._timeout: Final = timeout
        self._abandoned: Final[set[asyncio.Task[list[Row[Any]]]]] = set()
        self._after: Final[dict[int, list[Callable[[], None]]]] = {}

    @classmethod
    async def open(cls, url: str, *, pool_size: int = 10, timeout: float = 5.0) -> Self:  # noqa: ASYNC109 - of statements
        """Make the pool; nothing is connected yet. Raises ProblemError if the URL is not one of PostgreSQL."""
        parsed = address(url)
        engine = create_async_engine(
            parsed,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout,
            pool_recycle=1800,
            hide_parameters=True,
            connect_args=connection_settings(timeout),
        )
        return cls(parsed, engine, timeout)

    async def close(self) -> None:
        """Close all connections."""
        if self._abandoned:
            await asyncio.wait(self._abandoned)
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(
        self, within: AsyncConnection | None = None, *, patience: float = 3.0
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block; the one of `within`, if given, which then commits later.

        It ends after `patience` times the time limit of a statement, whatever it waits for.
        """
        if within is not None:
            with answers():
                yield within
            return
        with answers():
            async with self._limit(patience), self._engine.begin() as connection:
                after = self._after[id(connection)] = []
                try:
                    yield connection
                finally:
                    del self._after[id(connection)]
        for act in after:
            act()

    def after_commit(self, connection: AsyncConnection, act: Callable[[], None]) -> None:
        """Do something when the transaction of this connection has committed, and never if it does not."""
        self._after[id(connection)].append(act)

    async def rows(self, statement: Executable, **values: object) -> list[Row[Any]]:
        """All rows of a statement that only reads; asked once more if the connection turns out to be dead."""
        asking = asyncio.create_task(self._read(statement, values))
        try:
            done, _ = await asyncio.wait({asking}, timeout=1.5 * self._timeout)
        except asyncio.CancelledError:
            self._abandon(asking)
            raise
        if not done:
            # A server that is frozen does not answer a cancellation either, which the driver waits for: nobody else has to.
            self._abandon(asking)
            raise _problem(None)
        with answers():
            return asking.result()

    async def row(self, statement: Executable, **values: object) -> Row[Any] | None:
        """The first row, if any."""
        return next(iter(await self.rows(statement, **values)), None)

    async def ping(self) -> None:
        """Raises ProblemError unless the database answers."""
        await self.rows(text("SELECT 1"))

    @asynccontextmanager
    async def _limit(self, patience: float) -> AsyncIterator[None]:
        """End a wait that no limit of the server ends, such as for a server that is frozen."""
        limit = asyncio.timeout(patience * self._timeout)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise  # of something else that the block waited for
            raise _problem(None) from None

    async def _read(self, statement: Executable, values: dict[str, object]) -> list[Row[Any]]:
        try:
            return await self._ask(statement, values)
        except exc.DBAPIError as failure:
            if not failure.connection_invalidated:
                raise
            return await self._ask(statement, values)

    def _abandon(self, asking: asyncio.Task[list[Row[Any]]]) -> None:
        asking.cancel()
        self._abandoned.add(asking)
        asking.add_done_callback(self._forget)

    def _forget(self, asking: asyncio.Task[list[Row[Any]]]) -> None:
        self._abandoned.discard(asking)
        if not asking.cancelled():
            asking.exception()  # read, so that nobody reports it as unread

    async def _ask(self, statement: Executable, values: dict[str, object]) -> list[Row[Any]]:
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            return list((await connection.execute(statement, values)).all())


def connection_settings(timeout: float) -> dict[str, Any]:
    """What libpq is told: a dead peer or a stuck statement ends within about `timeout` seconds."""
    milliseconds = int(timeout * 1000)
    limits = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
    return {
        "connect_timeout": max(2, int(timeout / 2)),  # libpq takes no less
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": milliseconds,
        "options": f"{limits} -c idle_in_transaction_session_timeout={12 * milliseconds}",
        "application_name": "cmk-keyservice",
    }
