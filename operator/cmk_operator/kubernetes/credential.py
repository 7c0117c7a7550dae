"""The credential for the API server, renewed while any number of requests use it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cmk_operator.kubernetes.exec_plugin import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MARGIN: Final = 60.0
"""Seconds before it expires at which a credential is renewed; a fifth of its life if that is shorter."""
PAUSE: Final = 5.0
"""Least seconds between two renewals, whatever expiry a plugin reports, and after a failed renewal."""
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Proof:
    """The Authorization header, and the client certificate if there is one; either may be absent."""

    header: str | None = None
    certificate: str | None = None

    def __repr__(self) -> str:
        """Hide the secret values."""
        return "Proof(…)"


@dataclass(frozen=True, slots=True)
class Fresh:
    """A proof, with the seconds for which it is valid and the seconds after which it should be read again."""

    proof: Proof
    good_for: float = float("inf")
    read_again_after: float = float("inf")


class Credential:
    """One proof for all connections. It is renewed before it expires, and once when the API server refuses it."""

    def __init__(self, fresh: Fresh, renew: Callable[[], Awaitable[Fresh]] | None = None) -> None:
        self._renew = renew
        self._attempt: asyncio.Task[None] | None = None
        self._refused_at = float("-inf")
        self._take(fresh)

    @classmethod
    def bearer(cls, token: str) -> Credential:
        """A token that is never renewed."""
        return cls(Fresh(Proof(f"Bearer {token}")))

    async def proof(self) -> Proof:
        """The current proof. Callers wait for a renewal only if the proof has expired."""
        now = time.monotonic()
        if self._renew is not None and now >= self._renew_at:
            attempt = self._begin(self._renew)
            if now >= self._ends_at:
                await asyncio.shield(attempt)
        return self._proof

    async def replaced(self, refused: Proof) -> bool:
        """Renew the proof that the API server has just refused; returns whether there is another one now."""
        if self._renew is not None and self._proof == refused:
            now = time.monotonic()
            if self._attempt is None and now < self._refused_at + PAUSE:
                return False
            self._refused_at = now
            await asyncio.shield(self._begin(self._renew))
        return self._proof != refused

    def _begin(self, renew: Callable[[], Awaitable[Fresh]]) -> asyncio.Task[None]:
        if self._attempt is None:
            # In a context of its own: the end of the first caller's task family must not cancel what other callers await.
            loop = asyncio.get_running_loop()
            self._attempt = loop.create_task(self._try(renew), name="credential", context=contextvars.Context())
        return self._attempt

    async def _try(self, renew: Callable[[], Awaitable[Fresh]]) -> None:
        try:
            self._take(await renew())
        except ConfigurationError as problem:
            # Keep the old proof: the API server decides whether it is still valid.
            self._renew_at = time.monotonic() + PAUSE
            _LOG.warning("the credential for the Kubernetes API could not be renewed", extra={"error": str(problem)})
        finally:
            self._attempt = None

    def _take(self, fresh: Fresh) -> None:
        now = time.monotonic()
        self._proof = fresh.proof
        self._ends_at = now + max(fresh.good_for, PAUSE)
        early = fresh.good_for - MARGIN if fresh.good_for > 5 * MARGIN else fresh.good_for * 0.8
        self._renew_at = now + max(min(early, fresh.read_again_after), PAUSE)
