"""Decides when a key's status counts its users again: once they have stopped changing for a while; pure.

Otherwise a key whose users move one after another would be written for each of them. The longest wait grows while they keep moving.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cmk_operator.core.schedule import Backoff

if TYPE_CHECKING:
    from collections.abc import Hashable

QUIET: Final = Backoff(3.0, 24.0)
"""Seconds without a change after which users are counted; longer after each count of one run."""
LONGEST: Final = Backoff(30.0, 60.0)
"""Seconds after which users are counted even if they still change."""


@dataclass(frozen=True, slots=True)
class MovingUsers:
    """The users of a key that changed recently; times are seconds of one clock."""

    users: Hashable
    """The users at the last observation."""
    moved_at: float
    since: float | None
    """Since when status is outdated; None if it is current."""
    complete: bool = True
    """Whether every resource that names the key is on it; if not, more changes are expected."""
    counts: int = 0
    """The number of counts since the users began to change."""

    def wait(self, now: float) -> float:
        """Seconds until the users must be counted."""
        if self.since is None:
            return float("inf")
        quiet = self.moved_at + QUIET.bound(self.counts + (1 if self.complete else 3))
        return max(0.0, min(quiet, self.since + LONGEST.bound(self.counts + 1)) - now)

    def counted(self) -> MovingUsers:
        """The same users, after status was written with them."""
        return replace(self, since=None, counts=self.counts + 1)


def seen(held: MovingUsers | None, users: Hashable, now: float, *, complete: bool) -> MovingUsers:
    """Add an observation of users that status does not show yet to the one in `held`."""
    # While status is outdated, the time counts on, however late this observation is.
    if held is None or (held.since is None and now - held.moved_at > LONGEST.longest):
        return MovingUsers(users, now, now, complete)
    since = held.since if held.since is not None else now
    moved_at = now if users != held.users else held.moved_at
    return replace(held, users=users, since=since, moved_at=moved_at, complete=complete)
