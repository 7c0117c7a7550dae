"""Delays the status of a key if only its users changed, until they stop changing.

Only pure counts wait, and that Azure's lists have been read for the first time. If a version gets its first user, loses its last
user, or becomes safe to disable at another time, the status is written at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.rotation.moving_users import MovingUsers, seen
from cmk_operator.reconcile.collaborators.cluster import WAKE_KEY_AFTER

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from cmk_operator.api.conditions import Condition
    from cmk_operator.api.customer_managed_key import CustomerManagedKeyStatus, VersionReport
    from cmk_operator.kubernetes.client import ObjectReference

AT_ONCE: Final = 0.0
NEVER: Final = float("inf")


class UserCounts:
    """The keys whose users changed recently; after a restart, the first count is written at once."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._moving: dict[ObjectReference, MovingUsers] = {}

    def __len__(self) -> int:
        """The number of keys in memory."""
        return len(self._moving)

    def hold(self, reference: ObjectReference, before: CustomerManagedKeyStatus, after: CustomerManagedKeyStatus) -> float:
        """Seconds for which writing `after` can wait: `AT_ONCE` if it must be written now, `NEVER` if it equals `before`."""
        held = self._moving.get(reference)
        if before == after:
            if held is not None and held.since is not None:
                del self._moving[reference]
            return NEVER
        if _apart_from_users(before) != _apart_from_users(after):
            return AT_ONCE
        complete = sum(one.in_use_by_count for one in after.versions) >= after.used_by_count
        self._moving[reference] = moving = seen(held, _users(after), self._clock(), complete=complete)
        return moving.wait(self._clock())

    def written(self, reference: ObjectReference) -> None:
        """Note that the status of a key, with its current users, was written."""
        held = self._moving.get(reference)
        if held is not None:
            self._moving[reference] = held.counted()

    def due(self, reference: ObjectReference) -> float:
        """Seconds after which to enqueue the key so that one pass counts all users that have changed so far."""
        held = self._moving.get(reference)
        return WAKE_KEY_AFTER if held is None or held.since is None else held.wait(self._clock()) + WAKE_KEY_AFTER

    def forget(self, reference: ObjectReference) -> None:
        """Drop a key that no longer exists."""
        self._moving.pop(reference, None)


def _users(status: CustomerManagedKeyStatus) -> Hashable:
    versions = tuple((one.version, one.in_use_by, one.in_use_by_count) for one in status.versions)
    listed = [(one.status, one.reason, one.message) for one in status.conditions if one.type == ConditionType.USERS_KNOWN]
    return status.used_by, status.used_by_count, versions, status.without_manifest, status.without_manifest_count, *listed


def _apart_from_users(status: CustomerManagedKeyStatus) -> CustomerManagedKeyStatus:
    return status.model_copy(
        update={
            "used_by": (),
            "used_by_count": 0,
            "without_manifest": (),
            "without_manifest_count": 0,
            "versions": tuple(_version(one, status.active_version) for one in status.versions),
            "conditions": tuple(_condition(one) for one in status.conditions if not _is_first_list(one)),
        }
    )


def _version(one: VersionReport, active: str | None) -> VersionReport:
    """Keep whether an old version has any users; drop how many and which."""
    used = int(one.in_use_by_count > 0 and one.version != active)
    return one.model_copy(update={"in_use_by": (), "in_use_by_count": used})


def _is_first_list(one: Condition) -> bool:
    """Whether a condition only says whether Azure's lists have been read yet."""
    return one.type == ConditionType.USERS_KNOWN and one.reason in {Reason.LISTED, Reason.NOT_LISTED_YET}


def _condition(one: Condition) -> Condition:
    """Drop the message of `RotationCurrent`, which names and counts the resources on older versions."""
    return one.model_copy(update={"message": ""}) if one.type == ConditionType.ROTATION_CURRENT else one
