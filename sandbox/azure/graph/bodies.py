"""The contents of requests to Graph: their bodies, their preferences, and the application that they name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

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


_TEXT, _TEXT_OR_NONE = ("Edm.String", TypeAdapter(str)), ("Edm.String", TypeAdapter(str | None))
_FLAG, _FLAG_OR_NONE = ("Edm.Boolean", TypeAdapter(bool)), ("Edm.Boolean", TypeAdapter(bool | None))
_TEXTS = ("Collection(Edm.String)", TypeAdapter(list[str]))


class Platform(BaseModel):
    """Where one platform of an application may be answered; the rest of it is kept unread."""

    model_config = ConfigDict(extra="allow")

    redirect_uris: list[str] = Field(default_factory=list, alias="redirectUris")


class NewPassword(BaseModel):
    """What a client may say of a secret that Entra is to make."""

    model_config = ConfigDict(extra="forbid")

    display_name: str | None = Field(None, alias="displayName")
    start: str | None = Field(None, alias="startDateTime", min_length=1)
    end: str | None = Field(None, alias="endDateTime", min_length=1)


_PLATFORM = ("microsoft.graph.webApplication", TypeAdapter(Platform | None))
_PASSWORD = ("microsoft.graph.passwordCredential", TypeAdapter(NewPassword | None))
_OBJECT = ("Edm.ComplexType", TypeAdapter(dict[str, Any] | None))
_OBJECTS = ("Collection(Edm.ComplexType)", TypeAdapter(list[dict[str, Any]]))
TYPES: dict[str, tuple[str, TypeAdapter[Any]]] = {
    **dict.fromkeys(("name", "issuer", "subject", "appId", "principalId", "resourceId", "appRoleId", "keyId"), _TEXT),
    **dict.fromkeys(
        ("displayName", "signInAudience", "uniqueName", "notes", "description", "groupMembershipClaims"), _TEXT_OR_NONE
    ),
    **dict.fromkeys(("accountEnabled", "appRoleAssignmentRequired"), _FLAG),
    **dict.fromkeys(("web", "spa", "publicClient"), _PLATFORM),
    "passwordCredential": _PASSWORD,
    "isFallbackPublicClient": _FLAG_OR_NONE,
    **dict.fromkeys(("audiences", "tags", "identifierUris", "ids", "types"), _TEXTS),
    **dict.fromkeys(("requiredResourceAccess", "appRoles", "keyCredentials", "passwordCredentials"), _OBJECTS),
    **dict.fromkeys(
        (
            "api",
            "optionalClaims",
            "info",
            "parentalControlSettings",
            "claimsMatchingExpression",
        ),
        _OBJECT,
    ),
}
"""Of each property, whatever object it belongs to: the OData type that a refusal names, and which JSON it is."""


def body_of(exchange: Exchange, fields: frozenset[str]) -> dict[str, Any]:
    """The JSON body; an unknown property and a value of another type are refused as Graph does."""
    if exchange.body and not exchange.media_type:
        message = "Write requests (excluding DELETE) must contain the Content-Type header declaration."
        raise GraphRefusedError(400, "BadRequest", message)
    if exchange.body and exchange.media_type != "application/json":
        message = f"The content type '{exchange.media_type}' is not supported. The supported type is 'application/json'."
        raise GraphRefusedError(415, "UnsupportedMediaType", message)
    try:
        body = exchange.json()
    except MalformedBodyError as error:
        raise GraphRefusedError(400, "BadRequest", f"Unable to read JSON request payload. {error}") from error
    for name, value in body.items():
        if name.startswith("@"):
            continue
        if name not in fields:
            raise bad_request(f"Invalid property '{name}'.")
        kind, adapter = TYPES[name]
        try:
            adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            shown = value if isinstance(value, str) else json.dumps(value)
            message = f"Cannot convert the literal '{shown}' to the expected type '{kind}'."
            raise GraphRefusedError(400, "BadRequest", message) from error
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
