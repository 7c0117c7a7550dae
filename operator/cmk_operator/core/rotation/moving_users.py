"""When a key's status counts its users anew: once no more of them come or go for a while; pure.

A key whose users move one after the other would otherwise be written for each of them. The longest wait grows while they keep moving.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cmk_operator.core.schedule import Backoff

if TYPE_CHECKING:
    from collections.abc import Hashable

QUIET: Final = Backoff(3.0, 24.0)
"""Seconds without another change after which users are counted; longer with each count of one run."""
LONGEST: Final = Backoff(30.0, 60.0)
"""Seconds after which they are counted although they still move."""


@dataclass(frozen=True, slots=True)
class MovingUsers:
    """Users of a key that have moved lately; times are seconds of one clock."""

    users: Hashable
    """As they were last seen."""
    moved_at: float
    since: float | None
    """Since when status does not say so; None when it does."""
    complete: bool = True
    """Whether all that name the key are on it; else more of them are on their way."""
    counts: int = 0
    """How often they were counted since they began to move."""

    def wait(self, now: float) -> float:
        """Seconds until they are to be counted."""
        if self.since is None:
            return float("inf")
        quiet = self.moved_at + QUIET.bound(self.counts + (1 if self.complete else 3))
        return max(0.0, min(quiet, self.since + LONGEST.bound(self.counts + 1)) - now)

    def counted(self) -> MovingUsers:
        """The same users, now that status tells of them."""
        return replace(self, since=None, counts=self.counts + 1)


def seen(held: MovingUsers | None, users: Hashable, now: float, *, complete: bool) -> MovingUsers:
    """Users that status does not tell of yet were seen, after those that were held."""
    if held is None or now - held.moved_at > LONGEST.longest:
        return MovingUsers(users, now, now, complete)
    since = held.since if held.since is not None else now
    moved_at = now if users != held.users else held.moved_at
    return replace(held, users=users, since=since, moved_at=moved_at, complete=complete)
