"""What a tenant holds: applications, service principals, managed identities and their credentials."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"
KEY_VAULT_APP_ID = "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"
STORAGE_APP_ID = "e406a681-f3d4-42a8-90b6-c2b029497af1"
ARM_APP_ID = "797f4846-ba00-4fd7-ba43-dac1f8f63013"
FIRST_PARTY = {
    GRAPH_APP_ID: "Microsoft Graph",
    KEY_VAULT_APP_ID: "Azure Key Vault",
    STORAGE_APP_ID: "Azure Storage",
    ARM_APP_ID: "Windows Azure Service Management API",
}
# https://learn.microsoft.com/graph/permissions-reference
GRAPH_APP_ROLES = {
    "9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30": "Application.Read.All",
    "1bfefb4e-e0b5-418b-a88f-73c46d2cc8e9": "Application.ReadWrite.All",
    "18a4783c-866b-4cc7-a460-3d5e5662c884": "Application.ReadWrite.OwnedBy",
    "7ab1d382-f21e-4acd-a863-ba3e13f7da61": "Directory.Read.All",
}


@dataclass(frozen=True)
class FederatedCredential:
    """Trust in one subject of one issuer; `created` is virtual time, for replication."""

    id: str
    name: str
    issuer: str
    subject: str
    audiences: tuple[str, ...]
    description: str
    created: float


@dataclass(frozen=True)
class PasswordCredential:
    """A client secret, kept as its hash."""

    key_id: str
    display_name: str
    digest: bytes
    hint: str
    start: float
    end: float


@dataclass(frozen=True)
class KeyCredential:
    """A registered certificate."""

    key_id: str
    display_name: str
    certificate: x509.Certificate
    usage: str = "Verify"

    def thumbprint(self, algorithm: hashes.HashAlgorithm) -> bytes:
        """The digest that `x5t` (SHA-1) and `x5t#S256` carry."""
        return self.certificate.fingerprint(algorithm)


@dataclass
class Application:
    """An app registration in its home tenant."""

    object_id: str
    app_id: str
    tenant_id: str
    display_name: str
    sign_in_audience: str
    created: float
    federated: dict[str, FederatedCredential] = field(default_factory=dict)
    passwords: list[PasswordCredential] = field(default_factory=list)
    keys: list[KeyCredential] = field(default_factory=list)
    other: dict[str, Any] = field(default_factory=dict)
    unique_name: str | None = None
    owners: set[str] = field(default_factory=set)  # object ids of service principals

    @property
    def multitenant(self) -> bool:
        """Whether other tenants may consent to it."""
        return self.sign_in_audience.startswith("AzureADMultipleOrgs") or "PersonalMicrosoftAccount" in self.sign_in_audience


@dataclass
class ManagedIdentity:
    """A user-assigned managed identity: an Azure resource with a principal of its own."""

    client_id: str
    principal_id: str
    tenant_id: str
    resource_id: str
    federated: dict[str, FederatedCredential] = field(default_factory=dict)


@dataclass
class ServicePrincipal:
    """An application (or a managed identity) as one tenant knows it."""

    object_id: str
    app_id: str
    tenant_id: str
    display_name: str
    created: float
    managed_identity: ManagedIdentity | None = None
    account_enabled: bool = True
    assignment_required: bool = False
    app_roles: dict[str, tuple[str, str]] = field(default_factory=dict)  # assignment id -> (resource object id, role id)
    other: dict[str, Any] = field(default_factory=dict)

    def graph_permissions(self) -> set[str]:
        """The application permissions on Microsoft Graph that an administrator granted."""
        return {GRAPH_APP_ROLES[role] for _, role in self.app_roles.values() if role in GRAPH_APP_ROLES}


@dataclass
class Tenant:
    """One Entra directory."""

    id: str
    display_name: str
    domain: str
    applications: dict[str, Application] = field(default_factory=dict)
    principals: dict[str, ServicePrincipal] = field(default_factory=dict)
    administrators: set[str] = field(default_factory=set)
    deleted: dict[str, Application] = field(default_factory=dict)  # restorable for 30 days; their unique names stay taken

    def principal_of(self, app_id: str) -> ServicePrincipal | None:
        """The service principal of an application in this tenant."""
        return next((one for one in self.principals.values() if one.app_id == app_id), None)


class Directory:
    """All tenants, and what is unique over all of them."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}

    def tenant(self, name: str) -> Tenant | None:
        """By id or by domain, without regard to case."""
        wanted = name.lower()
        return self.tenants.get(wanted) or next((one for one in self.tenants.values() if one.domain.lower() == wanted), None)

    def add_tenant(self, display_name: str, domain: str) -> Tenant:
        """A new directory with the principals of Microsoft's own services."""
        tenant = Tenant(str(uuid.uuid4()), display_name, domain)
        self.tenants[tenant.id] = tenant
        for app_id, name in FIRST_PARTY.items():
            self.add_principal(tenant, app_id, name, now=float("-inf"))
        return tenant

    @staticmethod
    def add_principal(
        tenant: Tenant, app_id: str, display_name: str, *, now: float, identity: ManagedIdentity | None = None
    ) -> ServicePrincipal:
        """A new service principal; its object id is given for managed identities and random otherwise."""
        object_id = identity.principal_id if identity else str(uuid.uuid4())
        principal = ServicePrincipal(object_id, app_id, tenant.id, display_name, now, identity)
        tenant.principals[object_id] = principal
        return principal

    def add_application(self, tenant: Tenant, display_name: str, sign_in_audience: str, now: float) -> Application:
        """A new app registration, without a service principal."""
        application = Application(str(uuid.uuid4()), str(uuid.uuid4()), tenant.id, display_name, sign_in_audience, now)
        tenant.applications[application.object_id] = application
        return application

    def applications(self) -> Iterator[Application]:
        """All registrations of all tenants."""
        for tenant in self.tenants.values():
            yield from tenant.applications.values()

    def application(self, app_id: str) -> Application | None:
        """The registration with this client id, wherever its home is."""
        return next((one for one in self.applications() if one.app_id == app_id.lower()), None)


def new_password(application: Application, display_name: str, start: float, end: float) -> tuple[str, PasswordCredential]:
    """A new client secret: its value (shown once) and its record."""
    # Entra's own form; one that began with a dash would be an option to every command line.
    secret = f"{secrets.token_hex(2)[:3]}8Q~{secrets.token_urlsafe(26)}"
    digest = hashlib.sha256(secret.encode()).digest()
    credential = PasswordCredential(str(uuid.uuid4()), display_name, digest, secret[:3], start, end)
    application.passwords.append(credential)
    return secret, credential


def matching_password(application: Application, secret: str) -> PasswordCredential | None:
    """The credential whose secret this is, valid or expired."""
    digest = hashlib.sha256(secret.encode()).digest()
    return next((one for one in application.passwords if hmac.compare_digest(one.digest, digest)), None)
