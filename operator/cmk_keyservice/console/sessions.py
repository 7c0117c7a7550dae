"""Sessions of browsers, sign-ins that have begun, and how often somebody may try. All in the memory of the one replica."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_keyservice.console.accounts import Account
    from cmk_keyservice.console.people import Person

SESSION_SECONDS: Final = 8 * 3600.0
"""Longest life of a session: groups and subjects are as old as the sign-in."""
IDLE_SECONDS: Final = 1800.0
BREAK_GLASS_SECONDS: Final = 1800.0
"""Longest life of a session of a break-glass account, and its longest pause: nobody else can end such a session for its person."""
BREAK_GLASS_IDLE_SECONDS: Final = 600.0
PENDING_SECONDS: Final = 600.0
MOST_SESSIONS: Final = 10_000
MOST_PENDING: Final = 5


@dataclass(frozen=True)
class Pending:
    """A sign-in or a consent that has begun in this session; `organization` is empty for the sign-in to the page itself."""

    purpose: str
    state: str
    nonce: str
    verifier: str
    began: float
    organization: str = ""
    tenant: str = ""


@dataclass
class Session:
    """One browser. `tenants`: for each organization (namespace/name), the tenants that the person has proven to belong to."""

    id: str
    csrf: str
    began: float
    used: float
    person: Person | None = None
    account: Account | None = None
    """The break-glass account that has signed in, as its entry was then."""
    pending: list[Pending] = field(default_factory=list)
    tenants: dict[str, set[str]] = field(default_factory=dict)
    told: str = ""


class Sessions:
    """All sessions. An id is random, and a new one is given at each sign-in, so that nobody can plant one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def new(self) -> Session:
        """A session of nobody yet. The one that is longest unused makes room."""
        now = self._clock()
        for old in [one for one in self._sessions.values() if self._over(one, now)]:
            del self._sessions[old.id]
        if len(self._sessions) >= MOST_SESSIONS:
            # Those of nobody go first: whoever opens the sign-in page again and again signs nobody out.
            del self._sessions[min(self._sessions.values(), key=lambda one: (one.person is not None, one.used)).id]
        made = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), now, now)
        self._sessions[made.id] = made
        return made

    def find(self, session_id: str) -> Session | None:
        """The session of a cookie, if it is not over."""
        found = self._sessions.get(session_id)
        if found is None or self._over(found, self._clock()):
            return None
        found.used = self._clock()
        return found

    def signed_in(self, before: Session, person: Person, account: Account | None = None) -> Session:
        """The session of somebody who has just signed in: a new one, and the old one is over."""
        self.end(before)
        made = self.new()
        made.person, made.account = person, account
        return made

    def end(self, session: Session) -> None:
        """Let a session be over."""
        self._sessions.pop(session.id, None)

    def begin(self, session: Session, purpose: str, organization: str = "", tenant: str = "") -> Pending:
        """Begin a sign-in or a consent, of which only this session can be told the end."""
        made = Pending(
            purpose,
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(48),
            self._clock(),
            organization,
            tenant,
        )
        session.pending = [*session.pending, made][-MOST_PENDING:]
        return made

    def take(self, session: Session, purpose: str, state: str) -> Pending | None:
        """What this state began, once, in this session, for this purpose, within `PENDING_SECONDS`."""
        for one in session.pending:
            if one.purpose == purpose and hmac.compare_digest(one.state.encode(), state.encode(errors="replace")):
                session.pending.remove(one)
                return one if self._clock() - one.began <= PENDING_SECONDS else None
        return None

    @staticmethod
    def _over(session: Session, now: float) -> bool:
        longest, idle = SESSION_SECONDS, IDLE_SECONDS
        if session.account is not None:
            longest, idle = BREAK_GLASS_SECONDS, BREAK_GLASS_IDLE_SECONDS
        return now - session.began > longest or now - session.used > idle


class RateLimit:
    """At most `most` acts of each key in any `seconds`; keys are as many as `kept`, and the oldest go first."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float], kept: int = 10_000) -> None:
        self._most, self._seconds, self._clock, self._kept = most, seconds, clock, kept
        self._acts: dict[str, list[float]] = {}

    def allows(self, key: str) -> bool:
        """Whether this act is one of those; it counts if it is."""
        now = self._clock()
        recent = [at for at in self._acts.pop(key, ()) if now - at < self._seconds]
        allowed = len(recent) < self._most
        self._acts[key] = [*recent, now] if allowed else recent
        while len(self._acts) > self._kept:
            del self._acts[next(iter(self._acts))]
        return allowed
