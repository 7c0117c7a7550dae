"""The registrar's requests: it reads what exists, and makes one step of a registration at a time."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.identities import IDENTITY_API_VERSION, credential_of
from cmk_operator.azure.management import required_text, typed_answer
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.registration.faults import judge_registration_failure
from cmk_operator.core.registration.plan import (
    ApplicationFacts,
    CreateManagedIdentity,
    DesiredRegistration,
    ManagedIdentityFacts,
    MarkApplication,
    Namesake,
    ObservedRegistration,
    RegistrationStep,
    ServiceAccount,
    TrustAtApplication,
    TrustAtManagedIdentity,
    UpsertApplication,
)

if TYPE_CHECKING:
    from pathlib import Path

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.rest import RestClient
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.registration.federation import FederatedCredential

_APPLICATION_FIELDS: Final = "id,appId,displayName,signInAudience,uniqueName"
_CREATE_IF_MISSING: Final = {"Prefer": "create-if-missing"}
_ARM: Final = {"api-version": IDENTITY_API_VERSION}


def service_account_of(token_file: Path | None) -> ServiceAccount | AzureFailure:
    """The operator's ServiceAccount, from the claims of its own token. Entra verifies the token, so this does not."""
    if token_file is None:
        message = "AZURE_FEDERATED_TOKEN_FILE is not set"
        return AzureFailure(400, "TokenFileUnreadable", message, stage=Stage.OPERATOR_TOKEN)
    try:
        payload = token_file.read_text(encoding="ascii").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        audience = claims["aud"]
        return ServiceAccount(
            str(claims["iss"]), str(claims["sub"]), tuple(audience if isinstance(audience, list) else [audience])
        )
    except (OSError, ValueError, IndexError, KeyError, TypeError, binascii.Error):
        message = "the ServiceAccount token file cannot be read"
        return AzureFailure(400, "TokenFileUnreadable", message, stage=Stage.OPERATOR_TOKEN)


@dataclass(frozen=True, slots=True)
class RegistrarClient:
    """The calls to Microsoft Graph and Resource Manager, signed in as the registrar."""

    session: AzureSession
    chain: IdentityChain
    """An identity chain with the registrar as the managed identity."""

    def _graph(self) -> RestClient:
        cloud = self.chain.cloud
        return self.session.rest(self.session.managed_identity(self.chain), f"https://{cloud.graph}", cloud.graph_scope)

    def _refused(self, error: BaseException, target: str) -> Fault:
        failure = failure_of(error)
        if failure.status in {401, 403}:
            # A token has the permissions of the time when it was issued, and is valid for up to a day.
            self.session.forget_managed_identity(self.chain)
        return judge_registration_failure(failure, self.chain.managed_identity_client_id, target)

    async def observe(self, desired: DesiredRegistration) -> ObservedRegistration:
        """Read which parts of the wanted registration exist. Only reads."""
        application: ApplicationFacts | None = None
        namesakes: tuple[Namesake, ...] = ()
        identity, application_unread, identity_unread = None, None, None
        if desired.display_name is not None:
            try:
                application, namesakes = await self._application_or_namesakes(desired, desired.display_name)
            except EXPECTED_FAILURES as error:
                application_unread = self._refused(error, f"the application {desired.display_name!r}")
        try:
            identity = await self._managed_identity(desired)
        except EXPECTED_FAILURES as error:
            identity_unread = self._refused(error, f"the managed identity {desired.managed_identity.name!r}")
        return ObservedRegistration(application, namesakes, identity, application_unread, identity_unread)

    async def _application_or_namesakes(
        self, desired: DesiredRegistration, display_name: str
    ) -> tuple[ApplicationFacts | None, tuple[Namesake, ...]]:
        application = await self._application(self._graph(), desired)
        if application is None and desired.known_client_id is None:
            return None, await self._namesakes(self._graph(), display_name)
        return application, ()

    async def _application(self, graph: RestClient, desired: DesiredRegistration) -> ApplicationFacts | None:
        """The application that was registered before, else the one with our unique name."""
        key = (
            f"appId='{desired.known_client_id}'"
            if desired.known_client_id is not None
            else f"uniqueName='{desired.unique_name}'"
        )
        found = await _or_none(graph, f"/v1.0/applications({key})", {"$select": _APPLICATION_FIELDS})
        if found is None:
            return None
        with typed_answer():
            object_id = required_text(found, "id")
            path = f"/v1.0/applications/{object_id}/federatedIdentityCredentials"
            credentials = [entry async for page in graph.pages(path, {}) for entry in page]
            return ApplicationFacts(
                display_name=str(found.get("displayName", "")),
                sign_in_audience=str(found.get("signInAudience", "")),
                federated_credentials=tuple(credential_of(entry, required_text(entry, "name")) for entry in credentials),
                object_id=object_id,
                client_id=required_text(found, "appId"),
                unique_name=_text_or_none(found.get("uniqueName")),
            )

    async def _namesakes(self, graph: RestClient, display_name: str) -> tuple[Namesake, ...]:
        quoted = display_name.replace("'", "''")
        query = {"$filter": f"displayName eq '{quoted}'", "$select": _APPLICATION_FIELDS}
        found = [entry async for page in graph.pages("/v1.0/applications", query) for entry in page]
        if not found:
            return ()
        path = (
            f"/v1.0/servicePrincipals(appId='{self.chain.managed_identity_client_id}')/ownedObjects/microsoft.graph.application"
        )
        with typed_answer():
            owned = {required_text(entry, "id") async for page in graph.pages(path, {"$select": "id"}) for entry in page}
            return tuple(
                Namesake(
                    required_text(entry, "id"),
                    required_text(entry, "appId"),
                    str(entry.get("signInAudience", "")),
                    _text_or_none(entry.get("uniqueName")),
                    entry["id"] in owned,
                )
                for entry in found
            )

    async def _managed_identity(self, desired: DesiredRegistration) -> ManagedIdentityFacts | None:
        manager = self.session.resource_manager(self.chain)
        path = desired.managed_identity.text
        answer = await _or_none(manager, path, _ARM) if desired.location is not None else await manager.call("GET", path, _ARM)
        if answer is None:
            return None
        with typed_answer():
            properties: dict[str, Any] = answer["properties"]
            client_id, principal_id = required_text(properties, "clientId"), required_text(properties, "principalId")
            credentials = None
            if desired.location is not None:
                found = [entry async for page in manager.pages(f"{path}/federatedIdentityCredentials", _ARM) for entry in page]
                credentials = tuple(credential_of(entry.get("properties", {}), required_text(entry, "name")) for entry in found)
            return ManagedIdentityFacts(client_id, principal_id, credentials)

    async def take(self, desired: DesiredRegistration, step: RegistrationStep) -> Fault | None:
        """Make one step; returns the fault if it was refused. Each step is idempotent."""
        target = f"the managed identity {desired.managed_identity.name!r}"
        if not isinstance(step, CreateManagedIdentity | TrustAtManagedIdentity):
            target = f"the application {desired.display_name!r}"
        try:
            await self._send(step)
        except EXPECTED_FAILURES as error:
            return self._refused(error, target)
        return None

    async def _send(self, step: RegistrationStep) -> None:
        match step:
            case UpsertApplication(unique_name, display_name):
                body = {"displayName": display_name, "signInAudience": "AzureADMultipleOrgs"}
                path = f"/v1.0/applications(uniqueName='{unique_name}')"
                await self._graph().send("PATCH", path, body=body, headers=_CREATE_IF_MISSING)
            case MarkApplication(object_id, unique_name):
                await self._graph().send("PATCH", f"/v1.0/applications/{object_id}", body={"uniqueName": unique_name})
            case TrustAtApplication(object_id, credential):
                path = f"/v1.0/applications/{object_id}/federatedIdentityCredentials(name='{credential.name}')"
                await self._graph().send("PATCH", path, body=_wire(credential), headers=_CREATE_IF_MISSING)
            case CreateManagedIdentity(resource_id, location):
                await self.session.resource_manager(self.chain).send("PUT", resource_id.text, _ARM, {"location": location})
            case TrustAtManagedIdentity(resource_id, credential):
                path = f"{resource_id.text}/federatedIdentityCredentials/{credential.name}"
                await self.session.resource_manager(self.chain).send("PUT", path, _ARM, {"properties": _wire(credential)})


def _text_or_none(value: object) -> str | None:
    if isinstance(value, str | None):
        return value
    raise TypeError("uniqueName")


def _wire(credential: FederatedCredential) -> dict[str, Any]:
    return {"issuer": credential.issuer, "subject": credential.subject, "audiences": list(credential.audiences)}


async def _or_none(client: RestClient, path: str, query: dict[str, str]) -> dict[str, Any] | None:
    """GET; None if the resource itself does not exist. A missing resource group or subscription raises."""
    try:
        return await client.call("GET", path, query)
    except EXPECTED_FAILURES as error:
        if failure_of(error).code in {"ResourceNotFound", "Request_ResourceNotFound"}:
            return None
        raise
