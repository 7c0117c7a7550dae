"""The federated credentials of an application: at most 20, written one by one, and checked only when a token is exchanged."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sandbox.azure.arm.identities import WRITE_SECONDS, credential_problem
from sandbox.azure.entra.directory import FederatedCredential
from sandbox.azure.errors import GraphRefusedError
from sandbox.azure.exchange import Answer, Exchange, Router
from sandbox.azure.graph.access import bad_request, not_found
from sandbox.azure.graph.bodies import ONE_APPLICATION, body_of, creates_if_missing, found_application
from sandbox.azure.graph.filters import filtered
from sandbox.azure.graph.views import entity, federated_shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Application
    from sandbox.azure.graph.access import GraphAccess

FIELDS = frozenset({"name", "issuer", "subject", "audiences", "description", "claimsMatchingExpression"})


class ApplicationCredentials:
    """The operations on the federated credentials of applications."""

    def __init__(self, router: Router, access: GraphAccess, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._writing: set[str] = set()
        for one in ONE_APPLICATION:
            credentials = f"{one}/federatedIdentityCredentials"
            router.add("GET", credentials, self.list)
            router.add("POST", credentials, self.add)
            router.add("PATCH", f"{credentials}(name='{{named}}')", self.upsert)
            router.add("GET", f"{credentials}/{{credential}}", self.get)
            router.add("PATCH", f"{credentials}/{{credential}}", self.update)
            router.add("DELETE", f"{credentials}/{{credential}}", self.delete)

    @staticmethod
    def _named(application: Application, name: str) -> FederatedCredential:
        for one in application.federated.values():
            if name in {one.id, one.name}:
                return one
        raise not_found(name)

    @asynccontextmanager
    async def _serial(self, application: Application) -> AsyncIterator[None]:
        """A write takes a moment; another one on the same application in that moment is refused.

        Words: seen by operators of other directories' applications (nais/azurerator#448).
        """
        if application.object_id in self._writing:
            raise GraphRefusedError(
                409,
                "Directory_ConcurrencyViolation",
                "Error due to concurrent requests being made to the tenant. Please wait briefly and retry.",
            )
        self._writing.add(application.object_id)
        try:
            await asyncio.sleep(WRITE_SECONDS)
            yield
        finally:
            self._writing.discard(application.object_id)

    async def list(self, exchange: Exchange) -> Answer:
        """All federated credentials."""
        _, application = found_application(self._access, exchange)
        shown = [federated_shown(one) for one in application.federated.values()]
        return self._access.page(exchange, "federatedIdentityCredentials", filtered(shown, exchange.query.get("$filter", "")))

    async def get(self, exchange: Exchange) -> Answer:
        """One, by id or name."""
        _, application = found_application(self._access, exchange)
        return Answer(
            json=entity("federatedIdentityCredentials", federated_shown(self._named(application, exchange["credential"])))
        )

    async def add(self, exchange: Exchange) -> Answer:
        """A new one; its values are believed, and fail only when a token is exchanged."""
        _, application = found_application(self._access, exchange, write=True)
        body = body_of(exchange, FIELDS)
        async with self._serial(application):
            if str(body.get("name") or "") in application.federated:
                raise GraphRefusedError(
                    409,
                    "Request_MultipleObjectsWithSameKeyValue",
                    f"FederatedIdentityCredential with name {body['name']} already exists.",
                )
            return self._created(application, str(body.get("name") or ""), body)

    async def upsert(self, exchange: Exchange) -> Answer:
        """By name: 204 when it was there, 201 when it was not and `Prefer: create-if-missing` says so.

        https://learn.microsoft.com/graph/api/federatedidentitycredential-upsert
        """
        _, application = found_application(self._access, exchange, write=True)
        name = exchange["named"].replace("''", "'")
        body = body_of(exchange, FIELDS)
        if body.get("name", name) != name:
            raise bad_request("The name of a federated identity credential cannot be changed.")
        async with self._serial(application):
            if name in application.federated:
                return self._updated(application, application.federated[name], body)
            if not creates_if_missing(exchange):
                raise not_found(name)
            return self._created(application, name, body)

    async def update(self, exchange: Exchange) -> Answer:
        """Anything but the name; the change has to replicate again."""
        _, application = found_application(self._access, exchange, write=True)
        old = self._named(application, exchange["credential"])
        body = body_of(exchange, FIELDS)
        if body.get("name", old.name) != old.name:
            raise bad_request("The name of a federated identity credential cannot be changed.")
        async with self._serial(application):
            return self._updated(application, old, body)

    def _created(self, application: Application, name: str, body: dict[str, object]) -> Answer:
        one = self._checked(application, FederatedCredential(str(uuid.uuid4()), name, "", "", (), "", 0.0), body)
        return Answer(201, entity("federatedIdentityCredentials", federated_shown(one)))

    def _updated(self, application: Application, old: FederatedCredential, body: dict[str, object]) -> Answer:
        self._checked(application, old, body)
        return Answer(204)

    def _checked(self, application: Application, old: FederatedCredential, body: dict[str, object]) -> FederatedCredential:
        audiences = body.get("audiences", old.audiences)
        if body.get("claimsMatchingExpression") is not None:
            raise bad_request("Flexible federated identity credentials (claimsMatchingExpression) are not simulated.")
        new = FederatedCredential(
            old.id,
            old.name,
            str(body.get("issuer", old.issuer) or ""),
            str(body.get("subject", old.subject) or ""),
            tuple(str(one) for one in audiences),  # type: ignore[attr-defined] # `body_of` has checked the type
            str(body.get("description", old.description) or ""),
            self._clock.now(),
        )
        others = [one for one in application.federated.values() if one.name != old.name]
        problem = credential_problem(new.name, new.issuer, new.subject, list(new.audiences), others)
        if problem is not None and problem[0] == 409:
            # Azure/azure-workload-identity#434.
            raise GraphRefusedError(
                400,
                "InvalidFederatedIdentityCredentialValue",
                f"The combination of issuer and subject must be unique for the application. Issuer {new.issuer} and Subject: "
                f"{new.subject} already exist. paramName: FederatedIdentityCredential.Subject, paramValue: {new.subject}, objectType: "
                "Microsoft.Online.DirectoryServices.Application",
            )
        if problem is not None:
            raise bad_request(problem[2])
        application.federated[new.name] = new
        return new

    async def delete(self, exchange: Exchange) -> Answer:
        """Trust no longer."""
        _, application = found_application(self._access, exchange, write=True)
        async with self._serial(application):
            del application.federated[self._named(application, exchange["credential"]).name]
        return Answer(204)
