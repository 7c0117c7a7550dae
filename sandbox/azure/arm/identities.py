"""User-assigned managed identities and their federated credentials (Microsoft.ManagedIdentity)."""

from __future__ import annotations

import asyncio
import re
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import FederatedCredentialBody, IdentityResource, parsed
from sandbox.azure.arm.resources import location_of, page, serve
from sandbox.azure.arm.subscriptions import normalized_location
from sandbox.azure.arm.throttling import Window, retry_after
from sandbox.azure.entra.directory import FederatedCredential, ManagedIdentity
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.azure.arm.bodies import FederatedCredentialProperties
    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Directory
    from sandbox.azure.timings import Timings

KIND = "Microsoft.ManagedIdentity/userAssignedIdentities"
MAXIMUM_FEDERATED_CREDENTIALS = 20
LONGEST_VALUE = 600
WRITE_SECONDS = 0.05


@dataclass
class IdentityState:
    """The resource around a managed identity."""

    id: str
    name: str
    location: str
    identity: ManagedIdentity
    tags: dict[str, str] = field(default_factory=dict)
    writing: bool = False
    isolation_scope: str = "None"

    def shown(self) -> dict[str, Any]:
        """As ARM answers: `resourcegroups` in lower case."""
        return {
            "location": self.location,
            "tags": self.tags,
            "id": response_id(self.id),
            "name": self.name,
            "type": KIND,
            "properties": {
                "isolationScope": self.isolation_scope,
                "tenantId": self.identity.tenant_id,
                "principalId": self.identity.principal_id,
                "clientId": self.identity.client_id,
            },
        }


def response_id(resource_id: str) -> str:
    """A user-assigned identity's id as real responses spell it."""
    return re.sub(r"/resourcegroups/", "/resourcegroups/", resource_id, flags=re.IGNORECASE)


class Identities:
    """All user-assigned identities by resource id."""

    def __init__(self) -> None:
        self._all: dict[str, IdentityState] = {}

    def find(self, resource_id: str) -> IdentityState | None:
        """By id in any case."""
        return self._all.get(resource_id.lower())

    def put(self, state: IdentityState) -> None:
        """Add or replace."""
        self._all[state.id.lower()] = state

    def remove(self, state: IdentityState) -> None:
        """Forget."""
        del self._all[state.id.lower()]

    def under(self, scope: str) -> list[IdentityState]:
        """Those in a subscription or a group."""
        return [one for key, one in self._all.items() if key.startswith(scope.lower() + "/")]


class IdentityOperations:
    """The operations; writes of federated credentials on one identity must be serial."""

    def __init__(self, gateway: Gateway, identities: Identities, directory: Directory, clock: Clock, timings: Timings) -> None:
        self._gateway = gateway
        self._identities = identities
        self._directory = directory
        self._clock = clock
        self._timings = timings
        self._writes: dict[str, Window] = {}
        one, add = serve(gateway, KIND, self), gateway.add
        credentials = f"{KIND}/federatedIdentityCredentials"
        collection = f"{one}/federatedIdentityCredentials"
        add("GET", collection, self.credentials, kind=credentials, action=f"{credentials}/read")
        add("GET", f"{collection}/{{credential}}", self.credential, kind=credentials, action=f"{credentials}/read")
        add("PUT", f"{collection}/{{credential}}", self.put_credential, kind=credentials, action=f"{credentials}/write")
        add("DELETE", f"{collection}/{{credential}}", self.delete_credential, kind=credentials, action=f"{credentials}/delete")

    def _id(self, call: ArmCall) -> str:
        group = self._gateway.subscriptions[call["subscription"]].group(call["group"])
        return f"/subscriptions/{call['subscription']}/resourceGroups/{group.name}/providers/{KIND}/{call['name']}"

    def _found(self, call: ArmCall) -> IdentityState:
        state = self._identities.find(self._id(call))
        if state is None:
            raise not_found(KIND, call["name"], call["group"])
        return state

    def _write_allowed(self, call: ArmCall) -> None:
        wait = self._writes.setdefault(call["subscription"].lower(), Window(1)).take(self._timings.identity_write_per_second)
        if wait:
            raise ArmRefusedError(
                429, "TooManyRequests", "The request was throttled.", headers={"Retry-After": retry_after(wait)}
            )

    async def list(self, call: ArmCall) -> Answer:
        """Of a subscription or a group, in pages."""
        found = self._identities.under(call.scope)
        return page(call, found, IdentityState.shown, int(self._timings.list_page_size))

    async def get(self, call: ArmCall) -> Answer:
        """One identity."""
        return Answer(json=self._found(call).shown())

    async def put(self, call: ArmCall) -> Answer:
        """Create it with its principal in the tenant of the subscription, or replace its tags."""
        body = parsed(IdentityResource, call.body())
        resource_id = self._id(call)
        self._write_allowed(call)
        if body.location is None:
            raise ArmRefusedError(400, "LocationRequired", "The location property is required for this definition.")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}", call["name"]):
            message = f"The resource name '{call['name']}' is not valid: 3 to 128 letters, digits, '-' or '_'."
            raise ArmRefusedError(400, "InvalidResourceName", message)
        location = normalized_location(body.location)
        state = self._identities.find(resource_id)
        if state is not None:
            location_of(call, location, state.location)
            state.tags = body.tags or {}
            return Answer(200, state.shown())
        tenant = self._directory.tenants[call.caller.tenant_id]
        identity = ManagedIdentity(str(uuid.uuid4()), str(uuid.uuid4()), tenant.id, response_id(resource_id))
        self._directory.add_principal(tenant, identity.client_id, call["name"], now=self._clock.now(), identity=identity)
        state = IdentityState(resource_id, call["name"], location, identity, body.tags or {})
        if body.properties is not None and body.properties.isolation_scope is not None:
            state.isolation_scope = body.properties.isolation_scope
        self._identities.put(state)
        return Answer(201, state.shown(), headers={"Location": response_id(resource_id)})

    async def patch(self, call: ArmCall) -> Answer:
        """Replace the tags."""
        state, body = self._found(call), parsed(IdentityResource, call.body())
        if body.tags is not None:
            state.tags = body.tags
        return Answer(json=state.shown())

    async def delete(self, call: ArmCall) -> Answer:
        """Delete it with its principal; role assignments stay behind, as they do in Azure."""
        state = self._identities.find(self._id(call))
        if state is None:
            return Answer(204)
        self._identities.remove(state)
        self._directory.tenants[state.identity.tenant_id].principals.pop(state.identity.principal_id, None)
        return Answer(200)

    @staticmethod
    def _credential_shown(state: IdentityState, one: FederatedCredential) -> dict[str, Any]:
        return {
            "id": f"{response_id(state.id)}/federatedIdentityCredentials/{one.name}",
            "name": one.name,
            "type": f"{KIND}/federatedIdentityCredentials",
            "properties": {"issuer": one.issuer, "subject": one.subject, "audiences": list(one.audiences)},
        }

    async def credentials(self, call: ArmCall) -> Answer:
        """All federated credentials of an identity."""
        state = self._found(call)
        found = list(state.identity.federated.values())
        return page(call, found, lambda one: self._credential_shown(state, one), int(self._timings.list_page_size))

    async def credential(self, call: ArmCall) -> Answer:
        """One federated credential."""
        state = self._found(call)
        found = state.identity.federated.get(call["credential"])
        if found is None:
            raise ArmRefusedError(
                404,
                "NotFound",
                f"The federated identity credential '{call['credential']}' was not found on identity '{state.name}'.",
            )
        return Answer(json=self._credential_shown(state, found))

    async def put_credential(self, call: ArmCall) -> Answer:
        """Create or replace."""
        state = self._found(call)
        properties = parsed(FederatedCredentialBody, call.body()).properties
        self._write_allowed(call)
        async with self._serial(state):
            return self._written(call, state, properties)

    @asynccontextmanager
    async def _serial(self, state: IdentityState) -> AsyncIterator[None]:
        """A write takes a moment; another one on the same identity in that moment is refused."""
        if state.writing:
            raise ArmRefusedError(
                409,
                "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
                "Too many Federated Identity Credentials are written concurrently for the managed identity "
                f"'{response_id(state.id)}'. Concurrent Federated Identity Credentials writes under the same managed identity are not "
                "supported.",
            )
        state.writing = True
        try:
            await asyncio.sleep(WRITE_SECONDS)
            yield
        finally:
            state.writing = False

    def _written(self, call: ArmCall, state: IdentityState, properties: FederatedCredentialProperties) -> Answer:
        name = call["credential"]
        existing = state.identity.federated.get(name)
        problem = credential_problem(
            name,
            properties.issuer,
            properties.subject,
            properties.audiences,
            [one for one in state.identity.federated.values() if one.name != name],
        )
        if problem:
            raise ArmRefusedError(*problem)
        one = FederatedCredential(
            str(uuid.uuid4()), name, properties.issuer, properties.subject, tuple(properties.audiences), "", self._clock.now()
        )
        state.identity.federated[name] = one
        shown = self._credential_shown(state, one)
        return Answer(200, shown) if existing else Answer(201, shown, headers={"Location": str(shown["id"])})

    async def delete_credential(self, call: ArmCall) -> Answer:
        """Delete it; 204 if there was none."""
        state = self._found(call)
        self._write_allowed(call)
        async with self._serial(state):
            return Answer(200 if state.identity.federated.pop(call["credential"], None) else 204)


def credential_problem(
    name: str, issuer: str, subject: str, audiences: list[str], others: list[FederatedCredential]
) -> tuple[int, str, str] | None:
    """Why a federated credential cannot be written: status, code and message.

    https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}", name):
        return (
            400,
            "BadRequest",
            f"The federated identity credential name '{name}' is invalid: 3 to 120 letters, digits, '-' or '_'.",
        )
    if len(audiences) != 1:
        return 400, "BadRequest", "Exactly one audience is required for a federated identity credential."
    if not issuer.startswith("https://") or not subject or "*" in subject:
        return 400, "BadRequest", "The issuer must be an https URL and the subject a plain string without wildcards."
    if max(len(issuer), len(subject), len(audiences[0])) > LONGEST_VALUE or not audiences[0]:
        return 400, "BadRequest", f"The issuer, the subject and the audience must have at most {LONGEST_VALUE} characters."
    if any((one.issuer, one.subject) == (issuer, subject) for one in others):
        return 409, "Conflict", "Issuer and subject combination already exists for this Managed Identity."
    if len(others) >= MAXIMUM_FEDERATED_CREDENTIALS:
        return (
            400,
            "BadRequest",
            f"Too many Federated Identity Credentials: at most {MAXIMUM_FEDERATED_CREDENTIALS} are allowed.",
        )
    return None


def not_found(kind: str, name: str, group: str) -> ArmRefusedError:
    """ARM's ResourceNotFound."""
    return ArmRefusedError(
        404,
        "ResourceNotFound",
        f"The Resource '{kind}/{name}' under resource group '{group}' was not found. For more details please go to "
        "https://aka.ms/ARMResourceNotFoundFix",
    )
