"""Reads what the identity chain is made of: the managed identity and the multitenant application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of

if TYPE_CHECKING:
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.azure_failure import AzureFailure

IDENTITY_API_VERSION: Final = "2023-01-31"


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """A federated credential of the application: whose tokens it takes."""

    issuer: str
    subject: str
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApplicationFacts:
    """The application as Microsoft Graph shows it."""

    display_name: str
    sign_in_audience: str
    federated_credentials: tuple[FederatedCredential, ...]


@dataclass(frozen=True, slots=True)
class ManagedIdentityFacts:
    """The managed identity as Resource Manager shows it."""

    client_id: str
    principal_id: str


async def sign_in(session: AzureSession, chain: IdentityChain) -> AzureFailure | None:
    """Get a new Resource Manager token as the managed identity; None when that worked."""
    try:
        await session.fresh_operator_sign_in(chain)
    except EXPECTED_FAILURES as error:
        return failure_of(error)
    return None


async def sign_in_to_customer(session: AzureSession, chain: IdentityChain, customer_tenant_id: str) -> AzureFailure | None:
    """Get a new Key Vault token as the application in the customer's tenant; None when that worked: consent stands."""
    try:
        await session.fresh_sign_in(chain, customer_tenant_id)
    except EXPECTED_FAILURES as error:
        return failure_of(error)
    return None


async def read_managed_identity(
    session: AzureSession, chain: IdentityChain, resource_id: str
) -> ManagedIdentityFacts | AzureFailure:
    """GET the user-assigned managed identity."""
    try:
        client = session.resource_manager(chain)
        answer = await client.call("GET", resource_id, {"api-version": IDENTITY_API_VERSION})
    except EXPECTED_FAILURES as error:
        return failure_of(error)
    properties: dict[str, Any] = answer.get("properties", {})
    return ManagedIdentityFacts(str(properties.get("clientId", "")), str(properties.get("principalId", "")))


async def read_application(session: AzureSession, chain: IdentityChain) -> ApplicationFacts | AzureFailure:
    """GET the application and its federated credentials; needs Application.Read.All, so a refusal is an ordinary answer."""
    try:
        client = session.rest(session.managed_identity(chain), f"https://{chain.cloud.graph}", chain.cloud.graph_scope)
        path = f"/v1.0/applications(appId='{chain.application_client_id}')"
        answer = await client.call("GET", path, {"$select": "id,displayName,signInAudience"})
        credentials = await client.call("GET", f"/v1.0/applications/{answer['id']}/federatedIdentityCredentials")
    except EXPECTED_FAILURES as error:
        return failure_of(error)
    return ApplicationFacts(
        str(answer.get("displayName", "")),
        str(answer.get("signInAudience", "")),
        tuple(
            FederatedCredential(str(entry["issuer"]), str(entry["subject"]), tuple(entry.get("audiences", ())))
            for entry in credentials.get("value", ())
        ),
    )
