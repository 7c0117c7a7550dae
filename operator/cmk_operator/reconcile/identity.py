"""A pass over a `FederatedIdentity`: can the operator sign in, and is the application what it must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.conditions import Aspect, Progress, Truth, dated
from cmk_operator.api.federated_identity import (
    ApplicationHandover,
    EffectiveIdentity,
    FederatedIdentity,
    FederatedIdentityStatus,
)
from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.azure.identities import (
    ApplicationFacts,
    ManagedIdentityFacts,
    read_application,
    read_managed_identity,
    sign_in,
)
from cmk_operator.core.access import AccessState
from cmk_operator.core.azure_failure import AzureFailure
from cmk_operator.core.schedule import Next
from cmk_operator.core.token_verdict import judge_token_failure
from cmk_operator.reconcile.context import Context, jittered
from cmk_operator.reconcile.references import chain_of
from cmk_operator.reconcile.wake import wake_below

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.kubernetes.client import ObjectReference


async def reconcile_identity(context: Context, reference: ObjectReference) -> Next:
    """Check one identity and report."""
    identity = context.inventory.get(FederatedIdentity, reference.name)
    if identity is None:
        return Next()
    chain = chain_of(identity)
    failure = await sign_in(context.session, chain)
    managed: ManagedIdentityFacts | AzureFailure | None = None
    application: ApplicationFacts | AzureFailure | None = None
    if failure is None:
        managed = await read_managed_identity(context.session, chain, identity.spec.managed_identity.resource_id)
        application = await read_application(context.session, chain)
    status = report(identity, failure, managed, application, context.now())
    if await context.writer.write(identity, status):
        changed = identity.status.observed_generation != identity.metadata.generation
        wake_below(context, reference, to_the_leaves=changed)
    settled = failure is None
    return Next(after=jittered(context.intervals.identity_check if settled else context.intervals.key_check))


def report(
    identity: FederatedIdentity,
    failure: AzureFailure | None,
    managed: ManagedIdentityFacts | AzureFailure | None,
    application: ApplicationFacts | AzureFailure | None,
    now: datetime,
) -> FederatedIdentityStatus:
    """The status that follows from what was read; pure."""
    authenticated = _authenticated(failure)
    federated = _federated(identity, managed, application)
    broken = next((aspect for aspect in (authenticated, federated) if aspect.status == "False"), None)
    ready = Aspect("Ready", "True", "Ready", "the operator can sign in as the managed identity and become the application")
    progress = Progress()
    if broken is not None:
        ready = Aspect("Ready", "False", broken.reason, broken.message)
        progress = Progress(stalled=True, reason=broken.reason, message=broken.message)
    elif authenticated.status == "Unknown":
        ready = Aspect("Ready", "Unknown", authenticated.reason, authenticated.message)
        progress = Progress(reconciling=True, reason=authenticated.reason, message=authenticated.message)
    spec = identity.spec
    known = application.display_name if isinstance(application, ApplicationFacts) else None
    before = identity.status.application
    name = spec.application.display_name or known or (before.display_name if before is not None else None)
    generation = identity.metadata.generation
    return FederatedIdentityStatus(
        observed_generation=generation,
        conditions=dated((ready, authenticated, federated), progress, identity.status.conditions, generation, now),
        last_handled_reconcile_at=identity.metadata.annotations.get(RECONCILE_REQUESTED_AT),
        effective=EffectiveIdentity(cloud=spec.endpoints.name, operator_credential=spec.effective_credential),
        application=ApplicationHandover(client_id=spec.application.client_id, display_name=name),
    )


def _authenticated(failure: AzureFailure | None) -> Aspect:
    if failure is None:
        return Aspect("Authenticated", "True", "SignedIn", "the operator signs in as the managed identity")
    access = judge_token_failure(failure)
    status: Truth = "Unknown" if access.state is AccessState.UNKNOWN else "False"
    return Aspect("Authenticated", status, access.state.value, access.message)


def _federated(
    identity: FederatedIdentity,
    managed: ManagedIdentityFacts | AzureFailure | None,
    application: ApplicationFacts | AzureFailure | None,
) -> Aspect:
    kind = "ApplicationFederated"
    spec = identity.spec
    if isinstance(managed, ManagedIdentityFacts) and managed.client_id.lower() != spec.managed_identity.client_id.lower():
        message = (
            f"the managed identity's client id is {managed.client_id}, not spec.managedIdentity.clientId: the provider's "
            "administrator must correct the manifest"
        )
        return Aspect(kind, "False", "ClientIdMismatch", message)
    if application is None:
        return Aspect(kind, "Unknown", "NotAuthenticated", "the application was not read, because the operator cannot sign in")
    if isinstance(application, AzureFailure):
        message = (
            "the application is not readable: the provider's administrator may grant the managed identity the Microsoft Graph "
            "permission Application.Read.All to have it checked here"
        )
        return Aspect(kind, "Unknown", "NotReadable", message)
    if application.sign_in_audience not in {"AzureADMultipleOrgs", "AzureADandPersonalMicrosoftAccount"}:
        message = (
            f"the application's signInAudience is {application.sign_in_audience}: the provider's administrator must set it to "
            "AzureADMultipleOrgs, or no customer can consent"
        )
        return Aspect(kind, "False", "SingleTenantApplication", message)
    if not isinstance(managed, ManagedIdentityFacts):
        message = (
            "the managed identity is not readable: the provider's administrator may grant it Reader on itself to have its "
            "federated credential checked here"
        )
        return Aspect(kind, "Unknown", "NotReadable", message)
    issuer = f"https://{spec.endpoints.authority_host}/{spec.tenant_id}/v2.0".lower()
    fits = any(
        credential.subject == managed.principal_id
        and credential.issuer.lower() == issuer
        and spec.endpoints.token_exchange_audience in credential.audiences
        for credential in application.federated_credentials
    )
    if fits:
        return Aspect(kind, "True", "Federated", "the application trusts the managed identity")
    message = (
        f"the application has no federated credential with issuer {issuer}, subject {managed.principal_id} (the managed "
        f"identity's principal id) and audience {spec.endpoints.token_exchange_audience}: the provider's administrator must add it, or no Azure service can reach a customer's key"
    )
    return Aspect(kind, "False", "FederatedCredentialMissing", message)
