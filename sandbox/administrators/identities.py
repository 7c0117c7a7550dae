"""What the provider's administrator prepared for the operator to sign in as."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProviderIdentity:
    """What the provider prepared for the operator; the application's id and name go to the customer."""

    application_client_id: str
    application_name: str
    managed_identity_resource_id: str
    managed_identity_client_id: str
    managed_identity_principal_id: str
    resource_group: str


@dataclass(frozen=True)
class Registrar:
    """The identity as which the operator registers others, and the group in which it may make managed identities."""

    client_id: str
    principal_id: str
    resource_group_id: str
