"""What Azure shows on a key, whether a manifest names it or not: the ground on which a version is called safe to disable; pure.

The operator lists its kinds in every subscription of a tenant's scopes. What could not be listed is a `Fault`, with the reason and
who must act, and while there is one nothing is proven (docs/decisions/0100).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.identifiers.key_uri import KeyUri

_ONE_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class AzureUser:
    """A resource that Azure shows on a version of a key."""

    id: ArmId
    key: KeyUri
    """Without its version."""
    version: str
    """Empty if Azure does not report it."""


@dataclass(frozen=True, slots=True)
class BackupUse:
    """A resource that has left a version of a key, and restores its own backups with it."""

    id: ArmId
    key: KeyUri
    """Without its version."""
    version: str
    retention: timedelta | None
    """How long it keeps them; None if that cannot be read."""
    why_unknown: str = ""
    """Why the retention cannot be read, and who must act; empty if it is known."""


@dataclass(frozen=True, slots=True)
class FoundUse:
    """What some lists of Azure show, and what could not be listed."""

    users: tuple[AzureUser, ...] = ()
    backups: tuple[BackupUse, ...] = ()
    unlisted: tuple[Fault, ...] = ()

    @staticmethod
    def of_all(found: Iterable[FoundUse]) -> FoundUse:
        """All of them together; each once."""
        parts = tuple(found)
        return FoundUse(
            tuple(dict.fromkeys(one for part in parts for one in part.users)),
            tuple(dict.fromkeys(one for part in parts for one in part.backups)),
            tuple({one.message: one for part in parts for one in part.unlisted}.values()),
        )


@dataclass(frozen=True, slots=True)
class UseInAzure:
    """What Azure shows on one key, and since when that is known."""

    found: FoundUse = field(default_factory=FoundUse)
    listed_at: datetime | None = None
    """When the oldest of the lists was requested; None: no list has been read lately."""
    parts_at: datetime | None = None
    """When the oldest read of what no list shows was requested; None: it has not been read lately, because nothing waited for it."""

    @property
    def is_complete(self) -> bool:
        """Whether every list could be read."""
        return self.listed_at is not None and not self.found.unlisted

    def is_newer_than(self, moment: datetime) -> bool:
        """Whether every list and every part was requested after a moment, which status holds in whole seconds."""
        return all(one is not None and one >= moment + _ONE_SECOND for one in (self.listed_at, self.parts_at))

    def with_unlisted(self, faults: Iterable[Fault]) -> UseInAzure:
        """The same, with more that cannot be listed."""
        return replace(self, found=replace(self.found, unlisted=(*self.found.unlisted, *faults)))

    def backups_of(self, version: str) -> tuple[BackupUse, ...]:
        """What restores its own backups with a version that it has left."""
        return tuple(one for one in self.found.backups if one.version == version)

    @property
    def why_unknown(self) -> str:
        """Why the users are not known, and who must act; empty if they are."""
        unlisted = self.found.unlisted
        if unlisted:
            more = f" (and {len(unlisted) - 1} more)" if len(unlisted) > 1 else ""
            return f"{unlisted[0].message}{more}"
        return "" if self.listed_at is not None else "the lists of the tenant's subscriptions have not been read lately"
