"""App registrations: /applications, their owners, secrets and certificates."""

from __future__ import annotations

import binascii
import uuid
from base64 import b64decode
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.azure.endpoints import here
from sandbox.azure.entra.directory import Application, KeyCredential, Tenant, new_password
from sandbox.azure.exchange import Answer, Exchange, Router
from sandbox.azure.graph.access import bad_request, not_found
from sandbox.azure.graph.bodies import ONE_APPLICATION, body_of, creates_if_missing, find_application, found_application
from sandbox.azure.graph.filters import filtered
from sandbox.azure.graph.views import application_shown, entity, password_shown, principal_shown

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Directory
    from sandbox.azure.entra.tokens import Claims
    from sandbox.azure.errors import GraphRefusedError
    from sandbox.azure.graph.access import GraphAccess

AUDIENCES = frozenset({"AzureADMyOrg", "AzureADMultipleOrgs", "AzureADandPersonalMicrosoftAccount", "PersonalMicrosoftAccount"})
OTHER_FIELDS = frozenset(
    {
        "identifierUris",
        "requiredResourceAccess",
        "tags",
        "notes",
        "web",
        "api",
        "appRoles",
        "isFallbackPublicClient",
        "publicClient",
        "spa",
        "optionalClaims",
        "groupMembershipClaims",
        "info",
        "parentalControlSettings",
    }
)
CREATED_FIELDS = OTHER_FIELDS | {"displayName", "signInAudience", "keyCredentials", "passwordCredentials"}
YEAR = 365 * 86_400.0


def taken_unique_name() -> GraphRefusedError:
    """Of another application, live or deleted."""
    return bad_request("Another object with the same value for property uniqueName already exists.")


class Applications:
    """The operations on app registrations."""

    def __init__(self, router: Router, access: GraphAccess, directory: Directory, clock: Clock) -> None:
        self._access = access
        self._directory = directory
        self._clock = clock
        for one in ONE_APPLICATION:
            router.add("GET", one, self.get)
            router.add("PATCH", one, self.upsert if "unique_name" in one else self.update)
            router.add("DELETE", one, self.delete)
            router.add("POST", f"{one}/addPassword", self.add_password)
            router.add("POST", f"{one}/removePassword", self.remove_password)
            router.add("GET", f"{one}/owners", self.owners)
            router.add("POST", f"{one}/owners/$ref", self.add_owner)
            router.add("DELETE", f"{one}/owners/{{owner}}/$ref", self.remove_owner)
        router.add("GET", "/v1.0/applications", self.list_applications)
        router.add("POST", "/v1.0/applications", self.create)
        router.add("POST", "/v1.0/directory/deletedItems/{id}/restore", self.restore)
        router.add("DELETE", "/v1.0/directory/deletedItems/{id}", self.purge)

    async def list_applications(self, exchange: Exchange) -> Answer:
        """All of the tenant, filtered."""
        tenant, _ = self._access.admitted(exchange)
        shown = [application_shown(one) for one in tenant.applications.values()]
        return self._access.page(exchange, "applications", filtered(shown, exchange.query.get("$filter", "")))

    async def create(self, exchange: Exchange) -> Answer:
        """A new registration, owned by whoever makes it."""
        tenant, claims = self._access.admitted(exchange, write=True, owners_too=True)
        return self._created(tenant, claims, body_of(exchange, CREATED_FIELDS))

    def _created(self, tenant: Tenant, claims: Claims, body: dict[str, Any], unique_name: str | None = None) -> Answer:
        name = body.get("displayName")
        if not isinstance(name, str) or not name:
            raise bad_request("Property displayName is required.")
        audience = body.get("signInAudience") or "AzureADMyOrg"
        if audience not in AUDIENCES:
            raise bad_request(f"Invalid value '{audience}' for property signInAudience.")
        application = self._directory.add_application(tenant, name, audience, self._clock.now())
        application.unique_name = unique_name
        application.owners.add(claims.object_id)
        self._written(application, body)
        return Answer(201, entity("applications", application_shown(application)))

    async def upsert(self, exchange: Exchange) -> Answer:
        """By unique name: 204 when it was there, 201 when it was not and `Prefer: create-if-missing` says so.

        A deleted application keeps its unique name until it is gone for good (microsoftgraph/msgraph-bicep-types#137).
        https://learn.microsoft.com/graph/api/application-upsert
        """
        tenant, claims = self._access.admitted(exchange, write=True, owners_too=True)
        unique_name = exchange["unique_name"].replace("''", "'")
        if find_application(tenant, exchange) is not None:
            return await self.update(exchange)
        if not creates_if_missing(exchange):
            raise not_found(unique_name)
        if any(one.unique_name == unique_name for one in tenant.deleted.values()):
            raise taken_unique_name()
        return self._created(tenant, claims, body_of(exchange, CREATED_FIELDS), unique_name)

    async def get(self, exchange: Exchange) -> Answer:
        """One registration."""
        _, application = found_application(self._access, exchange)
        return Answer(json=entity("applications", application_shown(application)))

    async def update(self, exchange: Exchange) -> Answer:
        """Change what was sent."""
        tenant, application = found_application(self._access, exchange, write=True)
        body = body_of(exchange, OTHER_FIELDS | {"displayName", "signInAudience", "keyCredentials", "uniqueName"})
        self._name_uniquely(tenant, application, body.get("uniqueName"))
        if "displayName" in body:
            application.display_name = str(body["displayName"])
        if body.get("signInAudience"):
            if body["signInAudience"] not in AUDIENCES:
                raise bad_request(f"Invalid value '{body['signInAudience']}' for property signInAudience.")
            application.sign_in_audience = str(body["signInAudience"])
        self._written(application, body)
        return Answer(204)

    @staticmethod
    def _name_uniquely(tenant: Tenant, application: Application, wanted: object) -> None:
        """A unique name is given once, and never changed; https://learn.microsoft.com/graph/api/resources/application."""
        if wanted is None or wanted == application.unique_name:
            return
        if application.unique_name is not None or not isinstance(wanted, str) or not wanted:
            raise bad_request("Property uniqueName is read-only and cannot be changed once it is set.")
        if any(one.unique_name == wanted for one in (*tenant.applications.values(), *tenant.deleted.values())):
            raise taken_unique_name()
        application.unique_name = wanted

    def _written(self, application: Application, body: dict[str, Any]) -> None:
        application.other |= {name: value for name, value in body.items() if name in OTHER_FIELDS}
        if body.get("keyCredentials") is not None:  # the list replaces the former one, and an empty one deletes it
            application.keys = [self._key(one) for one in body["keyCredentials"]]

    @staticmethod
    def _key(value: dict[str, Any]) -> KeyCredential:
        try:
            certificate = x509.load_der_x509_certificate(b64decode(str(value["key"])))
        except (KeyError, ValueError, binascii.Error) as error:
            raise bad_request("Key credential is invalid: 'key' must be a DER certificate in base64.") from error
        if not isinstance(certificate.public_key(), rsa.RSAPublicKey):
            raise bad_request("Key credential is invalid: only RSA certificates are supported.")
        return KeyCredential(str(value.get("keyId") or uuid.uuid4()), str(value.get("displayName") or ""), certificate)

    async def delete(self, exchange: Exchange) -> Answer:
        """The registration and its service principal at home; those in other tenants stay, and can get no tokens."""
        tenant, application = found_application(self._access, exchange, write=True)
        tenant.deleted[application.object_id] = tenant.applications.pop(application.object_id)
        principal = tenant.principal_of(application.app_id)
        if principal is not None:
            del tenant.principals[principal.object_id]
        return Answer(204)

    async def restore(self, exchange: Exchange) -> Answer:
        """Back from the deleted items, as it was."""
        tenant, claims, application = self._deleted(exchange)
        self._access.check_owner(tenant, claims, application.owners)
        tenant.applications[application.object_id] = tenant.deleted.pop(application.object_id)
        return Answer(200, entity("directoryObjects", application_shown(application)))

    async def purge(self, exchange: Exchange) -> Answer:
        """For good; the unique name is free again."""
        tenant, claims, application = self._deleted(exchange)
        self._access.check_owner(tenant, claims, application.owners)
        del tenant.deleted[application.object_id]
        return Answer(204)

    def _deleted(self, exchange: Exchange) -> tuple[Tenant, Claims, Application]:
        tenant, claims = self._access.admitted(exchange, write=True, owners_too=True)
        found = tenant.deleted.get(exchange["id"].lower())
        if found is None:
            raise not_found(exchange["id"])
        return tenant, claims, found

    async def owners(self, exchange: Exchange) -> Answer:
        """The service principals that own it."""
        tenant, application = found_application(self._access, exchange)
        shown = [
            {"@odata.type": "#microsoft.graph.servicePrincipal", **principal_shown(tenant.principals[one], self._directory)}
            for one in sorted(application.owners)
            if one in tenant.principals
        ]
        return self._access.page(exchange, "directoryObjects", shown)

    async def add_owner(self, exchange: Exchange) -> Answer:
        """A service principal of the tenant, by reference."""
        tenant, application = found_application(self._access, exchange, write=True)
        reference = str(body_of(exchange, frozenset()).get("@odata.id") or "")
        owner = reference.rsplit("/", 1)[-1].lower()
        if owner not in tenant.principals:
            raise not_found(owner)
        if owner in application.owners:
            raise bad_request(
                "One or more added object references already exist for the following modified properties: 'owners'."
            )
        application.owners.add(owner)
        return Answer(204)

    async def remove_owner(self, exchange: Exchange) -> Answer:
        """Own it no longer."""
        _, application = found_application(self._access, exchange, write=True)
        if exchange["owner"].lower() not in application.owners:
            raise not_found(exchange["owner"])
        application.owners.discard(exchange["owner"].lower())
        return Answer(204)

    async def add_password(self, exchange: Exchange) -> Answer:
        """A new client secret; Entra chooses it."""
        _, application = found_application(self._access, exchange, write=True)
        body = body_of(exchange, frozenset({"passwordCredential"})).get("passwordCredential") or {}
        now = self._clock.wall()
        end = _seconds(body.get("endDateTime")) or now + 2 * YEAR
        secret, credential = new_password(
            application, str(body.get("displayName") or ""), _seconds(body.get("startDateTime")) or now, end
        )
        return Answer(
            200,
            {
                "@odata.context": f"https://{here().graph}/v1.0/$metadata#microsoft.graph.passwordCredential",
                **password_shown(credential, secret),
            },
        )

    async def remove_password(self, exchange: Exchange) -> Answer:
        """By key id."""
        _, application = found_application(self._access, exchange, write=True)
        key_id = body_of(exchange, frozenset({"keyId"})).get("keyId")
        if all(one.key_id != key_id for one in application.passwords):
            raise bad_request(f"No password credential found with keyId {key_id}.")
        application.passwords = [one for one in application.passwords if one.key_id != key_id]
        return Answer(204)


def _seconds(text: object) -> float | None:
    if not isinstance(text, str) or not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise bad_request(f"'{text}' is not a date and time.") from error
