"""Reconciles an `EncryptedResource`: observes, decides, and writes only what was just proven safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from cmk_operator.api.conditions import awaited, find, is_awaited
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource, EncryptedResourceStatus, TargetReport
from cmk_operator.core.access.state import Access, AccessState
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.encryption.coverage import NOT_READ
from cmk_operator.core.encryption.decide import KeyState, NextAction, decide
from cmk_operator.core.encryption.protection import key_in_force
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault, FaultKind
from cmk_operator.core.faults.reason import EventReason, Reason
from cmk_operator.core.notification import NotificationType
from cmk_operator.core.schedule import BLOCKED, BUSY, Backoff, Next
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.providers.registry import unsupported
from cmk_operator.reconcile.collaborators.cluster import WAKE_KEY_AFTER
from cmk_operator.reconcile.collaborators.intervals import LIST_MAX_AGE, jittered
from cmk_operator.reconcile.collaborators.revert_finalizer import FINALIZER, hold
from cmk_operator.reconcile.collaborators.seen_again import tell_seen_again, was_seen_again
from cmk_operator.reconcile.collaborators.wake import is_requested
from cmk_operator.reconcile.notifications.announcements import announce_resource, encryption_changed
from cmk_operator.reconcile.notifications.delivery import wake_delivery
from cmk_operator.reconcile.references import resolve_resource
from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource, choice_of
from cmk_operator.reconcile.resource.change import write_key
from cmk_operator.reconcile.resource.contentions import known_contention
from cmk_operator.reconcile.resource.deletion import delete, sync_finalizer, with_deletion_hint
from cmk_operator.reconcile.resource.operation import poll_operation
from cmk_operator.reconcile.resource.outcome import (
    CallRefused,
    Obstructed,
    Operating,
    OperationUnknown,
    Planned,
    Refused,
    ResourceOutcome,
    Settled,
    Waiting,
    facts_of,
)
from cmk_operator.reconcile.resource.report import effective_resource_policy, resource_status
from cmk_operator.reconcile.resource.targets import target_of

if TYPE_CHECKING:
    from cmk_operator.core.encryption.contention import Contention
    from cmk_operator.core.encryption.coverage import PartsSeen
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.providers.protocol import Provider, ResourceFacts
    from cmk_operator.reconcile.resource.authorship import OwnChange
    from cmk_operator.reconcile.resource.context import ResourceContext


async def reconcile_resource(context: ResourceContext, reference: ObjectReference) -> Next:
    """Make the next change that a manifest needs, and report."""
    resource = context.cluster.inventory.get(EncryptedResource, reference.name, reference.namespace)
    if resource is None:
        context.authorship.gone(reference)
        context.part_readings.forget(reference)
        context.contentions.forget(reference)
        return Next()
    resource = await sync_finalizer(context.cluster, resource)
    if resource.metadata.deletion_timestamp is not None and FINALIZER not in resource.metadata.finalizers:
        return Next()
    target = resource.spec.target
    provider = context.providers.get(target.resource_type)
    if provider is None:
        shown = TargetReport(kind=target.shown_type, name=target.shown_name)
        return await _finish(context, resource, shown, None, Refused(unsupported(target, context.providers)))
    path = resolve_resource(context.cluster.inventory, resource)
    if isinstance(path, Fault):
        return await _refuse(context, resource, provider, path)
    if FINALIZER in resource.metadata.finalizers:
        await hold(context.cluster, path.key, path.path.tenant, path.path.identity)
    admitted_target = await target_of(context.cluster.client, provider, resource, path)
    if isinstance(admitted_target, Fault):
        return await _refuse(context, resource, provider, admitted_target)
    admitted = AdmittedResource(context.cluster, context.reading, resource, path, provider, admitted_target)
    outcome = await (
        delete(context, admitted) if resource.metadata.deletion_timestamp is not None else _reconcile_live(context, admitted)
    )
    if outcome is None:
        return Next(backoff=BUSY)
    if isinstance(outcome, Next):
        return outcome
    seen = facts_of(outcome)
    own = await context.authorship.of(resource, seen.protection, path.path.key_uri) if seen is not None else None
    parts = await _parts(context, admitted, seen)
    contention = context.contentions.after(resource, outcome, choice_of(path, None))
    return await _finish(context, resource, admitted.shown, path.key, outcome, own, parts=parts, contention=contention)


async def _parts(context: ResourceContext, admitted: AdmittedResource, seen: ResourceFacts[Any] | None) -> PartsSeen:
    """What is known of the parts of a resource that is on its key; they are read when that is due, or needed now."""
    resource = admitted.resource
    on = key_in_force(seen.protection) if seen is not None else None
    if seen is None or on is None or on.versionless != admitted.path.path.key_uri.versionless:
        return NOT_READ
    covered = find(resource.status.conditions, ConditionType.DATA_COVERED)
    known = {Reason.ALL_DATA_COVERED, Reason.DATA_NOT_COVERED, Reason.COVERAGE_NOT_SHOWN}
    needed = bool(resource.spec.require_full_coverage) and (covered is None or covered.known_reason not in known)
    return await context.part_readings.of(admitted, seen, now=needed or _is_requested_again(resource))


def _is_requested_again(resource: EncryptedResource) -> bool:
    """Whether an annotation requests this reconcile of a resource that was reconciled before."""
    return is_requested(resource) and resource.status.observed_generation >= 0


async def _refuse(context: ResourceContext, resource: EncryptedResource, provider: Provider[Any, Any], fault: Fault) -> Next:
    """Report a manifest that is refused before any call to the service."""
    key = context.cluster.inventory.get(CustomerManagedKey, resource.spec.key_ref.name, resource.metadata.namespace or "")
    if resource.metadata.deletion_timestamp is not None:
        fault = with_deletion_hint(fault)
    else:
        fault = awaited(fault, resource.status.conditions, context.reporting.now(), context.intervals.reference_grace)
    shown = TargetReport(kind=provider.kind.shown, name=resource.spec.target.shown_name)
    return await _finish(context, resource, shown, key, Refused(fault))


async def _reconcile_live(context: ResourceContext, admitted: AdmittedResource) -> ResourceOutcome | None:
    """Poll a running operation, observe, and write if a change is due and allowed; None if the pass must be repeated."""
    polled = await poll_operation(admitted, context.intervals.drift_check, context.reporting.now())
    if not isinstance(polled, AdmittedResource):
        return polled
    return await _observe_and_write(context, polled, fresh=admitted.resource.status.operation is not None)


async def _observe_and_write(context: ResourceContext, admitted: AdmittedResource, *, fresh: bool) -> ResourceOutcome | None:
    resource, path = admitted.resource, admitted.path
    read_anew = fresh or _is_requested_again(resource)
    seen = await admitted.observe(0.0 if read_anew else context.intervals.drift_check * LIST_MAX_AGE)
    if isinstance(seen, AzureFailure):
        return CallRefused(admitted.judge(seen), None)
    plan = admitted.provider.plan(admitted.target, choice_of(path, None), seen)
    if isinstance(plan, Fault):
        return Obstructed(plan, seen)
    decision = decide(
        change_is_due=plan is not None,
        observe_only=effective_resource_policy(resource).mode == "Observe",
        key=_key_state(path.key),
    )
    if decision.action is NextAction.WRITE:
        return await write_key(context, admitted, seen if read_anew else None)
    return admitted.unwritten(decision, plan, seen)


def _key_state(key: CustomerManagedKey) -> KeyState:
    """The key's state from its own status; a write probes the key again before it relies on this."""
    status = key.status
    if status.access is None or status.observed_generation != key.metadata.generation:
        return KeyState(None)
    active = next((entry for entry in status.versions if entry.version == status.active_version), None)
    accessible = find(status.conditions, ConditionType.KEY_ACCESSIBLE)
    state = AccessState.read(status.access.state)
    if active is not None and active.access == AccessState.ACCESSIBLE.value:
        state = AccessState.ACCESSIBLE
    access = Access(state, accessible.message if accessible is not None else "")
    met = find(status.conditions, ConditionType.PREREQUISITES_MET)
    if met is not None and met.status == "False":
        return KeyState(access, met.known_reason, met.message)
    return KeyState(access)


async def _finish(
    context: ResourceContext,
    resource: EncryptedResource,
    target: TargetReport,
    key: CustomerManagedKey | None,
    outcome: ResourceOutcome,
    own: OwnChange | None = None,
    *,
    parts: PartsSeen = NOT_READ,
    contention: Contention | None = None,
) -> Next:
    audience = context.deliveries.audience(context.cluster.inventory, resource, key)
    now = context.reporting.now()
    status = resource_status(
        resource,
        outcome,
        now,
        target=target,
        key=key,
        own=own,
        parts=parts,
        contention=contention or known_contention(resource),
    )
    status = announce_resource(resource, status, audience, context.reporting.now())
    written = await context.reporting.writer.write(resource, status, context.reporting.now() if _is_seen(outcome) else None)
    wake_delivery(context.cluster, resource, status.notifications)
    context.authorship.reported(reference_of(resource))
    context.contentions.forget(reference_of(resource))
    if written:
        await _record_events(context, resource, status, own)
        if key is not None and _changes_key_users(resource.status, status):
            _wake_key(context, key, status)
    return _next(outcome, context.intervals.drift_check)


def _is_seen(outcome: ResourceOutcome) -> bool:
    """Whether the service returned anything about the resource; the poll of an operation counts."""
    return facts_of(outcome) is not None or (isinstance(outcome, Operating) and outcome.not_visible is None)


def _changes_key_users(before: EncryptedResourceStatus, after: EncryptedResourceStatus) -> bool:
    """Whether the change alters the users that the key's status reports."""
    old = before.applied.key_uri if before.applied is not None else None
    new = after.applied.key_uri if after.applied is not None else None
    return before.observed_generation < 0 or old != new


def _wake_key(context: ResourceContext, key: CustomerManagedKey, status: EncryptedResourceStatus) -> None:
    """Enqueue the key to count its users; if the resource is on the active version, the count can wait for others."""
    reference = reference_of(key)
    on_active = status.applied is not None and status.applied.version == key.status.active_version
    context.cluster.wake(reference, context.user_counts.due(reference) if on_active else WAKE_KEY_AFTER)


def _next(outcome: ResourceOutcome, drift_check: float) -> Next:
    match outcome:
        case Operating():
            return Next(after=outcome.poll_after)
        case Waiting() if outcome.seconds is not None:
            return Next(after=min(outcome.seconds, jittered(drift_check)))
        case Settled() | Planned() | Waiting():
            return Next(after=jittered(drift_check))
        case Refused(fault) if fault.awaited:
            return Next(after=fault.retry_after)
        case Refused(fault):
            # Only Kubernetes objects decide this, and each change to one enqueues the resource. The slow pass covers a missed event.
            slowly = Next(after=jittered(drift_check))
            return Next(after=fault.retry_after, backoff=BUSY) if fault.kind is FaultKind.BUSY else slowly
        case CallRefused(fault) if fault.reason in _UNREAD:
            # As for `Obstructed`: the next read shows when this ends.
            return Next(after=fault.retry_after, backoff=_backoff(fault).within(drift_check))
        case CallRefused(fault) | OperationUnknown(fault):
            return Next(after=fault.retry_after, backoff=_backoff(fault))
        case Obstructed(fault):
            # Reading the resource shows when this ends, so never wait longer than for a regular pass.
            soon = min(fault.retry_after, drift_check) if fault.retry_after else None
            return Next(after=soon, backoff=_backoff(fault).within(drift_check))


_UNREAD: Final = frozenset({Reason.UNREADABLE, Reason.SNOWFLAKE_ANSWER_NOT_UNDERSTOOD})
"""Reasons of an answer that does not say what protects the resource."""


def _backoff(fault: Fault) -> Backoff:
    return BUSY if fault.kind is FaultKind.BUSY else BLOCKED


async def _record_events(
    context: ResourceContext, resource: EncryptedResource, status: EncryptedResourceStatus, own: OwnChange | None
) -> None:
    """Record one event for each change; the event on active encryption also names the key."""
    encryption = encryption_changed(resource.status, status)
    encrypted = find(status.conditions, ConditionType.ENCRYPTED)
    if encryption is not None and encrypted is not None:
        active = encryption is NotificationType.ENCRYPTION_ACTIVE
        reason = EventReason.ENCRYPTION_ACTIVE if active else EventReason.ENCRYPTION_INACTIVE
        await context.reporting.events.record(
            resource, "Normal" if active else "Warning", reason, encrypted.message, "Reconcile"
        )
    elif own is None and was_seen_again(resource.status.conditions, status.conditions):
        await tell_seen_again(context.reporting, resource)
    elif own is not None and own.key_uri:
        await context.reporting.events.record(
            resource, "Normal", EventReason.KEY_APPLIED, f"the operator put the resource on {own.key_uri}", "ApplyKey"
        )
    lost, accessible = resource.status.access, find(status.conditions, ConditionType.KEY_ACCESSIBLE)
    if lost is not None and status.access is None and accessible is not None and accessible.status == "True":
        machines = f" ({', '.join(lost.virtual_machines)})" if lost.virtual_machines else ""
        await context.reporting.events.record(
            resource, "Normal", EventReason.KEY_RESTORED, f"{accessible.message}; {lost.recovery}{machines}", "Reconcile"
        )
    before, after = find(resource.status.conditions, ConditionType.READY), find(status.conditions, ConditionType.READY)
    if after is None or after.reason == Reason.READY or is_awaited(status.conditions, after.reason):
        return  # Nobody is told of what is still on its way.
    if before is None or before.reason != after.reason or is_awaited(resource.status.conditions, after.reason):
        kind: Literal["Normal", "Warning"] = (
            "Warning" if find(status.conditions, ConditionType.STALLED) is not None else "Normal"
        )
        await context.reporting.events.record(resource, kind, after.known_reason, after.message, "Reconcile")
