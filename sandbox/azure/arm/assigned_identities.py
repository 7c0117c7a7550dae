"""The `identity` block of a resource, and its validation, which all resource providers share."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.identities import response_id
from sandbox.azure.entra.directory import ManagedIdentity
from sandbox.azure.errors import ArmRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.azure.arm.bodies import IdentityBlock
    from sandbox.azure.arm.identities import Identities
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Directory

KINDS = {
    "none": (False, False),
    "systemassigned": (True, False),
    "userassigned": (False, True),
    "systemassigned,userassigned": (True, True),
}


@dataclass(frozen=True)
class IdentitySettings:
    """User-assigned ids as they were written, and the object id of the system-assigned principal."""

    user_assigned: tuple[str, ...] = ()
    system_principal: str | None = None

    @property
    def type(self) -> str:
        """As most providers spell it: without a space."""
        kinds = ("SystemAssigned" if self.system_principal else "", "UserAssigned" if self.user_assigned else "")
        return ",".join(filter(None, kinds)) or "None"

    def has(self, user_assigned: str) -> bool:
        """Whether this user-assigned identity is one of them."""
        return user_assigned.lower() in {one.lower() for one in self.user_assigned}


class AssignedIdentities:
    """Judges identity blocks and shows them."""

    def __init__(self, identities: Identities, directory: Directory, clock: Clock) -> None:
        self._identities = identities
        self._directory = directory
        self._clock = clock

    def changed(
        self, owner: str, tenant_id: str, before: IdentitySettings, block: IdentityBlock, *, whole: bool
    ) -> IdentitySettings:
        """The identities that a resource has after a PUT (`whole`), whose map replaces the old one, or a PATCH.

        A PATCH adds the user-assigned identities that it names, and removes those that it names with null. A type without
        SystemAssigned drops that. `owner` is the resource's ARM id. Raises ArmRefusedError 400.
        """
        kinds = KINDS.get(block.type.lower().replace(" ", ""))
        if kinds is None:
            raise ArmRefusedError(
                400,
                "InvalidIdentityValues",
                f"The identity values are invalid. The identity type '{block.type}' is not supported.",
            )
        system, user = kinds
        sent = block.user_assigned_identities or {}
        self._values_fit(sent)
        given = tuple(one for one, value in sent.items() if value is not None)
        if not user and given:
            raise ArmRefusedError(
                400,
                "InvalidIdentityValues",
                "The identity values are invalid. The 'identity.userAssignedIdentities' property keys should only be set if the type "
                "contains 'UserAssigned'.",
            )
        if user and not whole:
            named = {one.lower() for one in sent}
            given = (*(one for one in before.user_assigned if one.lower() not in named), *given)
        if user and not given:
            raise ArmRefusedError(
                400, "LinkedInvalidPropertyId", "At least one user-assigned identity is required for this identity type."
            )
        for one in given:
            self._exists(owner, one)
        return IdentitySettings(given, self._system_principal(owner, tenant_id, before) if system else None)

    @staticmethod
    def _values_fit(sent: Mapping[str, Mapping[str, Any] | None]) -> None:
        for one, value in sent.items():
            if value is not None and value.keys() - {"principalId", "clientId"}:
                raise ArmRefusedError(
                    400,
                    "InvalidIdentityValues",
                    f"Invalid value for the identities '{one}'. The 'UserAssignedIdentities' property keys should only be empty json objects, "
                    "null or the resource existing property.",
                )

    def _exists(self, owner: str, assigned: str) -> None:
        if self._identities.find(assigned) is None:
            raise ArmRefusedError(
                400,
                "FailedIdentityOperation",
                f"Identity operation for resource '{owner}' failed with error 'Failed to perform resource identity operation. "
                f'Status: \'BadRequest\'. Response: \'{{"error":{{"code":"BadRequest","message":"Resource \'{assigned}\' was not '
                "found.\"}}'.'.",
            )

    def _system_principal(self, owner: str, tenant_id: str, before: IdentitySettings) -> str:
        if before.system_principal:
            return before.system_principal
        identity = ManagedIdentity(str(uuid.uuid4()), str(uuid.uuid4()), tenant_id, owner)
        name = owner.rsplit("/", 1)[-1]
        self._directory.add_principal(
            self._directory.tenants[tenant_id], identity.client_id, name, now=self._clock.now(), identity=identity
        )
        return identity.principal_id

    def shown(self, settings: IdentitySettings, tenant_id: str, *, kind: str | None = None) -> dict[str, Any]:
        """As ARM answers; `kind` for providers that spell the type in their own way."""
        block: dict[str, Any] = {"type": kind or settings.type}
        if settings.system_principal:
            block |= {"principalId": settings.system_principal, "tenantId": tenant_id}
        if settings.user_assigned:
            assigned: dict[str, Any] = {}
            for one in settings.user_assigned:
                state = self._identities.find(one)
                ids = {"principalId": state.identity.principal_id, "clientId": state.identity.client_id} if state else {}
                assigned[response_id(one)] = ids
            block["userAssignedIdentities"] = assigned
        return block
