"""Signing in with a break-glass account: how often it may be tried, and from where.

A stranger must neither guess a password nor lock an account out. So each browser that has signed in once keeps a device cookie, which
gives it attempts of its own; what strangers use up are the attempts of unknown browsers. Source: OWASP, "Slow Down Online Guessing
Attacks with Device Cookies".
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cmk_keyservice.console.accounts import ACCOUNT_NAME
from cmk_keyservice.console.sessions import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_keyservice.console.accounts import Account, Accounts

ATTEMPTS: Final = (5, 600.0)
"""Attempts on one account from one network address, or from one known browser, in so many seconds."""
ATTEMPTS_OF_STRANGERS: Final = (30, 600.0)
"""Attempts on one account from all browsers that have not signed in before."""
MOST_WAITING: Final = 20
"""Attempts of unknown browsers that wait for one that is being verified: each takes a processor and 64 MiB for a while."""
DEVICE_SECONDS: Final = 400 * 24 * 3600
"""As long as browsers keep a cookie (RFC 6265bis)."""


class Refused(Enum):
    """Why an attempt does not sign in."""

    WRONG = "The account or the password is wrong."
    TOO_MANY = "There were too many attempts. Try again in ten minutes, or at once in a browser that has signed in with this account before."


@dataclass(frozen=True)
class Opened:
    """A sign-in; `device` is the cookie for the next one."""

    account: Account
    device: str


class _Limits:
    """The limits of one class of names. Names that do not exist are counted apart, so that they never push out one that does."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._of_place, self._of_strangers = RateLimit(*ATTEMPTS, clock), RateLimit(*ATTEMPTS_OF_STRANGERS, clock)

    def allow(self, name: str, place: str, *, known: bool) -> bool:
        """Whether the attempt may be made; it counts if it is."""
        return self._of_place.allows(f"{name} {place}") and (known or self._of_strangers.allows(name))


class BreakGlass:
    """The sign-in with accounts of the Secret; `clock` is in seconds."""

    def __init__(self, accounts: Accounts, clock: Callable[[], float]) -> None:
        self._accounts = accounts
        self._existing, self._missing = _Limits(clock), _Limits(clock)
        self._strangers, self._known = asyncio.Semaphore(1), asyncio.Semaphore(1)
        self._waiting = 0

    async def sign_in(self, name: str, password: str, address: str, device: str) -> Opened | Refused:
        """Verify a password, in the same time whether or not the account exists. Raises OSError if the Secret cannot be read."""
        if ACCOUNT_NAME.fullmatch(name) is None:
            return Refused.WRONG  # Nobody can have such an account, and everybody can know that.
        account = await self._accounts.find(name)
        known = account is not None and _is_device_of(account, device)
        limits = self._existing if account is not None else self._missing
        place = device if known else address
        if not limits.allow(name, place, known=known):
            return Refused.TOO_MANY
        if known:
            async with self._known:
                verified = await self._accounts.verified(name, password)
        elif self._waiting >= MOST_WAITING:
            return Refused.TOO_MANY
        else:
            self._waiting += 1
            try:
                async with self._strangers:
                    verified = await self._accounts.verified(name, password)
            finally:
                self._waiting -= 1
        return Opened(verified, new_device(verified)) if verified is not None else Refused.WRONG

    async def is_known(self, name: str, device: str) -> bool:
        """Whether a browser has signed in with this account before. Raises OSError."""
        account = await self._accounts.find(name)
        return account is not None and _is_device_of(account, device)


def new_device(account: Account) -> str:
    """A device cookie. It is good until the account gets another password, and signs nobody in by itself."""
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_signature(account, nonce)}"


def _is_device_of(account: Account, device: str) -> bool:
    nonce, _, signature = device.partition(".")
    return hmac.compare_digest(signature.encode(errors="replace"), _signature(account, nonce).encode())


def _signature(account: Account, nonce: str) -> str:
    """The hash in the Secret is random and known to nobody else, so it is the key; it outlives a restart of the console."""
    return hmac.new(account.hash.encode(), f"device {account.name} {nonce}".encode(errors="replace"), sha256).hexdigest()
