"""Directory objects as Graph answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.azure.clock import whole_seconds
from sandbox.azure.endpoints import here
from sandbox.azure.entra.directory import GRAPH_APP_ID, GRAPH_APP_ROLES

if TYPE_CHECKING:
    from sandbox.azure.entra.directory import Application, Directory, FederatedCredential, PasswordCredential, ServicePrincipal


def _moment(seconds: float) -> str:
    return whole_seconds(max(seconds, 0.0))


def password_shown(one: PasswordCredential, secret: str | None = None) -> dict[str, Any]:
    """A client secret; its value only right after creation."""
    return {
        "keyId": one.key_id,
        "displayName": one.display_name,
        "hint": one.hint,
        "startDateTime": _moment(one.start),
        "endDateTime": _moment(one.end),
        "customKeyIdentifier": None,
        "secretText": secret,
    }


def application_shown(one: Application) -> dict[str, Any]:
    """An app registration."""
    return {
        "id": one.object_id,
        "appId": one.app_id,
        "displayName": one.display_name,
        "signInAudience": one.sign_in_audience,
        "uniqueName": one.unique_name,
        "createdDateTime": _moment(one.created),
        "identifierUris": one.other.get("identifierUris", []),
        "requiredResourceAccess": one.other.get("requiredResourceAccess", []),
        "tags": one.other.get("tags", []),
        "notes": one.other.get("notes"),
        "web": one.other.get("web", {"redirectUris": []}),
        "api": one.other.get("api", {"requestedAccessTokenVersion": None}),
        "appRoles": [],
        "passwordCredentials": [password_shown(credential) for credential in one.passwords],
        "keyCredentials": [
            {
                "keyId": key.key_id,
                "displayName": key.display_name,
                "type": "AsymmetricX509Cert",
                "usage": key.usage,
                "key": None,
            }
            for key in one.keys
        ],
    }


def principal_shown(one: ServicePrincipal, directory: Directory) -> dict[str, Any]:
    """A service principal."""
    application = directory.application(one.app_id)
    roles = []
    if one.app_id == GRAPH_APP_ID:
        roles = [
            {"id": role, "value": value, "displayName": value, "isEnabled": True, "allowedMemberTypes": ["Application"]}
            for role, value in GRAPH_APP_ROLES.items()
        ]
    return {
        "id": one.object_id,
        "appId": one.app_id,
        "displayName": one.display_name,
        "appDisplayName": one.display_name,
        "accountEnabled": one.account_enabled,
        "appRoleAssignmentRequired": one.assignment_required,
        "appOwnerOrganizationId": application.tenant_id if application else None,
        "servicePrincipalType": "ManagedIdentity" if one.managed_identity else "Application",
        "servicePrincipalNames": [one.app_id],
        "alternativeNames": [one.managed_identity.resource_id] if one.managed_identity else [],
        "signInAudience": application.sign_in_audience if application else None,
        "tags": one.other.get("tags", []),
        "appRoles": roles,
        "createdDateTime": _moment(one.created),
        "passwordCredentials": [],
        "keyCredentials": [],
    }


def federated_shown(one: FederatedCredential) -> dict[str, Any]:
    """A federated identity credential."""
    return {
        "id": one.id,
        "name": one.name,
        "issuer": one.issuer,
        "subject": one.subject,
        "audiences": list(one.audiences),
        "description": one.description or None,
    }


def listed(kind: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """An OData collection."""
    return {"@odata.context": f"https://{here().graph}/v1.0/$metadata#{kind}", "value": items}


def entity(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    """One OData entity."""
    return {"@odata.context": f"https://{here().graph}/v1.0/$metadata#{kind}/$entity", **item}
