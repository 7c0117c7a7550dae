"""Reads the operator's audit record from its ConfigMaps, once for everybody who looks at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from cmk_keyservice.console.record import Snapshot, snapshot_of
from cmk_operator.core.audit.layout import HEAD_NAME, NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_operator.kubernetes.client import KubernetesClient

FRESH_SECONDS: Final = 5.0
"""How old what is shown may be: so nobody can make the console read a hundred ConfigMaps at each click."""
TRIES: Final = 3


class Record:
    """The record in one namespace. It is only read, ConfigMap by ConfigMap: the console may list none."""

    def __init__(self, client: KubernetesClient, namespace: str, clock: Callable[[], float]) -> None:
        self._client = client
        self._path = f"/api/v1/namespaces/{quote(namespace)}/configmaps"
        self._clock = clock
        self._reading: asyncio.Future[Snapshot] | None = None
        self._began = float("-inf")

    async def read(self) -> Snapshot:
        """The record as it was at most `FRESH_SECONDS` ago. Raises KubernetesError."""
        reading = self._reading
        if reading is None or self._clock() - self._began > FRESH_SECONDS or _failed(reading):
            self._began = self._clock()
            reading = self._reading = asyncio.ensure_future(self._read())
        return await asyncio.shield(reading)

    async def _read(self) -> Snapshot:
        """Read until nobody has written meanwhile: half of a move between two ConfigMaps would look like a removal."""
        found, settled = Snapshot(), False
        for _ in range(TRIES):
            before = await self._get(HEAD_NAME)
            bodies = await asyncio.gather(*(self._get(name) for name in NAMES[1:]))
            head = await self._get(HEAD_NAME)
            there = [body for body in (head, *bodies) if body is not None]
            found = await asyncio.to_thread(snapshot_of, there)
            settled = _version(before) == _version(head)
            if found.intact and settled:
                break
        # Of a record that is written all the time, a flaw is not known.
        return found if settled else replace(found, intact=True)

    async def _get(self, name: str) -> dict[str, Any] | None:
        return await self._client.find(f"{self._path}/{quote(name)}")


def _failed(reading: asyncio.Future[Snapshot]) -> bool:
    return reading.done() and (reading.cancelled() or reading.exception() is not None)


def _version(body: dict[str, Any] | None) -> str:
    return str(body["metadata"]["resourceVersion"]) if body is not None else ""
