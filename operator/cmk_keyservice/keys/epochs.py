"""Pure: when new data gets a new data key. Data under the older ones stays as it is and stays readable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cmk_keyservice.vaults.accepted import PLATFORM_KEY, Accepted

EPOCH_DAYS = 90.0


class NewEpoch(StrEnum):
    """Why new data gets a new data key."""

    FIRST = "First"
    AGE = "Age"
    OWN_KEY = "OwnKey"
    """The newest data key was once wrapped by the platform's key, under which backups of it still are."""


@dataclass(frozen=True, slots=True)
class NewestKey:
    """The newest data key of a service and purpose; `age_days` by the database's clock."""

    epoch: int
    kid: str
    age_days: float
    retired: bool = False
    """Whether the re-wrap took it from the platform's key to the organization's own."""


def new_epoch(newest: NewestKey | None, accepted: Accepted, epoch_days: float = EPOCH_DAYS) -> NewEpoch | None:
    """Whether new data gets a new data key, and why; None: it gets the newest one."""
    if newest is None:
        return NewEpoch.FIRST
    if not accepted.by_platform and (newest.kid == PLATFORM_KEY or newest.retired):
        return NewEpoch.OWN_KEY
    return NewEpoch.AGE if newest.age_days >= epoch_days else None
