"""Management locks: inherited from above, effective on the control plane only.

https://learn.microsoft.com/azure/azure-resource-manager/management/lock-resources
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox.azure.arm.authorization import at_or_above
from sandbox.azure.errors import ArmRefusedError


@dataclass(frozen=True)
class Lock:
    """One lock on one scope."""

    scope: str
    name: str
    level: str
    notes: str | None

    @property
    def id(self) -> str:
        """The ARM id."""
        return f"{self.scope}/providers/Microsoft.Authorization/locks/{self.name}"

    def shown(self) -> dict[str, Any]:
        """As ARM answers."""
        properties = {"level": self.level} | ({"notes": self.notes} if self.notes else {})
        return {"id": self.id, "name": self.name, "type": "Microsoft.Authorization/locks", "properties": properties}


class Locks:
    """All locks."""

    def __init__(self) -> None:
        self._all: dict[str, Lock] = {}

    def put(self, lock: Lock) -> bool:
        """Add or replace; True if it is new."""
        new = lock.id.lower() not in self._all
        self._all[lock.id.lower()] = lock
        return new

    def find(self, scope: str, name: str) -> Lock | None:
        """By scope and name."""
        return self._all.get(Lock(scope, name, "", None).id.lower())

    def remove(self, lock: Lock) -> None:
        """Lift it."""
        del self._all[lock.id.lower()]

    def at_or_above(self, scope: str) -> list[Lock]:
        """What holds for a resource."""
        return [one for one in self._all.values() if at_or_above(one.scope, scope)]

    def below(self, scope: str) -> list[Lock]:
        """What lies on the resources inside a scope."""
        return [one for one in self._all.values() if at_or_above(scope, one.scope)]

    def check(self, method: str, scope: str, action: str) -> None:
        """Raises ArmRefusedError 409 ScopeLocked if a lock forbids the write or the delete."""
        deleting = method == "DELETE"
        holding = [
            one for one in self.at_or_above(scope) if one.level == "ReadOnly" or (deleting and one.level == "CanNotDelete")
        ]
        if deleting:
            holding += [one for one in self.below(scope) if one not in holding]
        if not holding or (method == "POST" and action.lower().endswith("/read")):
            return
        named = ",".join(f"'{one.scope}'" for one in holding)
        raise ArmRefusedError(
            409,
            "ScopeLocked",
            f"The scope '{scope}' cannot perform {'delete' if deleting else 'write'} operation because following scope(s) are locked: "
            f"{named}. Please remove the lock and try again.",
        )
