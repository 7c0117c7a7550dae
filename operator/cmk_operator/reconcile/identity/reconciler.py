"""Reconciles a `FederatedIdentity`: registers what it asks for, then checks the sign-in and the application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cmk_operator.api.conditions import find
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.azure.identities import read_application, read_managed_identity, sign_in
from cmk_operator.azure.registrar import service_account_of
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Fault, FaultKind
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.registration.faults import judge_registration_failure
from cmk_operator.core.registration.plan import ServiceAccount, judge_token_audience
from cmk_operator.core.schedule import BLOCKED, BUSY, Next
from cmk_operator.reconcile.collaborators.intervals import jittered
from cmk_operator.reconcile.collaborators.revert_finalizer import release_if_not_needed
from cmk_operator.reconcile.collaborators.seen_again import tell_seen_again, was_seen_again
from cmk_operator.reconcile.collaborators.wake import wake_below
from cmk_operator.reconcile.identity.registration import RegistrationOutcome, register, status_after
from cmk_operator.reconcile.identity.report import RegistrationObstacle, identity_status
from cmk_operator.reconcile.references import chain_of

if TYPE_CHECKING:
    from cmk_operator.api.federated_identity import FederatedIdentityStatus
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.core.registration.plan import ApplicationFacts, ManagedIdentityFacts
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.reconcile.identity.context import IdentityContext


async def reconcile_identity(context: IdentityContext, reference: ObjectReference) -> Next:
    """Register what one identity's manifest asks for, check the identity, and report."""
    identity = context.cluster.inventory.get(FederatedIdentity, reference.name)
    if identity is None or await release_if_not_needed(context.cluster, context.reporting, identity):
        return Next()
    account = await asyncio.to_thread(service_account_of, context.session.token_file.path)
    failure: AzureFailure | Fault | None = (
        judge_token_audience(account, identity.spec.endpoints) if isinstance(account, ServiceAccount) else account
    )
    outcome = await _register(context, identity, account, failure)
    known = identity.model_copy(update={"status": status_after(identity, outcome, context.reporting.now())})
    managed, application = _read_by_registrar(known, outcome)
    chain = chain_of(known)
    if failure is None and not isinstance(chain, Fault):
        failure = await sign_in(context.session, chain)
        if failure is None:
            managed, application = await _read(context, known, chain, managed, application)
    obstacle = None
    if outcome is not None and outcome.fault is not None:
        obstacle = RegistrationObstacle(outcome.fault, unread=outcome.unread)
    status = identity_status(known, failure, managed, application, context.reporting.now(), obstacle)
    authenticated = find(status.conditions, ConditionType.AUTHENTICATED)
    observed_at = context.reporting.now() if authenticated is not None and authenticated.status != "Unknown" else None
    if await context.reporting.writer.write(identity, status, observed_at):
        await _record_events(context, identity, status)
        wake_below(context.cluster, reference, recursive=_affects_dependents(identity, status))
    return _next(context, status, outcome, failure)


async def _register(
    context: IdentityContext,
    identity: FederatedIdentity,
    account: ServiceAccount | AzureFailure,
    failure: AzureFailure | Fault | None,
) -> RegistrationOutcome | None:
    """Register what the manifest asks for, unless the operator cannot sign in; None if it asks for nothing."""
    if not identity.spec.registers:
        return None
    if isinstance(failure, Fault):
        return RegistrationOutcome(fault=failure)
    if isinstance(account, ServiceAccount):
        return await register(context, identity, account)
    registrar = identity.spec.registrar.client_id if identity.spec.registrar is not None else ""
    return RegistrationOutcome(fault=judge_registration_failure(account, registrar, "the identity"))


def _read_by_registrar(
    identity: FederatedIdentity, outcome: RegistrationOutcome | None
) -> tuple[ManagedIdentityFacts | AzureFailure | None, ApplicationFacts | AzureFailure | None]:
    """What the registrar has already read; it reads only what it registers."""
    if outcome is None:
        return None, None
    spec, observed = identity.spec, outcome.observed
    return (
        observed.managed_identity if spec.managed_identity.register_ is not None else None,
        observed.application if spec.application.register_ is not None else None,
    )


async def _read(
    context: IdentityContext,
    identity: FederatedIdentity,
    chain: IdentityChain,
    managed: ManagedIdentityFacts | AzureFailure | None,
    application: ApplicationFacts | AzureFailure | None,
) -> tuple[ManagedIdentityFacts | AzureFailure, ApplicationFacts | AzureFailure]:
    """Read what the registrar did not, as the managed identity."""
    if managed is None:
        managed = await read_managed_identity(context.session, chain, identity.spec.managed_identity.resource_id)
    if application is None:
        application = await read_application(context.session, chain)
    return managed, application


def _affects_dependents(identity: FederatedIdentity, status: FederatedIdentityStatus) -> bool:
    """Whether the manifest or the ids changed, on which all dependent objects rely."""
    after = identity.model_copy(update={"status": status})
    return (
        identity.status.observed_generation != identity.metadata.generation
        or identity.application_client_id != after.application_client_id
        or identity.managed_identity_client_id != after.managed_identity_client_id
    )


async def _record_events(context: IdentityContext, identity: FederatedIdentity, status: FederatedIdentityStatus) -> None:
    """Record an event when a registration ends or waits for somebody, or when the identity is observed again."""
    if was_seen_again(identity.status.conditions, status.conditions):
        await tell_seen_again(context.reporting, identity)
        return
    if not identity.spec.registers:
        return
    before, after = (
        find(identity.status.conditions, ConditionType.REGISTERED),
        find(status.conditions, ConditionType.REGISTERED),
    )
    if after is None or (before is not None and before.reason == after.reason):
        return
    stalled = find(status.conditions, ConditionType.STALLED) is not None
    await context.reporting.events.record(
        identity, "Warning" if stalled else "Normal", after.known_reason, after.message, "Register"
    )


def _next(
    context: IdentityContext,
    status: FederatedIdentityStatus,
    outcome: RegistrationOutcome | None,
    failure: AzureFailure | Fault | None,
) -> Next:
    fault = outcome.fault if outcome is not None else None
    registered = find(status.conditions, ConditionType.REGISTERED)
    if fault is not None and registered is not None and registered.status == "False":
        # The same pass also checks what is registered, so never wait longer than for a regular pass.
        backoff = (BUSY if fault.kind is FaultKind.BUSY else BLOCKED).within(context.intervals.identity_check)
        return Next(after=fault.retry_after, backoff=backoff)
    authenticated = find(status.conditions, ConditionType.AUTHENTICATED)
    if authenticated is not None and authenticated.reason == Reason.SETTLING:
        return Next(backoff=BUSY)
    return Next(after=jittered(context.intervals.identity_check if failure is None else context.intervals.key_check))
