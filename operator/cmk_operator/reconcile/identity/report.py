"""Computes the status of a `FederatedIdentity` from what was read; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import Aspect, Progress, Truth, dated
from cmk_operator.api.federated_identity import (
    ApplicationHandover,
    EffectiveIdentity,
    FederatedIdentity,
    FederatedIdentityStatus,
    ManagedIdentityReport,
)
from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.token_verdict import judge_token_failure, may_be_replication
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.registration.federation import FederatedCredential, nearest_miss
from cmk_operator.core.registration.plan import MULTITENANT, ApplicationFacts, ManagedIdentityFacts

if TYPE_CHECKING:
    from datetime import datetime

SETTLING: Final = "was changed by the operator a short while ago, and Entra takes some minutes to replicate the change"
_NOT_REGISTERED: Final = "not checked until both the application and the managed identity are registered"


@dataclass(frozen=True, slots=True)
class RegistrationObstacle:
    """What blocks a registration, and whether that is only a failed read of what already exists."""

    fault: Fault
    unread: bool


def identity_status(
    identity: FederatedIdentity,
    failure: AzureFailure | Fault | None,
    managed: ManagedIdentityFacts | AzureFailure | None,
    application: ApplicationFacts | AzureFailure | None,
    now: datetime,
    obstacle: RegistrationObstacle | None = None,
) -> FederatedIdentityStatus:
    """The status after one attempt to register, sign in and read; `identity` must hold the ids known by now."""
    known = identity.application_client_id is not None and identity.managed_identity_client_id is not None
    registered = _registered(identity, obstacle, known=known)
    authenticated = _authenticated(identity, failure, now) if known else _not_registered(ConditionType.AUTHENTICATED)
    federated = _federated(identity, managed, application) if known else _not_registered(ConditionType.APPLICATION_FEDERATED)
    broken = next((aspect for aspect in (registered, authenticated, federated) if aspect.status == "False"), None)
    ready = Aspect(
        ConditionType.READY, "True", Reason.READY, "the operator can sign in as the managed identity and as the application"
    )
    progress = Progress()
    if broken is not None:
        ready = Aspect(ConditionType.READY, "False", broken.reason, broken.message)
        progress = Progress(stalled=True, reason=broken.reason, message=broken.message)
        if broken is registered and obstacle is not None:
            progress = Progress.of(obstacle.fault)
    elif authenticated.status == "Unknown":
        ready = Aspect(ConditionType.READY, "Unknown", authenticated.reason, authenticated.message)
        progress = Progress(reconciling=True, reason=authenticated.reason, message=authenticated.message)
    generation = identity.metadata.generation
    return FederatedIdentityStatus(
        observed_generation=generation,
        conditions=dated((ready, registered, authenticated, federated), progress, identity.status.conditions, generation, now),
        last_handled_reconcile_at=identity.metadata.annotations.get(RECONCILE_REQUESTED_AT),
        effective=EffectiveIdentity(cloud=identity.spec.endpoints.name, operator_credential=identity.spec.effective_credential),
        application=_handover(identity, application),
        managed_identity=_managed(identity, managed),
        registration=identity.status.registration,
    )


def _not_registered(kind: ConditionType) -> Aspect:
    return Aspect(kind, "Unknown", Reason.NOT_REGISTERED, _NOT_REGISTERED)


def _handover(identity: FederatedIdentity, application: ApplicationFacts | AzureFailure | None) -> ApplicationHandover | None:
    spec, before = identity.spec.application, identity.status.application
    client_id = spec.client_id or identity.application_client_id
    if client_id is None:
        return None
    known = application.display_name if isinstance(application, ApplicationFacts) else None
    kept = before.display_name if before is not None else None
    return ApplicationHandover(client_id=client_id, display_name=spec.display_name or known or kept)


def _managed(identity: FederatedIdentity, managed: ManagedIdentityFacts | AzureFailure | None) -> ManagedIdentityReport | None:
    resource_id, before = identity.spec.managed_identity.resource_id, identity.status.managed_identity
    if isinstance(managed, ManagedIdentityFacts) and managed.client_id and managed.principal_id:
        return ManagedIdentityReport(
            resource_id=resource_id, client_id=managed.client_id.lower(), principal_id=managed.principal_id
        )
    return before if before is not None and ArmId(before.resource_id) == ArmId(resource_id) else None


def _registered(identity: FederatedIdentity, obstacle: RegistrationObstacle | None, *, known: bool) -> Aspect:
    kind = ConditionType.REGISTERED
    if not identity.spec.registers:
        return Aspect(kind, "True", Reason.GIVEN, "the manifest names an application and a managed identity that exist")
    if obstacle is None:
        return Aspect(kind, "True", Reason.REGISTERED, "everything that the manifest asks for is registered")
    status: Truth = "Unknown" if known and obstacle.unread else "False"
    return Aspect(kind, status, obstacle.fault.reason, obstacle.fault.message)


def _authenticated(identity: FederatedIdentity, failure: AzureFailure | Fault | None, now: datetime) -> Aspect:
    if failure is None:
        return Aspect(ConditionType.AUTHENTICATED, "True", Reason.SIGNED_IN, "the operator signs in as the managed identity")
    if isinstance(failure, Fault):
        return Aspect(ConditionType.AUTHENTICATED, "False", failure.reason, failure.message)
    if identity.settles(now) and may_be_replication(failure):
        return Aspect(ConditionType.AUTHENTICATED, "Unknown", Reason.SETTLING, f"the managed identity {SETTLING}")
    access = judge_token_failure(failure)
    status: Truth = "Unknown" if access.state is AccessState.UNKNOWN else "False"
    return Aspect(ConditionType.AUTHENTICATED, status, access.state.reason, access.message)


def _federated(
    identity: FederatedIdentity,
    managed: ManagedIdentityFacts | AzureFailure | None,
    application: ApplicationFacts | AzureFailure | None,
) -> Aspect:
    kind = ConditionType.APPLICATION_FEDERATED
    if isinstance(managed, ManagedIdentityFacts) and managed.client_id.lower() != identity.managed_identity_client_id:
        message = (
            f"the managed identity's client id is {managed.client_id}, not spec.managedIdentity.clientId: the provider's "
            "administrator must correct the manifest"
        )
        return Aspect(kind, "False", Reason.CLIENT_ID_MISMATCH, message)
    gone = _gone(identity, managed, application)
    if gone is not None:
        return gone
    if application is None:
        return Aspect(
            kind, "Unknown", Reason.NOT_AUTHENTICATED, "the application was not read, because the operator cannot sign in"
        )
    if isinstance(application, AzureFailure):
        message = (
            "the application is not readable: to have it checked here, the provider's administrator may grant the managed identity the "
            "Microsoft Graph permission Application.Read.All"
        )
        return Aspect(kind, "Unknown", Reason.NOT_READABLE, message)
    if application.sign_in_audience not in MULTITENANT:
        message = (
            f"the application's signInAudience is {application.sign_in_audience}: the provider's administrator must set it to "
            "AzureADMultipleOrgs, or no customer can consent"
        )
        return Aspect(kind, "False", Reason.SINGLE_TENANT_APPLICATION, message)
    if not isinstance(managed, ManagedIdentityFacts):
        message = (
            "the managed identity is not readable: to have its federated credential checked here, the provider's administrator may grant "
            "it Reader on itself"
        )
        return Aspect(kind, "Unknown", Reason.NOT_READABLE, message)
    return _trusted(identity, application, managed)


def _gone(
    identity: FederatedIdentity,
    managed: ManagedIdentityFacts | AzureFailure | None,
    application: ApplicationFacts | AzureFailure | None,
) -> Aspect | None:
    """Report an application or managed identity that does not exist; Azure answers a denied read with another code."""
    kind = ConditionType.APPLICATION_FEDERATED
    if isinstance(application, AzureFailure) and application.code == "Request_ResourceNotFound":
        message = (
            f"the provider's tenant has no application {identity.application_client_id}: the provider's administrator must register "
            "it, or correct spec.application.clientId"
        )
        return Aspect(kind, "False", Reason.APPLICATION_NOT_FOUND, message)
    if isinstance(managed, AzureFailure) and managed.code == "ResourceNotFound":
        message = (
            f"{identity.spec.managed_identity.resource_id} does not exist: the provider's administrator must create it, or correct "
            "spec.managedIdentity.resourceId"
        )
        return Aspect(kind, "False", Reason.MANAGED_IDENTITY_NOT_FOUND, message)
    return None


def _trusted(identity: FederatedIdentity, application: ApplicationFacts, managed: ManagedIdentityFacts) -> Aspect:
    kind, spec = ConditionType.APPLICATION_FEDERATED, identity.spec
    wanted = FederatedCredential(spec.entra_issuer, managed.principal_id, (spec.endpoints.token_exchange_audience,))
    if any(credential.trusts(wanted) for credential in application.federated_credentials):
        return Aspect(kind, "True", Reason.FEDERATED, "the application trusts the managed identity")
    miss = nearest_miss(application.federated_credentials, wanted)
    message = (
        f"the application has no federated credential with issuer {wanted.issuer}, subject {wanted.subject} (the managed identity's "
        f"principal id) and audience {wanted.audiences[0]}{f' ({miss})' if miss else ''}: the provider's administrator must "
        f"{'correct or ' if miss else ''}add it, or no Azure service can reach a customer's key"
    )
    return Aspect(kind, "False", Reason.FEDERATED_CREDENTIAL_MISSING, message)
