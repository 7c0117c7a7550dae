"""Reconciles a `CustomerTenant`: checks whether the customer has consented, and still does."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from cmk_operator.api.conditions import Aspect, Progress, awaited, dated, find
from cmk_operator.api.customer_tenant import Consent, ConsentState, CustomerTenant, CustomerTenantStatus, HandoverStep
from cmk_operator.api.federated_identity import ApplicationHandover
from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.azure.identities import sign_in_to_customer
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.token_verdict import judge_token_failure, lets_nobody_in, may_be_replication
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.faults.reason import EventReason, Reason
from cmk_operator.core.identifiers.cloud import WITHOUT_REPLY_ADDRESS
from cmk_operator.core.schedule import Next
from cmk_operator.reconcile.audit import consent_changed
from cmk_operator.reconcile.collaborators.intervals import jittered
from cmk_operator.reconcile.collaborators.revert_finalizer import release_if_not_needed
from cmk_operator.reconcile.collaborators.seen_again import tell_seen_again, was_seen_again
from cmk_operator.reconcile.collaborators.wake import wake_below
from cmk_operator.reconcile.identity.loss import provider_lost_application
from cmk_operator.reconcile.identity.report import SETTLING
from cmk_operator.reconcile.notifications.delivery import notifications_delivered
from cmk_operator.reconcile.references import resolve_chain
from cmk_operator.reconcile.tenant.handover import handover_steps
from cmk_operator.reconcile.tenant.overlap import DISTINCT, scopes_distinct, wake_untold

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cmk_operator.api.federated_identity import FederatedIdentity
    from cmk_operator.core.access.state import Access
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.reconcile.tenant.context import TenantContext

_CONSENT: Final[Mapping[ConsentState, Reason]] = MappingProxyType(
    {
        "Granted": Reason.GRANTED,
        "Pending": Reason.PENDING,
        "Revoked": Reason.REVOKED,
        "Unknown": Reason.UNKNOWN,
    }
)


async def reconcile_tenant(context: TenantContext, reference: ObjectReference) -> Next:
    """Check one customer's consent and report."""
    tenant = context.cluster.inventory.get(CustomerTenant, reference.name)
    if tenant is None:
        wake_untold(context.cluster, reference, is_new=False)
        return Next()
    if await release_if_not_needed(context.cluster, context.reporting, tenant):
        return Next()
    resolved = resolve_chain(context.cluster.inventory, tenant)
    delivered = notifications_delivered(tenant, context.deliveries.state(tenant))
    distinct = scopes_distinct(context.cluster.inventory, tenant)
    failure: AzureFailure | None = None
    if isinstance(resolved, Fault):
        now = context.reporting.now()
        fault = awaited(resolved, tenant.status.conditions, now, context.intervals.reference_grace)
        status = refused_tenant_status(tenant, fault, delivered, now, distinct)
        # A change of the identity enqueues its tenants. The slow pass covers a missed event.
        wait = Next(after=fault.retry_after or jittered(context.intervals.identity_check))
    else:
        identity, chain = resolved
        failure = await sign_in_to_customer(context.session, chain, tenant.spec.tenant_id)
        handover = handover_steps(context.cluster.inventory, tenant, identity)
        consented = tenant.status.consent is not None and tenant.status.consent.state == "Granted"
        gone = await provider_lost_application(
            context.cluster, context.session, identity, chain, failure, consent_was_there=consented
        )
        status = tenant_status(
            tenant,
            identity,
            failure,
            delivered,
            context.reporting.now(),
            handover,
            application_missing=gone,
            distinct=distinct,
        )
        granted = status.consent is not None and status.consent.state == "Granted"
        wait = Next(after=jittered(context.intervals.identity_check if granted else context.intervals.key_check))
    change = consent_changed(tenant, status, failure.request_id if failure is not None else None, context.reporting.now())
    if change is not None:
        context.reporting.journal.note(change)
    consent = find(status.conditions, ConditionType.CONSENT_GRANTED)
    observed_at = context.reporting.now() if consent is not None and consent.status != "Unknown" else None
    if await context.reporting.writer.write(tenant, status, observed_at):
        await _record_event(context, tenant, status)
        changed = tenant.status.observed_generation != tenant.metadata.generation
        wake_below(context.cluster, reference, recursive=changed)
        if changed:
            wake_untold(context.cluster, reference, is_new=tenant.status.observed_generation < 0)
    return wait


async def _record_event(context: TenantContext, tenant: CustomerTenant, status: CustomerTenantStatus) -> None:
    before = tenant.status.consent.state if tenant.status.consent is not None else None
    after = status.consent.state if status.consent is not None else None
    if was_seen_again(tenant.status.conditions, status.conditions) and after == before:
        await tell_seen_again(context.reporting, tenant)
    overlaps, told = (find(one.conditions, ConditionType.SCOPES_DISTINCT) for one in (status, tenant.status))
    if overlaps is not None and overlaps.status == "False" and (told is None or told.status != "False"):
        await context.reporting.events.record(tenant, "Warning", Reason.SCOPES_OVERLAP, overlaps.message, "CompareScopes")
    if after == before or after is None:
        return
    kind: Literal["Normal", "Warning"] = "Warning" if after == "Revoked" else "Normal"
    note = f"consent of tenant {tenant.spec.tenant_id} is {after}"
    await context.reporting.events.record(tenant, kind, EventReason.of_consent(_CONSENT[after]), note, "CheckConsent")


def refused_tenant_status(
    tenant: CustomerTenant, fault: Fault, delivered: Aspect, now: datetime, distinct: Aspect = DISTINCT
) -> CustomerTenantStatus:
    """The status of a tenant whose identity does not exist or is not registered yet; pure."""
    aspects = (
        Aspect(ConditionType.READY, "False", fault.reason, fault.message),
        Aspect(ConditionType.CONSENT_GRANTED, "Unknown", fault.reason, "consent was not checked"),
        delivered,
        distinct,
    )
    generation = tenant.metadata.generation
    return tenant.status.model_copy(
        update={
            "observed_generation": generation,
            "conditions": dated(aspects, Progress.of(fault), tenant.status.conditions, generation, now),
            "last_handled_reconcile_at": tenant.metadata.annotations.get(RECONCILE_REQUESTED_AT),
        }
    )


def tenant_status(
    tenant: CustomerTenant,
    identity: FederatedIdentity,
    failure: AzureFailure | None,
    delivered: Aspect,
    now: datetime,
    handover: tuple[HandoverStep, ...] = (),
    *,
    application_missing: bool = False,
    distinct: Aspect = DISTINCT,
) -> CustomerTenantStatus:
    """The status after one attempt to sign in to the customer's tenant; pure."""
    before = tenant.status.consent
    spec = tenant.spec
    client_id = identity.application_client_id or ""
    application = identity.status.application
    if application is None or application.client_id.lower() != client_id:
        application = ApplicationHandover(client_id=client_id, display_name=identity.spec.application.display_name)
    url = identity.spec.endpoints.admin_consent_url(spec.tenant_id, client_id)
    settling = failure is not None and identity.settles(now) and may_be_replication(failure)
    access = judge_token_failure(failure, application_missing=application_missing) if failure is not None else None
    known = before.state if before is not None else None
    unwanted = failure is not None and lets_nobody_in(failure)
    state, aspect, progress = _judge(known, access, url, settling=settling, unwanted=unwanted)
    since = before.since if before is not None and before.state == state else now
    ready = Aspect(
        ConditionType.READY, aspect.status, Reason.READY if aspect.status == "True" else aspect.reason, aspect.message
    )
    generation = tenant.metadata.generation
    return CustomerTenantStatus(
        observed_generation=generation,
        conditions=dated((ready, aspect, delivered, distinct), progress, tenant.status.conditions, generation, now),
        last_handled_reconcile_at=tenant.metadata.annotations.get(RECONCILE_REQUESTED_AT),
        consent=Consent(state=state, url=url, since=since),
        application=application,
        handover=handover,
    )


def _judge(
    before: ConsentState | None, access: Access | None, url: str, *, settling: bool, unwanted: bool
) -> tuple[ConsentState, Aspect, Progress]:
    kind = ConditionType.CONSENT_GRANTED
    if access is None:
        return (
            "Granted",
            Aspect(kind, "True", Reason.GRANTED, "the application may sign in to the customer's tenant"),
            Progress(),
        )
    if access.state is AccessState.CONSENT_MISSING:
        state: ConsentState = "Revoked" if before in {"Granted", "Revoked"} else "Pending"
        verb = "withdrew its consent" if state == "Revoked" else "has not consented yet"
        message = f"the customer {verb}: the customer's administrator must open {url} and accept; {WITHOUT_REPLY_ADDRESS} ({access.message})"
        if unwanted:
            verb = "no longer lets the application in" if state == "Revoked" else "does not let the application in yet"
            message = f"the customer {verb}: {access.message}; the page of consent is {url}; {WITHOUT_REPLY_ADDRESS}"
        reason = _CONSENT[state]
        return state, Aspect(kind, "False", reason, message), Progress(stalled=True, reason=reason, message=message)
    if settling:
        message = f"consent was not checked: the identity {SETTLING}"
        aspect = Aspect(kind, "Unknown", Reason.SETTLING, message)
        return before or "Unknown", aspect, Progress(reconciling=True, reason=Reason.SETTLING, message=message)
    if access.state in {AccessState.UNKNOWN, AccessState.ENTRA_REFUSED, AccessState.OPERATOR_NOT_AUTHENTICATED}:
        # The attempt says nothing about the customer's consent, so the last known state stays.
        aspect = Aspect(kind, "Unknown", access.state.reason, access.message)
        waiting = access.state.reason.passes_by_itself
        progress = Progress(reconciling=waiting, stalled=not waiting, reason=access.state.reason, message=access.message)
        return before or "Unknown", aspect, progress
    aspect = Aspect(kind, "False", access.state.reason, access.message)
    return before or "Unknown", aspect, Progress(stalled=True, reason=access.state.reason, message=access.message)
