"""Which kinds are watched now, from the requests and answers of kopf's session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmk_operator.kubernetes.client import collection_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    import aiohttp


@dataclass(slots=True)
class _Kind:
    watch: aiohttp.ClientResponse | None = None
    running: int = 0
    """Requests that have no answer yet."""
    active_at: float = float("-inf")
    """When a request last started or was answered, by the loop's clock."""
    refusals: int = 0
    """Requests that were answered with 403 since the last watch was opened."""


class OpenWatches:
    """Observes the lists and watches of one session; `observe` is the session's middleware."""

    def __init__(self, plurals: Iterable[str]) -> None:
        self._kinds = {plural: _Kind() for plural in plurals}
        self._by_path = {collection_path(plural): kind for plural, kind in self._kinds.items()}

    async def observe(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Send a request on, and record its outcome."""
        kind = self._by_path.get(request.url.path)
        if kind is None:
            return await handler(request)
        loop = asyncio.get_running_loop()
        kind.running += 1
        kind.active_at = loop.time()
        try:
            response = await handler(request)
        finally:
            kind.running -= 1
            kind.active_at = loop.time()
        if response.status == 403:
            kind.refusals += 1
        elif response.status == 200 and request.url.query.get("watch") == "true":
            kind.watch, kind.refusals = response, 0
        return response

    def is_open(self, plural: str) -> bool:
        """Whether a watch of the kind is open."""
        watch = self._kinds[plural].watch
        return watch is not None and not watch.closed

    def was_open(self, plural: str) -> bool:
        """Whether a watch of the kind is open or was."""
        return self._kinds[plural].watch is not None

    def refusals(self, plural: str) -> int:
        """How many requests for the kind were answered with 403 since it was last watched."""
        return self._kinds[plural].refusals

    def quiet_for(self, plural: str) -> float:
        """Seconds since the last request or answer for the kind; 0 while an answer is pending."""
        kind = self._kinds[plural]
        return 0.0 if kind.running else asyncio.get_running_loop().time() - kind.active_at
