"""Reads the parts of the identity chain: the managed identity and the multitenant application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.management import required_text, texts_of, typed_answer
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.registration.federation import FederatedCredential
from cmk_operator.core.registration.plan import ApplicationFacts, ManagedIdentityFacts

if TYPE_CHECKING:
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession

IDENTITY_API_VERSION: Final = "2023-01-31"


async def sign_in(session: AzureSession, chain: IdentityChain) -> AzureFailure | None:
    """Get a new Resource Manager token as the managed identity; returns None on success."""
    try:
        await session.fresh_operator_sign_in(chain)
    except EXPECTED_FAILURES as error:
        return failure_of(error)
    return None


async def sign_in_to_customer(session: AzureSession, chain: IdentityChain, customer_tenant_id: str) -> AzureFailure | None:
    """Get a new Key Vault token as the application in the customer's tenant; None on success, which proves the consent."""
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
        with typed_answer():
            properties: dict[str, Any] = answer["properties"]
            return ManagedIdentityFacts(required_text(properties, "clientId"), required_text(properties, "principalId"))
    except EXPECTED_FAILURES as error:
        return failure_of(error)


async def application_is_gone(session: AzureSession, chain: IdentityChain) -> bool:
    """Whether Graph reports that the provider's tenant has no such application; False also if that is unknown."""
    found = await read_application(session, chain)
    return isinstance(found, AzureFailure) and found.code == "Request_ResourceNotFound"


async def read_application(session: AzureSession, chain: IdentityChain) -> ApplicationFacts | AzureFailure:
    """GET the application and its federated credentials. Without Application.Read.All Graph refuses, which is normal."""
    try:
        client = session.rest(session.managed_identity(chain), f"https://{chain.cloud.graph}", chain.cloud.graph_scope)
        path = f"/v1.0/applications(appId='{chain.application_client_id}')"
        answer = await client.call("GET", path, {"$select": "id,displayName,signInAudience"})
        with typed_answer():
            credentials = f"/v1.0/applications/{required_text(answer, 'id')}/federatedIdentityCredentials"
            found = [entry async for page in client.pages(credentials, {}) for entry in page]
            return ApplicationFacts(
                str(answer.get("displayName", "")),
                str(answer.get("signInAudience", "")),
                tuple(credential_of(entry, str(entry.get("name", ""))) for entry in found),
            )
    except EXPECTED_FAILURES as error:
        return failure_of(error)


def credential_of(entry: dict[str, Any], name: str) -> FederatedCredential:
    """Read a federated credential from an answer of Graph or Resource Manager."""
    return FederatedCredential(
        str(entry.get("issuer", "")), str(entry.get("subject", "")), texts_of(entry.get("audiences")), name
    )
