"""Decides whether somebody else keeps changing a resource back, and when the operator may write to it again; pure.

A change back is a change that is due again although the operator had put exactly the same in place: the same generation of the
manifest, key, version and identity. So a rotation, an approval or a new manifest is never one. From the third within an hour on,
the resource is contested: each further one doubles the pause before the next write. It ends when the resource has stayed in place
for an hour. No pause is final, because a pause leaves the resource without its key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cmk_operator.core.encryption.protection import KeyChoice

CONTESTED_FROM: Final = 3
"""Changes back within `WITHIN` from which a resource is contested: one or two may be a person's."""
WITHIN: Final = timedelta(hours=1)
"""Also how long a contested resource must stay in place until it is no longer contested."""
FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(hours=1)
KEPT: Final = 10
"""Times of changes back in status; enough to reach the longest pause."""


@dataclass(frozen=True, slots=True)
class Contention:
    """What the operator last began to put in place, since when it is there, and when somebody changed it back, newest first."""

    wanted: str
    in_place_since: datetime | None = None
    changed_back: tuple[datetime, ...] = ()

    @property
    def is_contested(self) -> bool:
        """Whether somebody else keeps changing the resource back."""
        return len(self.changed_back) >= CONTESTED_FROM


def wanted_of(want: KeyChoice, generation: int) -> str:
    """What the resource must be, as one short word for comparison."""
    parts = (
        str(generation),
        str(want.key_uri),
        want.probed_version,
        want.managed_identity.text.lower(),
        want.application_client_id,
    )
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def change_due(before: Contention | None, wanted: str, now: datetime) -> Contention:
    """The state once a change to `wanted` is due and may be made."""
    if before is None or before.wanted != wanted:
        return Contention(wanted)
    if before.in_place_since is None:
        return before
    lasts = before.is_contested and now - before.in_place_since < WITHIN
    kept = before.changed_back if lasts else tuple(at for at in before.changed_back if now - at < WITHIN)
    return Contention(wanted, None, (now, *kept)[:KEPT])


def in_place(before: Contention | None, wanted: str, now: datetime) -> Contention | None:
    """The state once nothing is left to change; None if the operator has not changed the resource yet."""
    if before is None:
        return None
    if before.wanted != wanted:
        return Contention(wanted, now)
    if before.in_place_since is None:
        return replace(before, in_place_since=now)
    if before.is_contested and now - before.in_place_since >= WITHIN:
        return replace(before, changed_back=())
    return before


def paused_until(state: Contention, now: datetime) -> datetime | None:
    """The time before which nothing is written; None if a write may be sent now."""
    if not state.is_contested or state.changed_back[0] > now:
        return None
    doubled: timedelta = FIRST_PAUSE * 2 ** (len(state.changed_back) - CONTESTED_FROM)
    until = state.changed_back[0] + min(doubled, LONGEST_PAUSE)
    return until if now < until else None
