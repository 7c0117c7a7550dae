"""The contents of requests to Graph: their bodies, their preferences, and the application that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.azure.errors import GraphRefusedError
from sandbox.azure.exchange import Exchange, MalformedBodyError
from sandbox.azure.graph.access import bad_request, not_found

if TYPE_CHECKING:
    from sandbox.azure.entra.directory import Application, Tenant
    from sandbox.azure.graph.access import GraphAccess

ONE_APPLICATION = (
    "/v1.0/applications/{id}",
    "/v1.0/applications(appId='{app_id}')",
    "/v1.0/applications(uniqueName='{unique_name}')",
)
"""By object id, by client id, and by the alternate key that a client chose."""


def body_of(exchange: Exchange, fields: frozenset[str]) -> dict[str, Any]:
    """The JSON body; an unknown field is refused as Graph does."""
    try:
        body = exchange.json()
    except MalformedBodyError as error:
        raise GraphRefusedError(400, "BadRequest", f"Unable to read JSON request payload. {error}") from error
    for name in body:
        if name not in fields and not name.startswith("@"):
            raise bad_request(f"Invalid property '{name}'.")
    return body


def creates_if_missing(exchange: Exchange) -> bool:
    """Whether a PATCH may create what it names."""
    return "create-if-missing" in exchange.headers.get("prefer", "").lower().replace(" ", "").split(",")


def find_application(tenant: Tenant, exchange: Exchange) -> Application | None:
    """The application that the path names, if it exists (and was not deleted)."""
    parameters = exchange.parameters
    if "unique_name" in parameters:
        name = parameters["unique_name"].replace("''", "'")
        return next((one for one in tenant.applications.values() if one.unique_name == name), None)
    if "app_id" in parameters:
        app_id = parameters["app_id"].lower()
        return next((one for one in tenant.applications.values() if one.app_id == app_id), None)
    return tenant.applications.get(parameters.get("id", "").lower())


def found_application(access: GraphAccess, exchange: Exchange, *, write: bool = False) -> tuple[Tenant, Application]:
    """The application that the path names, for a caller that may read it, or write it. Raises GraphRefusedError 401, 403 or 404."""
    tenant, claims = access.admitted(exchange, write=write, owners_too=True)
    found = find_application(tenant, exchange)
    if found is None:
        raise not_found(next(iter(exchange.parameters.values())))
    if write:
        access.check_owner(tenant, claims, found.owners)
    return tenant, found
