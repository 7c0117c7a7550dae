"""One probe per key per interval, whatever uses it: concurrent askers share a visit and a young enough result."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cmk_operator.azure.key_vault import probe_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.access import KeyProbe
    from cmk_operator.core.key_uri import KeyUri


@dataclass(frozen=True, slots=True)
class ProbedKey:
    """A key as one identity reaches it: the unit that is probed."""

    chain: IdentityChain
    customer_tenant_id: str
    key_uri: KeyUri


@dataclass(slots=True)
class _Visits:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    at: float = float("-inf")
    last: KeyProbe | None = None


class KeyProber:
    """Visits vaults, at most `concurrency` at a time; `monotonic` is the clock in seconds by which a visit grows old."""

    def __init__(
        self,
        session: AzureSession,
        clock: Callable[[], datetime],
        concurrency: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._clock = clock
        self._monotonic = monotonic
        self._slots = asyncio.Semaphore(concurrency)
        self._visits: dict[ProbedKey, _Visits] = {}

    async def probe(self, key: ProbedKey, versions_in_use: frozenset[str], max_age: float) -> KeyProbe:
        """A probe at most `max_age` seconds old that covers the wanted version and all of `versions_in_use`."""
        visits = self._visits.setdefault(key, _Visits())
        async with visits.lock:
            if visits.last is not None and self._monotonic() - visits.at <= max_age and _covers(visits.last, versions_in_use):
                return visits.last
            async with self._slots:
                visits.last = await probe_key(
                    self._session, key.chain, key.customer_tenant_id, key.key_uri, versions_in_use, self._clock()
                )
            visits.at = self._monotonic()
            return visits.last

    def age(self, key: ProbedKey) -> float:
        """Seconds since the last visit; infinite before the first."""
        visits = self._visits.get(key)
        return self._monotonic() - visits.at if visits is not None else float("inf")


def _covers(probe: KeyProbe, versions: frozenset[str]) -> bool:
    wanted = {probe.wanted.attributes.version} if probe.wanted.attributes is not None else set()
    return versions <= (wanted | set(probe.in_use))
