"""What both administrators can do: ARM resources, roles and locks, in their own tenant and subscription."""

from __future__ import annotations

import re
import uuid
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from azure.core.exceptions import ResourceExistsError
from azure.identity.aio import ClientSecretCredential

from sandbox.administrators.rest import AzureRest, cloud_of, connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GROUPS = "2024-11-01"
ROLES = "2022-04-01"
LOCKS = "2020-05-01"
_HELD = re.compile(r"conflicting role assignment is ([0-9a-f]{32})")


class Administrator:
    """A service principal with all rights in one tenant and its subscription."""

    def __init__(self, env: Mapping[str, str], side: str) -> None:
        self.tenant_id = env[f"{side}_TENANT_ID"]
        self.subscription_id = env["SUBSCRIPTION_ID" if side == "PROVIDER" else "CUSTOMER_SUBSCRIPTION_ID"]
        self._env = env
        self.cloud = cloud_of(env)
        self._stack = AsyncExitStack()
        self._credential = ClientSecretCredential(
            self.tenant_id,
            env[f"{side}_ADMIN_CLIENT_ID"],
            env[f"{side}_ADMIN_CLIENT_SECRET"],
            authority=self.cloud.login,
            **connection(env),
        )
        self.client_id = env[f"{side}_ADMIN_CLIENT_ID"]
        arm, graph = f"https://{self.cloud.resource_manager}", f"https://{self.cloud.graph}"
        self.arm = AzureRest(self._credential, arm, f"{arm}/.default", env)
        self.graph = AzureRest(self._credential, f"{graph}/v1.0", f"{graph}/.default", env)

    async def __aenter__(self) -> Self:
        """Open the sessions."""
        for client in (self._credential, self.arm, self.graph):
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *unused: object) -> None:
        """Close the sessions."""
        await self._stack.aclose()

    async def define_role(self, role_id: str, name: str, actions: Sequence[str]) -> str:
        """Create or change a custom role of the subscription that allows exactly these actions; its id."""
        properties = {
            "roleName": name,
            "type": "CustomRole",
            "permissions": [{"actions": list(actions), "notActions": []}],
            "assignableScopes": [self.subscription],
        }
        path = f"{self.subscription}/providers/Microsoft.Authorization/roleDefinitions/{role_id}"
        made = await self.put(path, ROLES, {"properties": properties})
        definition: str = made["id"]
        return definition

    async def assign_definition(self, principal_id: str, definition: str, scope: str) -> None:
        """Assign a role by its definition's id."""
        body = {"properties": {"roleDefinitionId": definition, "principalId": principal_id}}
        await self.put(f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}", ROLES, body)

    @property
    def subscription(self) -> str:
        """The ARM id of the subscription."""
        return f"/subscriptions/{self.subscription_id}"

    async def put(self, resource_id: str, api_version: str, body: object) -> dict[str, Any]:
        """PUT an ARM resource and wait for its end."""
        return await self.arm.json("PUT", f"{resource_id}?api-version={api_version}", body)

    async def get(self, resource_id: str, api_version: str) -> dict[str, Any]:
        """GET an ARM resource."""
        return await self.arm.json("GET", f"{resource_id}?api-version={api_version}")

    async def patch(self, resource_id: str, api_version: str, body: object) -> dict[str, Any]:
        """PATCH an ARM resource."""
        return await self.arm.json("PATCH", f"{resource_id}?api-version={api_version}", body)

    async def delete(self, resource_id: str, api_version: str) -> None:
        """DELETE an ARM resource."""
        await self.arm.json("DELETE", f"{resource_id}?api-version={api_version}")

    async def create_resource_group(self, name: str, location: str = "westeurope") -> str:
        """The group's id; one that exists stays."""
        group: str = (await self.put(f"{self.subscription}/resourceGroups/{name}", GROUPS, {"location": location}))["id"]
        return group

    async def principal_id(self, app_id: str) -> str:
        """The object id of an application's service principal in this tenant. Raises ResourceNotFoundError."""
        principal: str = (await self.graph.json("GET", f"/servicePrincipals(appId='{app_id}')"))["id"]
        return principal

    async def assign_role(self, principal_id: str, role: str, scope: str) -> str:
        """Grant a built-in role by its name; the id of the assignment, be it new, our own of before, or somebody else's."""
        filtered = quote(f"roleName eq '{role}'")
        url = f"{scope}/providers/Microsoft.Authorization/roleDefinitions?$filter={filtered}&api-version={ROLES}"
        (definition,) = (await self.arm.json("GET", url))["value"]
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{scope.lower()} {definition['name']} {principal_id}")
        assignment = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"
        body = {
            "properties": {
                "roleDefinitionId": definition["id"],
                "principalId": principal_id,
                "principalType": "ServicePrincipal",
            }
        }
        try:
            await self.put(assignment, ROLES, body)
        except ResourceExistsError as error:
            # "RoleAssignmentExists: … The ID of the conflicting role assignment is …": the same grant by another name.
            held = _HELD.search(error.message)
            if held is None:
                raise
            return f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.UUID(held[1])}"
        return assignment

    async def withdraw_roles(self, principal_id: str, scope: str) -> None:
        """Delete every assignment of the principal on exactly this scope."""
        filtered = quote(f"principalId eq '{principal_id}'")
        url = f"{scope}/providers/Microsoft.Authorization/roleAssignments?$filter={filtered}&api-version={ROLES}"
        for one in (await self.arm.json("GET", url))["value"]:
            if one["properties"]["scope"].lower() == scope.lower():
                await self.delete(one["id"], ROLES)

    async def lock(self, scope: str, *, level: str = "CanNotDelete", name: str = "cmk") -> str:
        """Lock a resource; the lock's id."""
        lock_id = f"{scope}/providers/Microsoft.Authorization/locks/{name}"
        await self.put(lock_id, LOCKS, {"properties": {"level": level}})
        return lock_id

    async def unlock(self, lock_id: str) -> None:
        """Lift a lock."""
        await self.delete(lock_id, LOCKS)
