"""What SQL does by itself: checks the keys of its databases, and follows new versions of a key with automatic rotation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.sql.model import Server

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.schedule import Schedule
    from sandbox.azure.sql.model import Database, Protection, ServerKey, Servers
    from sandbox.azure.sql.tde import TransparentDataEncryption
    from sandbox.azure.timings import Timings


class Background:
    """Regular work on virtual time."""

    def __init__(
        self, servers: Servers, tde: TransparentDataEncryption, schedule: Schedule, clock: Clock, timings: Timings
    ) -> None:
        self._servers = servers
        self._tde = tde
        self._schedule = schedule
        self._clock = clock
        self._timings = timings

    def watch(self, database: Database) -> None:
        """Look at the database's key at regular intervals for as long as the database exists."""

        async def look(moment: float) -> None:
            if database.server.databases.get(database.name.lower()) is database:
                await self._tde.check(database, moment)
                self._schedule.at(self._next(moment, self._timings.sql_key_check_seconds), look)

        self._schedule.at(self._clock.now() + self._timings.sql_key_check_seconds, look)

    def follow(self, owner: Server | Database) -> None:
        """Look for newer versions of its key once a day from now on, for as long as this protection lasts."""
        followed = owner.protection if isinstance(owner, Server) else owner.own
        if followed is None or not followed.auto_rotation:
            return

        async def look(moment: float) -> None:
            if (owner.protection if isinstance(owner, Server) else owner.own) is followed:
                await self._rotate(owner, followed, moment)
                self._schedule.at(self._next(moment, self._timings.sql_rotation_check_seconds), look)

        self._schedule.at(self._clock.now() + self._timings.sql_rotation_check_seconds, look)

    def _next(self, moment: float, interval: float) -> float:
        """Looks that a leap of the clock has jumped over would all see the same: one is enough."""
        return max(moment + max(interval, 1), self._clock.now())

    async def _rotate(self, owner: Server | Database, followed: Protection, moment: float) -> None:
        name = owner.name if isinstance(owner, Server) else owner.server.name
        if followed.key is None:
            return
        newer = await self._tde.newer(owner.who, followed.key, name, moment)
        if newer is None or not await self._taken_by_partners(owner, newer):
            return
        newer = replace(newer, auto_rotated=True)
        try:
            if isinstance(owner, Server):
                await self._tde.move_server(owner, newer)
            else:
                await self._tde.move([owner], owner.who, newer, name)
        except ArmRefusedError:
            return
        owner.keys[newer.name.lower()] = newer
        followed.key = newer

    async def _taken_by_partners(self, owner: Server | Database, newer: ServerKey) -> bool:
        """A geo-secondary needs the version first: it takes it if it follows the same key itself, else nothing is rotated."""
        for partner in self._servers.partners_of(owner) if isinstance(owner, Server) else ():
            if newer.thumbprint in {one.thumbprint for one in partner.keys.values()}:
                continue
            own = partner.protection
            if own.key is None or not own.auto_rotation or not own.key.location.same_key(newer.location):
                return False
            try:
                taken = await self._tde.accepted(partner.who, newer.location, partner.name)
            except ArmRefusedError:
                return False
            partner.keys[taken.name.lower()] = replace(taken, auto_rotated=True)
        return True
