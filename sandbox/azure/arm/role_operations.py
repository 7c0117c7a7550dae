"""Role assignments and role definitions as ARM serves them."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.authorization import CustomRole, RoleAssignment, at_or_above, covers
from sandbox.azure.arm.bodies import RoleAssignmentBody, RoleDefinitionBody, RoleDefinitionProperties, parsed
from sandbox.azure.arm.resources import page
from sandbox.azure.arm.roles import BUILT_IN, BY_ID, RoleDefinition
from sandbox.azure.clock import Clock, seven_digits
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.key_vault.access import PERMISSIONS as KEY_PERMISSIONS

if TYPE_CHECKING:
    from sandbox.azure.arm.bodies import RoleAssignmentProperties
    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.arm.inventory import Inventory
    from sandbox.azure.entra.directory import Directory

ASSIGNMENTS = "Microsoft.Authorization/roleAssignments"
DEFINITIONS = "Microsoft.Authorization/roleDefinitions"
PERMISSIONS = "Microsoft.Authorization/permissions"
LINKED = frozenset({"microsoft.managedidentity/userassignedidentities/assign/action"})
"""Actions that no operation needs by itself, but one that names another resource does."""
DATA_ACTIONS = frozenset(action.lower() for action, _ in KEY_PERMISSIONS.values())


def _refuse_what_is_not_simulated(properties: RoleAssignmentProperties) -> None:
    """A condition would narrow the grant, so it must not be ignored: it is refused with Azure's words for one that it cannot read.

    Azure/azure-cli#15683 has the words; the code is a guess.
    """
    if properties.condition is not None or properties.condition_version is not None:
        raise ArmRefusedError(400, "InvalidRoleAssignmentCondition", "The given role assignment condition is invalid.")
    if properties.delegated_managed_identity_resource_id is not None:
        message = (
            "The delegated managed identity resource ID is only valid for a subscription that is managed by another tenant."
        )
        raise ArmRefusedError(400, "InvalidDelegatedManagedIdentityResourceId", message)


class RoleOperations:
    """Microsoft.Authorization/roleAssignments, roleDefinitions and permissions at any scope."""

    def __init__(self, gateway: Gateway, directory: Directory, inventory: Inventory, clock: Clock) -> None:
        self._gateway = gateway
        self._inventory = inventory
        self._authorization = gateway.authorization
        self._directory = directory
        self._clock = clock
        assignments, definitions = f"/{{scope:path}}/providers/{ASSIGNMENTS}", f"/{{scope:path}}/providers/{DEFINITIONS}"
        add = gateway.add
        add("GET", assignments, self.list, kind=ASSIGNMENTS, action=f"{ASSIGNMENTS}/read")
        add("GET", f"{assignments}/{{name}}", self.get, kind=ASSIGNMENTS, action=f"{ASSIGNMENTS}/read")
        add("PUT", f"{assignments}/{{name}}", self.put, kind=ASSIGNMENTS, action=f"{ASSIGNMENTS}/write")
        add("DELETE", f"{assignments}/{{name}}", self.delete, kind=ASSIGNMENTS, action=f"{ASSIGNMENTS}/delete")
        add("GET", definitions, self.definitions, kind=DEFINITIONS, action=f"{DEFINITIONS}/read")
        add("GET", f"{definitions}/{{name}}", self.definition, kind=DEFINITIONS, action=f"{DEFINITIONS}/read")
        add("PUT", f"{definitions}/{{name}}", self.define, kind=DEFINITIONS, action=f"{DEFINITIONS}/write")
        add("DELETE", f"{definitions}/{{name}}", self.undefine, kind=DEFINITIONS, action=f"{DEFINITIONS}/delete")
        own = f"/{{scope:path}}/providers/{PERMISSIONS}"
        add("GET", own, self.permissions, kind=PERMISSIONS, action=f"{PERMISSIONS}/read")

    def _shown(self, one: RoleAssignment) -> dict[str, Any]:
        moment = seven_digits(one.created)
        subscription = one.scope.split("/")[2] if one.scope.lower().startswith("/subscriptions/") else ""
        return {
            "id": one.id,
            "name": one.name,
            "type": ASSIGNMENTS,
            "properties": {
                "roleDefinitionId": f"/subscriptions/{subscription}/providers/{DEFINITIONS}/{one.role_id}",
                "principalId": one.principal_id,
                "principalType": one.principal_type,
                "scope": one.scope,
                "condition": None,
                "conditionVersion": None,
                "createdOn": moment,
                "updatedOn": moment,
                "createdBy": one.created_by,
                "updatedBy": one.created_by,
                "delegatedManagedIdentityResourceId": None,
                "description": one.description,
            },
        }

    async def list(self, call: ArmCall) -> Answer:
        """`$filter`: `atScope()`, `principalId eq '…'`, `assignedTo('…')`, and atScope() joined with these by `and`."""
        found = [one for one in self._authorization.every() if at_or_above(one.scope, call.scope)]
        text = call.exchange.query.get("$filter", "")
        if "atscope()" not in text.lower():
            found += [one for one in self._authorization.every() if at_or_above(call.scope, one.scope) and one not in found]
        for term in filter(None, re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE)):
            match = re.fullmatch(r"atScope\(\)|(?:principalId eq |assignedTo\()'([^']+)'\)?", term, re.IGNORECASE)
            if match is None:
                raise ArmRefusedError(400, "InvalidFilter", f"The filter '{text}' is not supported.")
            if match.group(1):
                found = [one for one in found if one.principal_id == match.group(1).lower()]
        return page(call, found, self._shown, self._gateway.list_page_size)

    def _found(self, call: ArmCall) -> RoleAssignment | None:
        return self._authorization.find(f"{call.scope}/providers/{ASSIGNMENTS}/{call['name']}")

    async def get(self, call: ArmCall) -> Answer:
        """One assignment on exactly this scope."""
        found = self._found(call)
        if found is None:
            raise ArmRefusedError(404, "RoleAssignmentNotFound", f"The role assignment '{call['name']}' is not found.")
        return Answer(json=self._shown(found))

    async def put(self, call: ArmCall) -> Answer:
        """Grant; a second grant of the same role to the same principal at the same scope is RoleAssignmentExists."""
        properties = parsed(RoleAssignmentBody, call.body()).properties
        try:
            uuid.UUID(call["name"])
        except ValueError:
            raise ArmRefusedError(
                400,
                "InvalidRoleAssignmentId",
                f"The role assignment ID '{call['name']}' is not valid. The role assignment ID must be a GUID.",
            ) from None
        role = self._role(call, properties.role_definition_id.rsplit("/", 1)[-1])
        if role is None:
            raise ArmRefusedError(
                404,
                "RoleDefinitionDoesNotExist",
                f"The specified role definition with ID '{properties.role_definition_id}' does not exist.",
            )
        existing = self._found(call)
        if existing and (existing.role_id, existing.principal_id) == (role.id, properties.principal_id):
            return Answer(200, self._shown(existing))
        if existing:
            raise ArmRefusedError(
                409,
                "RoleAssignmentUpdateNotPermitted",
                "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
            )
        self._inventory.must_exist(call.scope)
        self._principal_exists(call, properties.principal_id)
        if properties.principal_type not in {None, "ServicePrincipal"}:
            raise ArmRefusedError(
                400,
                "UnmatchedPrincipalType",
                f"The PrincipalId '{properties.principal_id.replace('-', '')}' has type 'ServicePrincipal' , which is different from "
                f"specified PrinciaplType '{properties.principal_type}'.",
            )
        _refuse_what_is_not_simulated(properties)
        for one in self._authorization.every():
            if (one.scope.lower(), one.role_id, one.principal_id) == (call.scope.lower(), role.id, properties.principal_id):
                message = f"The role assignment already exists. The ID of the conflicting role assignment is {one.name.replace('-', '')}."
                raise ArmRefusedError(409, "RoleAssignmentExists", message)
        assignment = RoleAssignment(
            name=call["name"],
            scope=call.scope,
            role_id=role.id,
            principal_id=properties.principal_id,
            principal_type="ServicePrincipal",
            created_by=call.caller.object_id,
            created=self._clock.now(),
            description=properties.description,
        )
        self._authorization.add(assignment)
        return Answer(201, self._shown(assignment))

    def _principal_exists(self, call: ArmCall, principal_id: str) -> None:
        tenant = self._directory.tenants[call.caller.tenant_id]
        try:
            uuid.UUID(principal_id)
        except ValueError:
            message = "A valid principal ID must be provided for role assignment."
            raise ArmRefusedError(400, "InvalidPrincipalId", message) from None
        if principal_id not in tenant.principals:
            raise ArmRefusedError(
                400,
                "PrincipalNotFound",
                f"Principal {principal_id.replace('-', '')} does not exist in the directory {tenant.id}. Check that you have the correct "
                "principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to "
                "a replication delay. In this case, set the role assignment principalType property to a value, such as "
                "ServicePrincipal, User, or Group.  See https://aka.ms/docs-principaltype",
            )

    async def delete(self, call: ArmCall) -> Answer:
        """Withdraw; 204 if there was none."""
        found = self._found(call)
        if found is None:
            return Answer(204)
        self._authorization.remove(found)
        return Answer(200, self._shown(found))

    async def permissions(self, call: ArmCall) -> Answer:
        """What the caller may do there: one entry for each of its assignments in force."""
        roles = self._authorization.roles(call.caller.object_id, call.scope)
        return Answer(json={"value": [self._allowed(role) for role in roles]})

    @staticmethod
    def _allowed(role: RoleDefinition) -> dict[str, Any]:
        return {
            "actions": list(role.actions),
            "notActions": list(role.not_actions),
            "dataActions": list(role.data_actions),
            "notDataActions": list(role.not_data_actions),
        }

    def _role_shown(self, role: RoleDefinition, scope: str) -> dict[str, Any]:
        custom = self._authorization.custom_role(role.id)
        parts = scope.split("/")
        prefix = "/".join(parts[:3]) if scope.lower().startswith("/subscriptions/") else ""
        permissions = self._allowed(role)
        return {
            "id": f"{prefix}/providers/{DEFINITIONS}/{role.id}",
            "name": role.id,
            "type": DEFINITIONS,
            "properties": {
                "roleName": role.name,
                "type": "CustomRole" if custom else "BuiltInRole",
                "description": custom.description if custom else role.name,
                "assignableScopes": list(custom.assignable_scopes) if custom else ["/"],
                "permissions": [permissions],
            },
        }

    async def definitions(self, call: ArmCall) -> Answer:
        """`$filter`: `roleName eq '…'`, `type eq 'BuiltInRole'`, `atScopeAndBelow()`."""
        roles = [*BUILT_IN, *(one.definition for one in self._custom_at(call))]
        text = call.exchange.query.get("$filter", "")
        for term in filter(None, re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE)):
            match = re.fullmatch(r"atScope(?:AndBelow)?\(\)|(roleName|type) eq '([^']*)'", term, re.IGNORECASE)
            if match is None:
                raise ArmRefusedError(400, "InvalidFilter", f"The filter '{text}' is not supported.")
            if (match.group(1) or "").lower() == "rolename":
                roles = [one for one in roles if one.name.lower() == match.group(2).lower()]
            if (match.group(1) or "").lower() == "type" and match.group(2).lower() != "builtinrole":
                roles = []
        return Answer(json={"value": [self._role_shown(one, call.scope) for one in roles]})

    def _custom_at(self, call: ArmCall) -> tuple[CustomRole, ...]:
        """The custom roles of the caller's tenant that may be assigned at the scope."""
        known = self._authorization.custom_roles(call.caller.tenant_id)
        return tuple(one for one in known if any(at_or_above(scope, call.scope) for scope in one.assignable_scopes))

    def _role(self, call: ArmCall, role_id: str) -> RoleDefinition | None:
        custom = self._authorization.custom_role(role_id.lower())
        if custom is not None and custom.tenant_id == call.caller.tenant_id:
            return custom.definition
        return BY_ID.get(role_id.lower())

    async def define(self, call: ArmCall) -> Answer:
        """Create or change a custom role; https://learn.microsoft.com/azure/role-based-access-control/custom-roles."""
        properties, role_id = parsed(RoleDefinitionBody, call.body()).properties, call["name"].lower()
        try:
            uuid.UUID(role_id)
        except ValueError:
            raise ArmRefusedError(
                400, "InvalidRoleDefinitionId", f"The role definition ID '{call['name']}' is not valid."
            ) from None
        if role_id in BY_ID:
            raise ArmRefusedError(400, "RoleDefinitionIsBuiltIn", "A built-in role cannot be changed.")
        self._definable(call, role_id, properties)
        allowed = properties.permissions
        role = RoleDefinition(
            role_id,
            properties.role_name,
            tuple(action for one in allowed for action in one.actions),
            tuple(action for one in allowed for action in one.not_actions),
            tuple(action for one in allowed for action in one.data_actions),
            tuple(action for one in allowed for action in one.not_data_actions),
        )
        scopes = tuple(properties.assignable_scopes)
        self._authorization.define(CustomRole(role, call.caller.tenant_id, scopes, properties.description, self._clock.now()))
        return Answer(201, self._role_shown(role, call.scope))

    def _definable(self, call: ArmCall, role_id: str, properties: RoleDefinitionProperties) -> None:
        if not properties.assignable_scopes:
            raise ArmRefusedError(400, "MissingAssignableScopes", "A custom role needs at least one assignable scope.")
        others = [*BUILT_IN, *(one.definition for one in self._authorization.custom_roles(call.caller.tenant_id))]
        if any(one.name.lower() == properties.role_name.lower() and one.id != role_id for one in others):
            message = "A custom role with the same name already exists in this directory. Use a different name."
            raise ArmRefusedError(409, "RoleDefinitionWithSameNameExists", message)
        for one in properties.permissions:
            for known, named in (
                (self._gateway.actions | LINKED, (*one.actions, *one.not_actions)),
                (DATA_ACTIONS, (*one.data_actions, *one.not_data_actions)),
            ):
                for action in named:
                    if not any(covers(action, supported) for supported in known):
                        message = f"'{action}' does not match any of the actions supported by the providers."
                        raise ArmRefusedError(400, "InvalidActionOrNotAction", message)

    async def undefine(self, call: ArmCall) -> Answer:
        """Delete a custom role that is assigned to nobody."""
        role = self._role(call, call["name"])
        if role is None:
            return Answer(204)
        if any(one.role_id == role.id for one in self._authorization.every()):
            message = "There are existing role assignments referencing role."
            raise ArmRefusedError(400, "RoleDefinitionHasAssignments", message)
        shown = self._role_shown(role, call.scope)
        self._authorization.undefine(role.id)
        return Answer(200, shown)

    async def definition(self, call: ArmCall) -> Answer:
        """One role by its GUID."""
        role = self._role(call, call["name"])
        if role is None:
            raise ArmRefusedError(
                404, "RoleDefinitionDoesNotExist", f"The specified role definition with ID '{call['name']}' does not exist."
            )
        return Answer(json=self._role_shown(role, call.scope))
