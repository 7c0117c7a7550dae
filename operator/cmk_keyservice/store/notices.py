"""LISTEN and NOTIFY, and locks between replicas; nothing that must hold depends on a notice that arrives."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import psycopg
from sqlalchemy import text

from cmk_keyservice.problem import Kind, problem_error
from cmk_keyservice.store.database import Database, connection_settings
from cmk_keyservice.store.rows import Notice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg import AsyncConnection
    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

CHANNEL: Final = "cmk_keyservice"
_QUIET: Final = 10.0
"""Seconds without a notice after which the connection is tried."""
_PAUSE: Final = 1.0
"""Seconds between two attempts to connect again."""
_NOTIFY: Final = text("SELECT pg_notify(:channel, :payload)")


class Lock:
    """A lock that this process holds for as long as the connection lives that took it."""

    def __init__(self, name: str, connection: AsyncConnection[Any]) -> None:
        self.name: Final = name
        self._connection: Final = connection

    async def still_held(self) -> bool:
        """Whether the connection still answers; after False another replica may hold the lock."""
        try:
            await self._connection.execute("SELECT 1")
        except (psycopg.Error, OSError):
            return False
        return True

    async def release(self) -> None:
        """Give the lock back; a connection that does not answer has lost it already."""
        try:
            await self._connection.execute("SELECT pg_advisory_unlock(%s)", [_number(self.name)])
        except (psycopg.Error, OSError):
            await self._connection.close()


class Notices(Database):
    """Notices to all replicas, and locks of one of them; both need connections that no pooler shares (PgBouncer: session)."""

    def __init__(self, url: URL, engine: AsyncEngine, timeout: float) -> None:
        super().__init__(url, engine, timeout)
        self._locks: AsyncConnection[Any] | None = None
        self._held: Final[set[str]] = set()
        self._taking: Final = asyncio.Lock()

    async def close(self) -> None:
        """Close all connections, which gives back every lock."""
        if self._locks is not None:
            await self._locks.close()
        await super().close()

    async def notify(self, topic: str, organization: str) -> None:
        """Tell all replicas, this one too, that something of this kind changed for an organization."""
        async with self.transaction() as connection:
            await connection.execute(_NOTIFY, {"channel": CHANNEL, "payload": f"{topic} {organization}"})

    async def listen(self) -> AsyncIterator[Notice | None]:
        """Notices as they come; None after each new connection, when anything may have changed. Ends only by `aclose`."""
        while True:
            with suppress(psycopg.Error, OSError):
                async with await self._session() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    yield None
                    while True:
                        async for notice in connection.notifies(timeout=_QUIET):
                            topic, _, organization = notice.payload.partition(" ")
                            yield Notice(topic, organization)
                        await connection.execute("SELECT 1")
            await asyncio.sleep(_PAUSE)

    @asynccontextmanager
    async def try_lock(self, name: str) -> AsyncIterator[Lock | None]:
        """Take a lock for the block, or None if any replica, or this process, holds it; never waits for its end."""
        lock = await self._take(name)
        try:
            yield lock
        finally:
            if lock is not None:
                self._held.discard(name)
                await lock.release()

    async def _take(self, name: str) -> Lock | None:
        async with self._taking:
            if name in self._held:
                return None
            try:
                if self._locks is None or self._locks.closed:
                    self._locks = await self._session()
                try:
                    cursor = await self._locks.execute("SELECT pg_try_advisory_lock(%s)", [_number(name)])
                    row = await cursor.fetchone()
                except BaseException:
                    await self._locks.close()  # it may hold the lock by now
                    raise
            except (psycopg.Error, OSError):
                raise problem_error(
                    Kind.UNAVAILABLE,
                    "DatabaseUnavailable",
                    "the database cannot be reached or does not answer in time",
                    "Retry. If it lasts, the provider must check PostgreSQL and the way to it.",
                ) from None
            if row is None or not row[0]:
                return None
            self._held.add(name)
            return Lock(name, self._locks)

    async def _session(self) -> AsyncConnection[Any]:
        """A connection of its own, outside the pool."""
        url = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        return await psycopg.AsyncConnection.connect(url, autocommit=True, **connection_settings(self._timeout))


def _number(name: str) -> int:
    """The 64-bit number by which PostgreSQL knows the lock."""
    return int.from_bytes(sha256(f"cmk-keyservice lock {name}".encode()).digest()[:8], signed=True)
