"""Who may do what, where: role assignments, evaluated as Azure does, and effective only after propagation."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sandbox.azure.arm.roles import BY_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.azure.arm.roles import RoleDefinition
    from sandbox.azure.clock import Clock
    from sandbox.azure.timings import Timings


@dataclass(frozen=True)
class RoleAssignment:
    """One grant; `created` and `withdrawn` are virtual times."""

    name: str
    scope: str
    role_id: str
    principal_id: str
    principal_type: str
    created_by: str
    created: float
    withdrawn: float | None = None
    description: str | None = None

    @property
    def id(self) -> str:
        """The ARM id of the assignment."""
        return f"{self.scope}/providers/Microsoft.Authorization/roleAssignments/{self.name}"


@lru_cache(maxsize=16_384)
def covers(pattern: str, action: str) -> bool:
    """Whether an action pattern with `*` covers an action; both in any case.

    A whole segment `*` may also stand for none: Managed Identity Operator's `userAssignedIdentities/*/assign/action` is what
    grants `userAssignedIdentities/assign/action`.
    """
    return _covers(pattern, action) or ("/*/" in pattern and _covers(pattern.replace("/*/", "/"), action))


def _covers(pattern: str, action: str) -> bool:
    prefix, *rest = pattern.lower().split("*")
    text = action.lower()
    if not rest:
        return text == prefix
    if not text.startswith(prefix):
        return False
    text = text[len(prefix) :]
    for middle in rest[:-1]:
        position = text.find(middle)
        if position < 0:
            return False
        text = text[position + len(middle) :]
    return text.endswith(rest[-1])


def at_or_above(scope: str, resource: str) -> bool:
    """Whether `scope` is the resource or one of its parents, segment by segment."""
    above, below = scope.lower().rstrip("/"), resource.lower().rstrip("/")
    return below == above or below.startswith(above + "/")


def role_allows(role: RoleDefinition, action: str, *, data: bool) -> bool:
    """Allowed by the (data) actions and not taken away by the not-(data-)actions."""
    allowed, excluded = (role.data_actions, role.not_data_actions) if data else (role.actions, role.not_actions)
    return any(covers(one, action) for one in allowed) and not any(covers(one, action) for one in excluded)


class Authorization:
    """All role assignments of all tenants."""

    def __init__(self, clock: Clock, timings: Timings) -> None:
        self._clock = clock
        self._timings = timings
        self._by_principal: dict[str, list[RoleAssignment]] = defaultdict(list)
        self._all: dict[str, RoleAssignment] = {}

    def add(self, assignment: RoleAssignment) -> None:
        """Takes effect after the propagation time."""
        self._all[assignment.id.lower()] = assignment
        self._by_principal[assignment.principal_id].append(assignment)

    def find(self, assignment_id: str) -> RoleAssignment | None:
        """By ARM id."""
        return self._all.get(assignment_id.lower())

    def every(self) -> list[RoleAssignment]:
        """All that are in force or will be."""
        return list(self._all.values())

    def remove(self, assignment: RoleAssignment) -> None:
        """Gone from the lists at once; its effect ends after the propagation time."""
        del self._all[assignment.id.lower()]
        mine = self._by_principal[assignment.principal_id]
        mine.remove(assignment)
        withdrawn = RoleAssignment(**{**vars(assignment), "withdrawn": self._clock.now()})
        mine.append(withdrawn)

    def forget_below(self, scope: str) -> None:
        """A resource is deleted: what was assigned on it or below it is gone at once."""
        for one in [one for one in self._all.values() if at_or_above(scope, one.scope)]:
            del self._all[one.id.lower()]
        for assignments in self._by_principal.values():
            assignments[:] = [one for one in assignments if not at_or_above(scope, one.scope)]

    def _in_force(self, principal_id: str, scope: str) -> Iterator[RoleAssignment]:
        now, delay = self._clock.now(), self._timings.role_propagation_seconds
        for one in self._by_principal.get(principal_id, ()):
            ended = one.withdrawn is not None and now >= one.withdrawn + delay
            if one.created + delay <= now and not ended and at_or_above(one.scope, scope):
                yield one

    def roles(self, principal_id: str, scope: str) -> list[RoleDefinition]:
        """The roles in force for this principal at this scope."""
        return [BY_ID[one.role_id] for one in self._in_force(principal_id, scope)]

    def granting(self, principal_id: str, action: str, scope: str, *, data: bool = False) -> RoleAssignment | None:
        """The assignment that allows the principal the action there, if there is one."""
        found = self._in_force(principal_id, scope)
        return next((one for one in found if role_allows(BY_ID[one.role_id], action, data=data)), None)

    def allows(self, principal_id: str, action: str, scope: str, *, data: bool = False) -> bool:
        """Whether one of the principal's roles allows the action there."""
        return self.granting(principal_id, action, scope, data=data) is not None

    def knows_below(self, principal_id: str, scope: str) -> bool:
        """Whether the principal has any role at, above or below the scope."""
        return any(
            at_or_above(one.scope, scope) or at_or_above(scope, one.scope)
            for one in self._by_principal.get(principal_id, ())
            if one.withdrawn is None
        )
