"""App registrations: /applications, their secrets, certificates and federated credentials."""

from __future__ import annotations

import binascii
import uuid
from base64 import b64decode
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.azure.arm.identities import credential_problem
from sandbox.azure.entra.directory import Application, FederatedCredential, KeyCredential, Tenant, new_password
from sandbox.azure.errors import GraphRefusedError
from sandbox.azure.exchange import Answer, Exchange, MalformedBodyError, Router
from sandbox.azure.graph.access import bad_request, not_found
from sandbox.azure.graph.filters import filtered
from sandbox.azure.graph.views import application_shown, entity, federated_shown, listed, password_shown

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Directory
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
YEAR = 365 * 86_400.0


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


class Applications:
    """The operations on app registrations."""

    def __init__(self, router: Router, access: GraphAccess, directory: Directory, clock: Clock) -> None:
        self._access = access
        self._directory = directory
        self._clock = clock
        for one in ("/v1.0/applications/{id}", "/v1.0/applications(appId='{app_id}')"):
            router.add("GET", one, self.get)
            router.add("PATCH", one, self.update)
            router.add("DELETE", one, self.delete)
            router.add("POST", f"{one}/addPassword", self.add_password)
            router.add("POST", f"{one}/removePassword", self.remove_password)
            credentials = f"{one}/federatedIdentityCredentials"
            router.add("GET", credentials, self.credentials)
            router.add("POST", credentials, self.add_credential)
            router.add("GET", f"{credentials}/{{credential}}", self.credential)
            router.add("PATCH", f"{credentials}/{{credential}}", self.update_credential)
            router.add("DELETE", f"{credentials}/{{credential}}", self.delete_credential)
        router.add("GET", "/v1.0/applications", self.list_applications)
        router.add("POST", "/v1.0/applications", self.create)

    def _found(self, exchange: Exchange, *, write: bool = False) -> tuple[Tenant, Application]:
        tenant, _ = self._access.admitted(exchange, write=write)
        wanted = exchange.parameters.get("id", "").lower()
        app_id = exchange.parameters.get("app_id", "").lower()
        found = tenant.applications.get(wanted) or next(
            (one for one in tenant.applications.values() if one.app_id == app_id), None
        )
        if found is None:
            raise not_found(exchange.parameters.get("id") or exchange.parameters.get("app_id", ""))
        return tenant, found

    async def list_applications(self, exchange: Exchange) -> Answer:
        """All of the tenant, filtered."""
        tenant, _ = self._access.admitted(exchange)
        shown = [application_shown(one) for one in tenant.applications.values()]
        return Answer(json=listed("applications", filtered(shown, exchange.query.get("$filter", ""))))

    async def create(self, exchange: Exchange) -> Answer:
        """A new registration."""
        tenant, _ = self._access.admitted(exchange, write=True)
        body = body_of(exchange, OTHER_FIELDS | {"displayName", "signInAudience", "keyCredentials", "passwordCredentials"})
        name = body.get("displayName")
        if not isinstance(name, str) or not name:
            raise bad_request("Property displayName is required.")
        audience = body.get("signInAudience") or "AzureADMyOrg"
        if audience not in AUDIENCES:
            raise bad_request(f"Invalid value '{audience}' for property signInAudience.")
        application = self._directory.add_application(tenant, name, audience, self._clock.now())
        self._written(application, body)
        return Answer(201, entity("applications", application_shown(application)))

    async def get(self, exchange: Exchange) -> Answer:
        """One registration."""
        _, application = self._found(exchange)
        return Answer(json=entity("applications", application_shown(application)))

    async def update(self, exchange: Exchange) -> Answer:
        """Change what was sent."""
        _, application = self._found(exchange, write=True)
        body = body_of(exchange, OTHER_FIELDS | {"displayName", "signInAudience", "keyCredentials"})
        if "displayName" in body:
            application.display_name = str(body["displayName"])
        if body.get("signInAudience"):
            if body["signInAudience"] not in AUDIENCES:
                raise bad_request(f"Invalid value '{body['signInAudience']}' for property signInAudience.")
            application.sign_in_audience = str(body["signInAudience"])
        self._written(application, body)
        return Answer(204)

    def _written(self, application: Application, body: dict[str, Any]) -> None:
        application.other |= {name: value for name, value in body.items() if name in OTHER_FIELDS}
        if body.get("keyCredentials"):
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
        tenant, application = self._found(exchange, write=True)
        del tenant.applications[application.object_id]
        principal = tenant.principal_of(application.app_id)
        if principal is not None:
            del tenant.principals[principal.object_id]
        return Answer(204)

    async def add_password(self, exchange: Exchange) -> Answer:
        """A new client secret; Entra chooses it."""
        _, application = self._found(exchange, write=True)
        body = body_of(exchange, frozenset({"passwordCredential"})).get("passwordCredential") or {}
        now = self._clock.wall()
        end = _seconds(body.get("endDateTime")) or now + 2 * YEAR
        secret, credential = new_password(
            application, str(body.get("displayName") or ""), _seconds(body.get("startDateTime")) or now, end
        )
        return Answer(
            200,
            {
                "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.passwordCredential",
                **password_shown(credential, secret),
            },
        )

    async def remove_password(self, exchange: Exchange) -> Answer:
        """By key id."""
        _, application = self._found(exchange, write=True)
        key_id = body_of(exchange, frozenset({"keyId"})).get("keyId")
        if all(one.key_id != key_id for one in application.passwords):
            raise bad_request(f"No password credential found with keyId {key_id}.")
        application.passwords = [one for one in application.passwords if one.key_id != key_id]
        return Answer(204)

    @staticmethod
    def _named(application: Application, name: str) -> FederatedCredential:
        for one in application.federated.values():
            if name in {one.id, one.name}:
                return one
        raise not_found(name)

    async def credentials(self, exchange: Exchange) -> Answer:
        """All federated credentials."""
        _, application = self._found(exchange)
        shown = [federated_shown(one) for one in application.federated.values()]
        return Answer(json=listed("federatedIdentityCredentials", filtered(shown, exchange.query.get("$filter", ""))))

    async def credential(self, exchange: Exchange) -> Answer:
        """One, by id or name."""
        _, application = self._found(exchange)
        return Answer(
            json=entity("federatedIdentityCredentials", federated_shown(self._named(application, exchange["credential"])))
        )

    async def add_credential(self, exchange: Exchange) -> Answer:
        """A new one; its values are believed, and fail only when a token is exchanged."""
        _, application = self._found(exchange, write=True)
        body = body_of(
            exchange, frozenset({"name", "issuer", "subject", "audiences", "description", "claimsMatchingExpression"})
        )
        name, issuer, subject = (str(body.get(one) or "") for one in ("name", "issuer", "subject"))
        if name in application.federated:
            raise GraphRefusedError(
                409, "Request_MultipleObjectsWithSameKeyValue", f"FederatedIdentityCredential with name {name} already exists."
            )
        audiences = [str(one) for one in body.get("audiences") or ()]
        self._check(name, issuer, subject, audiences, list(application.federated.values()))
        one = FederatedCredential(
            str(uuid.uuid4()), name, issuer, subject, tuple(audiences), str(body.get("description") or ""), self._clock.now()
        )
        application.federated[name] = one
        return Answer(201, entity("federatedIdentityCredentials", federated_shown(one)))

    @staticmethod
    def _check(name: str, issuer: str, subject: str, audiences: list[str], others: list[FederatedCredential]) -> None:
        problem = credential_problem(name, issuer, subject, audiences, others)
        if problem is None:
            return
        status, _, message = problem
        code = "Request_MultipleObjectsWithSameKeyValue" if status == 409 else "Request_BadRequest"
        raise GraphRefusedError(status, code, message)

    async def update_credential(self, exchange: Exchange) -> Answer:
        """Anything but the name; the change has to replicate again."""
        _, application = self._found(exchange, write=True)
        old = self._named(application, exchange["credential"])
        body = body_of(exchange, frozenset({"name", "issuer", "subject", "audiences", "description"}))
        if body.get("name", old.name) != old.name:
            raise bad_request("The name of a federated identity credential cannot be changed.")
        new = FederatedCredential(
            old.id,
            old.name,
            str(body.get("issuer", old.issuer)),
            str(body.get("subject", old.subject)),
            tuple(body.get("audiences", old.audiences)),
            str(body.get("description", old.description) or ""),
            self._clock.now(),
        )
        others = [one for one in application.federated.values() if one.id != old.id]
        self._check(new.name, new.issuer, new.subject, list(new.audiences), others)
        application.federated[new.name] = new
        return Answer(204)

    async def delete_credential(self, exchange: Exchange) -> Answer:
        """Trust no longer."""
        _, application = self._found(exchange, write=True)
        del application.federated[self._named(application, exchange["credential"]).name]
        return Answer(204)


def _seconds(text: object) -> float | None:
    if not isinstance(text, str) or not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise bad_request(f"'{text}' is not a date and time.") from error
