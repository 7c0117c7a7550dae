"""Service principals, the app roles granted to them, and the few directory reads that the Azure tools make."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from sandbox.azure.entra.consent import consented
from sandbox.azure.entra.directory import GRAPH_APP_ID, GRAPH_APP_ROLES, ServicePrincipal, Tenant
from sandbox.azure.errors import GraphRefusedError
from sandbox.azure.exchange import Answer, Exchange, Router
from sandbox.azure.graph.access import bad_request, not_found
from sandbox.azure.graph.bodies import body_of
from sandbox.azure.graph.filters import filtered
from sandbox.azure.graph.views import application_shown, entity, listed, principal_shown

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Directory
    from sandbox.azure.graph.access import GraphAccess

NO_ROLE = "00000000-0000-0000-0000-000000000000"  # an assignment to an application without roles of its own


class Principals:
    """The operations on service principals."""

    def __init__(self, router: Router, access: GraphAccess, directory: Directory, clock: Clock) -> None:
        self._access = access
        self._directory = directory
        self._clock = clock
        for one in ("/v1.0/servicePrincipals/{id}", "/v1.0/servicePrincipals(appId='{app_id}')"):
            router.add("GET", one, self.get)
            router.add("PATCH", one, self.update)
            router.add("DELETE", one, self.delete)
            router.add("GET", f"{one}/ownedObjects", self.owned)
            router.add("GET", f"{one}/ownedObjects/microsoft.graph.application", self.owned)
            router.add("GET", f"{one}/appRoleAssignments", self.roles)
            router.add("POST", f"{one}/appRoleAssignments", self.grant_role)
            router.add("DELETE", f"{one}/appRoleAssignments/{{assignment}}", self.withdraw_role)
        router.add("GET", "/v1.0/servicePrincipals", self.list)
        router.add("POST", "/v1.0/servicePrincipals", self.create)
        router.add("GET", "/v1.0/organization", self.organization)
        router.add("GET", "/v1.0/me", self.me)
        router.add("POST", "/v1.0/directoryObjects/getByIds", self.by_ids)
        router.add("GET", "/v1.0/directoryObjects/{id}", self.directory_object)
        router.add("GET", "/v1.0/users", self.users)
        router.add("GET", "/v1.0/groups", self.users)

    def _found(
        self, exchange: Exchange, *, write: bool = False, administrators_only: bool = False
    ) -> tuple[Tenant, ServicePrincipal]:
        tenant, _ = self._access.admitted(exchange, write=write, administrators_only=administrators_only)
        wanted = exchange.parameters.get("id")
        found = tenant.principals.get(wanted.lower()) if wanted else tenant.principal_of(exchange["app_id"].lower())
        if found is None:
            raise not_found(wanted or exchange["app_id"])
        return tenant, found

    async def list(self, exchange: Exchange) -> Answer:
        """All of the tenant, filtered."""
        tenant, _ = self._access.admitted(exchange)
        shown = [principal_shown(one, self._directory) for one in tenant.principals.values()]
        return self._access.page(exchange, "servicePrincipals", filtered(shown, exchange.query.get("$filter", "")))

    async def create(self, exchange: Exchange) -> Answer:
        """Consent by another door: the service principal of an application of any tenant, if that is multitenant."""
        tenant, claims = self._access.admitted(exchange, write=True, owners_too=True)
        body = body_of(exchange, frozenset({"appId", "accountEnabled", "tags", "displayName"}))
        app_id = str(body.get("appId") or "").lower()
        application = self._directory.application(app_id)
        self._access.check_owner(tenant, claims, application.owners if application is not None else ())
        if application is None or (application.tenant_id != tenant.id and not application.multitenant):
            raise bad_request(f"The appId '{app_id}' of the service principal does not reference a valid application object.")
        if tenant.principal_of(app_id) is not None:
            raise GraphRefusedError(
                409,
                "Request_MultipleObjectsWithSameKeyValue",
                f"The service principal cannot be created, updated, or restored because the service principal name {app_id} is already in use.",
            )
        principal = consented(self._directory, tenant, application, self._clock.now())
        principal.account_enabled = bool(body.get("accountEnabled", True))
        principal.other["tags"] = body.get("tags") or []
        return Answer(201, entity("servicePrincipals", principal_shown(principal, self._directory)))

    async def get(self, exchange: Exchange) -> Answer:
        """One service principal."""
        _, principal = self._found(exchange)
        return Answer(json=entity("servicePrincipals", principal_shown(principal, self._directory)))

    async def update(self, exchange: Exchange) -> Answer:
        """`accountEnabled`, `appRoleAssignmentRequired` and tags."""
        _, principal = self._found(exchange, write=True)
        body = body_of(exchange, frozenset({"accountEnabled", "appRoleAssignmentRequired", "tags"}))
        if "appRoleAssignmentRequired" in body:
            principal.assignment_required = bool(body["appRoleAssignmentRequired"])
        if "accountEnabled" in body:
            principal.account_enabled = bool(body["accountEnabled"])
        if "tags" in body:
            principal.other["tags"] = body["tags"] or []
        return Answer(204)

    async def delete(self, exchange: Exchange) -> Answer:
        """Consent withdrawn."""
        tenant, principal = self._found(exchange, write=True)
        del tenant.principals[principal.object_id]
        return Answer(204)

    async def owned(self, exchange: Exchange) -> Answer:
        """The applications that the principal owns."""
        tenant, principal = self._found(exchange)
        shown = [
            {"@odata.type": "#microsoft.graph.application", **application_shown(one)}
            for one in tenant.applications.values()
            if principal.object_id in one.owners
        ]
        return self._access.page(exchange, "directoryObjects", shown)

    async def roles(self, exchange: Exchange) -> Answer:
        """The app roles granted to the principal."""
        tenant, principal = self._found(exchange)
        return self._access.page(exchange, "appRoleAssignments", [_role(tenant, principal, one) for one in principal.app_roles])

    async def grant_role(self, exchange: Exchange) -> Answer:
        """An administrator grants an application permission."""
        tenant, principal = self._found(exchange, administrators_only=True)
        body = body_of(exchange, frozenset({"principalId", "resourceId", "appRoleId"}))
        resource = tenant.principals.get(str(body.get("resourceId") or "").lower())
        role = str(body.get("appRoleId") or "").lower()
        if str(body.get("principalId") or "").lower() != principal.object_id:
            raise bad_request("principalId must be the principal in the request URL.")
        known = GRAPH_APP_ROLES if resource is not None and resource.app_id == GRAPH_APP_ID else {NO_ROLE: ""}
        if resource is None or role not in known:
            raise bad_request("Permission being assigned was not found on application.")
        if (resource.object_id, role) in principal.app_roles.values():
            raise bad_request("Permission being assigned already exists on the object")
        assignment = str(uuid.uuid4())
        principal.app_roles[assignment] = (resource.object_id, role)
        return Answer(201, entity("appRoleAssignments", _role(tenant, principal, assignment)))

    async def withdraw_role(self, exchange: Exchange) -> Answer:
        """Takes effect with the next token."""
        _, principal = self._found(exchange, administrators_only=True)
        if principal.app_roles.pop(exchange["assignment"], None) is None:
            raise not_found(exchange["assignment"])
        return Answer(204)

    async def organization(self, exchange: Exchange) -> Answer:
        """The tenant itself."""
        tenant, _ = self._access.admitted(exchange)
        domain = {"name": tenant.domain, "isDefault": True, "isInitial": True, "type": "Managed"}
        return Answer(
            json=listed("organization", [{"id": tenant.id, "displayName": tenant.display_name, "verifiedDomains": [domain]}])
        )

    async def me(self, exchange: Exchange) -> Answer:
        """There is no user in an app-only token."""
        self._access.admitted(exchange)
        raise GraphRefusedError(400, "BadRequest", "/me request is only valid with delegated authentication flow.")

    async def users(self, exchange: Exchange) -> Answer:
        """These tenants hold service principals only."""
        self._access.admitted(exchange)
        return self._access.page(exchange, "directoryObjects", [])

    async def by_ids(self, exchange: Exchange) -> Answer:
        """Those of the ids that exist."""
        tenant, _ = self._access.admitted(exchange)
        body = body_of(exchange, frozenset({"ids", "types"}))
        found = []
        for one in body.get("ids") or ():
            if (principal := tenant.principals.get(str(one).lower())) is not None:
                shown = principal_shown(principal, self._directory)
                found.append({"@odata.type": "#microsoft.graph.servicePrincipal", **shown})
            elif (application := tenant.applications.get(str(one).lower())) is not None:
                found.append({"@odata.type": "#microsoft.graph.application", **application_shown(application)})
        return self._access.page(exchange, "directoryObjects", found)

    async def directory_object(self, exchange: Exchange) -> Answer:
        """One service principal by object id."""
        tenant, _ = self._access.admitted(exchange)
        principal = tenant.principals.get(exchange["id"].lower())
        if principal is None:
            raise not_found(exchange["id"])
        return Answer(json={"@odata.type": "#microsoft.graph.servicePrincipal", **principal_shown(principal, self._directory)})


def _role(tenant: Tenant, principal: ServicePrincipal, assignment: str) -> dict[str, object]:
    resource, role = principal.app_roles[assignment]
    return {
        "id": assignment,
        "principalId": principal.object_id,
        "principalType": "ServicePrincipal",
        "principalDisplayName": principal.display_name,
        "resourceId": resource,
        "resourceDisplayName": tenant.principals[resource].display_name,
        "appRoleId": role,
    }
