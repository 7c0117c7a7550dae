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


@dataclass(frozen=True)
class CustomRole:
    """A role that a tenant defined, where it may be assigned, and when it was defined so."""

    definition: RoleDefinition
    tenant_id: str
    assignable_scopes: tuple[str, ...]
    description: str
    defined: float


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
        self._custom: dict[str, list[CustomRole]] = {}
        """Custom roles by id, each with its earlier definitions, oldest first; an empty list: deleted."""

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

    def custom_role(self, role_id: str) -> CustomRole | None:
        """A custom role as it was defined last."""
        defined = self._custom.get(role_id)
        return defined[-1] if defined else None

    def custom_roles(self, tenant_id: str) -> list[CustomRole]:
        """The custom roles of a tenant."""
        return [defined[-1] for defined in self._custom.values() if defined and defined[-1].tenant_id == tenant_id]

    def define(self, role: CustomRole) -> None:
        """Create or change a custom role; a change takes effect after the propagation time."""
        self._custom.setdefault(role.definition.id, []).append(role)

    def undefine(self, role_id: str) -> None:
        """Delete a custom role, which nobody has any more."""
        self._custom.pop(role_id, None)

    def _definition(self, role_id: str) -> RoleDefinition:
        if role_id in BY_ID:
            return BY_ID[role_id]
        moment = self._clock.now() - self._timings.role_propagation_seconds
        known = [one for one in self._custom[role_id] if one.defined <= moment]
        return (known[-1] if known else self._custom[role_id][0]).definition

    def _in_force(self, principal_id: str, scope: str) -> Iterator[RoleAssignment]:
        now, delay = self._clock.now(), self._timings.role_propagation_seconds
        for one in self._by_principal.get(principal_id, ()):
            ended = one.withdrawn is not None and now >= one.withdrawn + delay
            if one.created + delay <= now and not ended and at_or_above(one.scope, scope):
                yield one

    def roles(self, principal_id: str, scope: str) -> list[RoleDefinition]:
        """The roles in force for this principal at this scope."""
        return [self._definition(one.role_id) for one in self._in_force(principal_id, scope)]

    def granting(self, principal_id: str, action: str, scope: str, *, data: bool = False) -> RoleAssignment | None:
        """The assignment that allows the principal the action there, if there is one."""
        found = self._in_force(principal_id, scope)
        return next((one for one in found if role_allows(self._definition(one.role_id), action, data=data)), None)

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
