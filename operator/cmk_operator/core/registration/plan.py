"""Decides the next step of a registration: the next request, or who must do what first; pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cmk_operator.core.faults.fault import Actor, Fault, blocked
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.cloud import CLOUDS
from cmk_operator.core.registration.federation import FederatedCredential, missing_trust

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.identifiers.cloud import Cloud

MULTITENANT: Final = frozenset({"AzureADMultipleOrgs", "AzureADandPersonalMicrosoftAccount"})
_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR


@dataclass(frozen=True, slots=True)
class ApplicationFacts:
    """The application as Microsoft Graph shows it."""

    display_name: str
    sign_in_audience: str
    federated_credentials: tuple[FederatedCredential, ...]
    object_id: str = ""
    client_id: str = ""
    unique_name: str | None = None


@dataclass(frozen=True, slots=True)
class ManagedIdentityFacts:
    """The managed identity as Resource Manager shows it; its credentials are None if they were not read."""

    client_id: str
    principal_id: str
    federated_credentials: tuple[FederatedCredential, ...] | None = None


@dataclass(frozen=True, slots=True)
class Namesake:
    """An application with the wanted display name but without the operator's unique name."""

    object_id: str
    client_id: str
    sign_in_audience: str
    unique_name: str | None
    owned: bool
    """Whether the registrar owns it."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The operator's identity, from the claims of its own token."""

    issuer: str
    subject: str
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DesiredRegistration:
    """What one manifest asks the operator to register."""

    identity_name: str
    registrar_client_id: str
    display_name: str | None
    """Display name of the application; None if the manifest names an existing one."""
    known_client_id: str | None
    """Client id of the application that was registered before, if any."""
    known_object_id: str | None
    managed_identity: ArmId
    location: str | None
    """Region of the managed identity; None if the manifest names an existing one."""
    entra_issuer: str
    audience: str
    service_account: ServiceAccount
    by_service_account: bool

    @property
    def unique_name(self) -> str:
        """The application's `uniqueName` in Graph: immutable and unique in the tenant, so that no crash can register it twice."""
        return f"cmk-operator-{self.identity_name}"

    @property
    def trust_in_service_account(self) -> FederatedCredential:
        """The credential for the operator's ServiceAccount; its name depends on it, because clusters may share an identity."""
        account = self.service_account
        name = f"cmk-operator-sa-{_digest(account.issuer, account.subject)}"
        return FederatedCredential(account.issuer, account.subject, account.audiences[:1], name)

    def trust_in_managed_identity(self, principal_id: str) -> FederatedCredential:
        """The application's credential for the managed identity; its name stays the same if the identity is created again."""
        name = f"cmk-operator-mi-{_digest(self.managed_identity.key)}"
        return FederatedCredential(self.entra_issuer, principal_id, (self.audience,), name)


@dataclass(frozen=True, slots=True)
class ObservedRegistration:
    """What already exists, as far as it could be read."""

    application: ApplicationFacts | None = None
    namesakes: tuple[Namesake, ...] = ()
    managed_identity: ManagedIdentityFacts | None = None
    application_unread: Fault | None = None
    managed_identity_unread: Fault | None = None


@dataclass(frozen=True, slots=True)
class UpsertApplication:
    """Create the application under its unique name, or correct its properties."""

    unique_name: str
    display_name: str
    purpose: str = field(default="register the application", init=False)


@dataclass(frozen=True, slots=True)
class MarkApplication:
    """Adopt an application: set the operator's unique name, which cannot be changed later."""

    object_id: str
    unique_name: str
    purpose: str = field(default="adopt the application", init=False)


@dataclass(frozen=True, slots=True)
class CreateManagedIdentity:
    """Create the user-assigned managed identity."""

    resource_id: ArmId
    location: str
    purpose: str = field(default="create the managed identity", init=False)


@dataclass(frozen=True, slots=True)
class TrustAtManagedIdentity:
    """Add a federated credential for the ServiceAccount to the managed identity."""

    resource_id: ArmId
    credential: FederatedCredential
    purpose: str = field(default="let the operator sign in as the managed identity", init=False)


@dataclass(frozen=True, slots=True)
class TrustAtApplication:
    """Add a federated credential to the application."""

    object_id: str
    credential: FederatedCredential
    purpose: str = field(default="let the application trust a federated credential", init=False)


RegistrationStep = UpsertApplication | MarkApplication | CreateManagedIdentity | TrustAtManagedIdentity | TrustAtApplication


def judge_token_audience(account: ServiceAccount, cloud: Cloud) -> Fault | None:
    """Refuse a ServiceAccount token whose audience belongs to another cloud; custom audiences are allowed."""
    others = {one.token_exchange_audience for one in CLOUDS.values()} - {cloud.token_exchange_audience}
    if not set(account.audiences) <= others:
        return None
    return blocked(
        Reason.WRONG_TOKEN_AUDIENCE,
        f"the operator's ServiceAccount token is for {', '.join(account.audiences)}, and that of {cloud.name} is "
        f"{cloud.token_exchange_audience}: the platform engineer must set azure.tokenAudience of the chart to it, or run another "
        "operator for this cloud (clouds cannot be mixed)",
        Actor.PLATFORM_ENGINEER,
    )


def next_step(desired: DesiredRegistration, observed: ObservedRegistration) -> RegistrationStep | Fault | None:
    """The next request, or the fault that blocks the rest; None once everything is registered.

    What is in the way of the application is not in the way of the managed identity. Nothing is ever deleted.
    """
    found = [_application(desired, observed), _managed_identity(desired, observed), _application_trusts(desired, observed)]
    step = next((one for one in found if one is not None and not isinstance(one, Fault)), None)
    return step if step is not None else next((one for one in found if one is not None), None)


def _managed_identity(desired: DesiredRegistration, observed: ObservedRegistration) -> RegistrationStep | Fault | None:
    identity = observed.managed_identity
    if observed.managed_identity_unread is not None or desired.location is None:
        return observed.managed_identity_unread
    if identity is None:
        return CreateManagedIdentity(desired.managed_identity, desired.location)
    present = identity.federated_credentials or ()
    trust = missing_trust(f"the managed identity {desired.managed_identity.name!r}", present, desired.trust_in_service_account)
    return trust if trust is None or isinstance(trust, Fault) else TrustAtManagedIdentity(desired.managed_identity, trust)


def _application(desired: DesiredRegistration, observed: ObservedRegistration) -> RegistrationStep | Fault | None:
    application, display_name = observed.application, desired.display_name
    if observed.application_unread is not None or display_name is None:
        return observed.application_unread
    if application is None and desired.known_client_id is not None:
        return blocked(
            Reason.REGISTERED_APPLICATION_MISSING,
            f"the application {desired.known_client_id} that was registered is gone: the provider's administrator must restore it from "
            f"the directory's deleted items (object id {desired.known_object_id or 'unknown'}), or delete this manifest and apply it "
            "again to register another, to which every customer must then consent",
            _PROVIDER,
        )
    if application is None:
        return _adoption(desired, display_name, observed.namesakes)
    if application.unique_name == desired.unique_name and (
        application.display_name != display_name or application.sign_in_audience not in MULTITENANT
    ):
        return UpsertApplication(desired.unique_name, display_name)
    return None


def _adoption(desired: DesiredRegistration, display_name: str, namesakes: tuple[Namesake, ...]) -> RegistrationStep | Fault:
    """Adopt the only application of that name that the registrar owns, or create one if there is none of that name."""
    owned = [one for one in namesakes if one.owned and one.unique_name is None]
    if len(owned) == 1:
        if owned[0].sign_in_audience not in MULTITENANT:
            return blocked(
                Reason.SINGLE_TENANT_APPLICATION,
                f"the application {owned[0].client_id} is named {display_name!r} and is for one tenant only: the provider's "
                "administrator must set its signInAudience to AzureADMultipleOrgs, or choose another displayName",
                _PROVIDER,
            )
        return MarkApplication(owned[0].object_id, desired.unique_name)
    found = ", ".join(sorted(one.client_id for one in (owned or namesakes)))
    if owned:
        return blocked(
            Reason.AMBIGUOUS_APPLICATION,
            f"the registrar owns several applications named {display_name!r} ({found}): the provider's administrator must name one by "
            "spec.application.clientId, or delete the others",
            _PROVIDER,
        )
    if namesakes:
        return blocked(
            Reason.APPLICATION_NOT_OWNED,
            f"an application named {display_name!r} already exists ({found}), but the registrar {desired.registrar_client_id} does not own it: the provider's "
            "administrator must make it an owner of that application, name it by spec.application.clientId, or choose another "
            "displayName",
            _PROVIDER,
        )
    return UpsertApplication(desired.unique_name, display_name)


def _application_trusts(desired: DesiredRegistration, observed: ObservedRegistration) -> RegistrationStep | Fault | None:
    application, identity = observed.application, observed.managed_identity
    if desired.display_name is None or application is None:
        return None
    wanted: list[FederatedCredential] = []
    if identity is not None:
        wanted.append(desired.trust_in_managed_identity(identity.principal_id))
    if desired.by_service_account:
        wanted.append(desired.trust_in_service_account)
    for credential in wanted:
        trust = missing_trust(f"the application {application.client_id}", application.federated_credentials, credential)
        if trust is not None:
            return trust if isinstance(trust, Fault) else TrustAtApplication(application.object_id, trust)
    return None


def _digest(*parts: str) -> str:
    """Ten characters that make the names of credentials distinct."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
