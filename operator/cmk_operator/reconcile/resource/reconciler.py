"""A pass over an `EncryptedResource`: observe, decide, and write only what has just been proven safe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from cmk_operator.api.conditions import find
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource, EncryptedResourceStatus, TargetReport
from cmk_operator.core.access.state import Access, AccessState
from cmk_operator.core.audit.change import OPERATOR, Event
from cmk_operator.core.encryption.decide import KeyState, Step, decide
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault, FaultKind
from cmk_operator.core.notification import NotificationType
from cmk_operator.core.schedule import BLOCKED, BUSY, Next
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.providers.registry import unsupported
from cmk_operator.reconcile.audit import key_change_found
from cmk_operator.reconcile.context import WAKE_KEY_AFTER, Context, Written, jittered
from cmk_operator.reconcile.notifications.announcements import announce_resource, encryption_changed
from cmk_operator.reconcile.notifications.delivery import wake_delivery
from cmk_operator.reconcile.references import resolve_resource
from cmk_operator.reconcile.resource.change import tell_changed, write_key
from cmk_operator.reconcile.resource.deletion import FINALIZER, delete, keep_finalizer_honest, on_the_way_out
from cmk_operator.reconcile.resource.operation import ask_after_operation
from cmk_operator.reconcile.resource.report import ResourceOutcome, effective_of, report
from cmk_operator.reconcile.resource.resource_pass import ResourcePass, choice_of
from cmk_operator.reconcile.resource.targets import target_of
from cmk_operator.reconcile.wake import is_asked_for

if TYPE_CHECKING:
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.providers.protocol import Provider


async def reconcile_resource(context: Context, reference: ObjectReference) -> Next:
    """Bring one resource nearer to its manifest, and report."""
    resource = context.inventory.get(EncryptedResource, reference.name, reference.namespace)
    if resource is None:
        context.unreported.pop(reference, None)
        return Next()
    resource = await keep_finalizer_honest(context, resource)
    if resource.metadata.deletion_timestamp is not None and FINALIZER not in resource.metadata.finalizers:
        return Next()
    target = resource.spec.target
    provider = context.providers.get(target.resource_type)
    if provider is None:
        shown = TargetReport(kind=target.shown_type, name=target.shown_name)
        return await _finish(context, resource, ResourceOutcome(shown, fault=unsupported(target, context.providers)))
    path = resolve_resource(context.inventory, resource)
    if isinstance(path, Fault):
        return await _refuse(context, resource, provider, path)
    aim = await target_of(context.client, resource, path)
    if isinstance(aim, Fault):
        return await _refuse(context, resource, provider, aim)
    step = ResourcePass(context, resource, path, provider, aim)
    if resource.metadata.deletion_timestamp is not None:
        ended = await delete(step)
        return ended if isinstance(ended, Next) else await _finish(context, resource, ended)
    outcome = await _keep(step)
    return await _finish(context, resource, outcome) if outcome is not None else Next(backoff=BUSY)


async def _refuse(context: Context, resource: EncryptedResource, provider: Provider[Any, Any], fault: Fault) -> Next:
    """Report what the manifest lacks before any call."""
    key = context.inventory.get(CustomerManagedKey, resource.spec.key_ref.name, resource.metadata.namespace or "")
    if resource.metadata.deletion_timestamp is not None:
        fault = on_the_way_out(fault)
    shown = TargetReport(kind=provider.kind.shown, name=resource.spec.target.shown_name)
    return await _finish(context, resource, ResourceOutcome(shown, key, fault=fault))


async def _keep(step: ResourcePass) -> ResourceOutcome | None:
    """Ask after what is under way, observe, and write if that is due and allowed; None when a new pass is due."""
    asked, operation = await ask_after_operation(step), step.resource.status.operation
    if operation is None or asked is None:
        return await _bring_nearer(step, fresh=False)
    if isinstance(asked, ResourceOutcome):
        return await _attribute(step, asked, operation.request_id)
    outcome = await _bring_nearer(asked, fresh=True)
    if outcome is None:
        return None
    return await _attribute(asked, replace(outcome, operation_ended=True), operation.request_id)


async def _bring_nearer(step: ResourcePass, *, fresh: bool) -> ResourceOutcome | None:
    context, resource, path = step.context, step.resource, step.path
    asked = fresh or (is_asked_for(resource) and resource.status.observed_generation >= 0)
    seen = await step.observe(0.0 if asked else context.intervals.drift_check * 0.85)
    if isinstance(seen, AzureFailure):
        return step.refused(seen)
    plan = step.provider.plan(step.target, choice_of(path, None), seen)
    if isinstance(plan, Fault):
        return step.obstructed(plan, seen)
    decision = decide(
        change_is_due=plan is not None,
        observe_only=effective_of(resource).mode == "Observe",
        key=_key_state(path.key),
    )
    if decision.step is Step.WRITE:
        return await write_key(step, seen if asked else None)
    keeps_key = plan is not None and plan.keeps_key and step.is_on_key(seen)
    return step.outcome(seen, decision=decision, plan=plan, keeps_key=keeps_key)


async def _attribute(step: ResourcePass, outcome: ResourceOutcome, request_id: str | None) -> ResourceOutcome:
    """Mark a change to the wanted key that shows since an operation was started, even while it runs, as this operator's own.

    What others did meanwhile, towards another key, is theirs.
    """
    before = step.resource.status.applied
    now = outcome.protection.active_key_uri if outcome.protection is not None else None
    old = before.key_uri if before is not None else ""
    if outcome.protection is None or now is None or str(now) == old or outcome.written_by_us:
        return outcome
    if now.versionless != step.path.path.key_uri.versionless:
        return outcome
    await tell_changed(step, old, outcome.protection, request_id)
    return replace(outcome, written_by_us=True, request_id=request_id)


def _key_state(key: CustomerManagedKey) -> KeyState:
    """What the key's own status says; a write never relies on it alone."""
    status = key.status
    if status.access is None or status.observed_generation != key.metadata.generation:
        return KeyState(None)
    active = next((entry for entry in status.versions if entry.version == status.active_version), None)
    accessible = find(status.conditions, "KeyAccessible")
    state = AccessState(status.access.state)
    if active is not None and active.access == AccessState.ACCESSIBLE.value:
        state = AccessState.ACCESSIBLE
    access = Access(state, accessible.message if accessible is not None else "")
    prerequisites = find(status.conditions, "PrerequisitesMet")
    if prerequisites is not None and prerequisites.status == "False":
        return KeyState(access, prerequisites.reason, prerequisites.message)
    return KeyState(access)


async def _finish(context: Context, resource: EncryptedResource, outcome: ResourceOutcome) -> Next:
    outcome = await _attributed(context, resource, outcome)
    audience = context.deliveries.audience(context.inventory, resource, outcome.key)
    status = announce_resource(resource, report(resource, outcome, context.now()), audience, context.now())
    _note_found(context, resource, status, outcome)
    written = await context.writer.write(resource, status)
    wake_delivery(context, resource, status.notifications)
    context.unreported.pop(reference_of(resource), None)
    if written:
        await _tell(context, resource, status)
        if outcome.key is not None and _counts_anew(resource.status, status):
            context.wake(reference_of(outcome.key), WAKE_KEY_AFTER)
    return _next(context, outcome)


async def _attributed(context: Context, resource: EncryptedResource, outcome: ResourceOutcome) -> ResourceOutcome:
    """A change that this operator made in an earlier pass, whose status did not land, is its own.

    This process remembers it; what one before it did is in the record, unless it was ended in that very moment.
    """
    reference = reference_of(resource)
    shown = str(outcome.protection.active_key_uri) if outcome.protection is not None else ""
    if outcome.written_by_us:
        context.unreported[reference] = Written(shown, outcome.request_id)
        return outcome
    own = context.unreported.get(reference)
    if own is not None and own.key_uri == shown:
        return replace(outcome, written_by_us=True, request_id=own.request_id)
    applied = resource.status.applied
    if outcome.protection is None or str(outcome.protection.active_key_uri or "") == (applied.key_uri if applied else ""):
        return outcome
    recorded = await context.journal.latest(resource.metadata.uid, Event.KEY_CHANGED.aspect)
    now = str(outcome.protection.active_key_uri or resource.platform_key)
    if recorded is None or (recorded.by, recorded.after) != (OPERATOR, now):
        return outcome
    return replace(outcome, written_by_us=True, request_id=recorded.request_id)


def _note_found(
    context: Context, resource: EncryptedResource, status: EncryptedResourceStatus, outcome: ResourceOutcome
) -> None:
    """Record a key that this operator did not put the resource on, be it the one that it is first seen on."""
    if not outcome.written_by_us and status.rotations != resource.status.rotations:
        context.journal.note(key_change_found(resource, status.rotations[0].to, context.now()))


def _counts_anew(before: EncryptedResourceStatus, after: EncryptedResourceStatus) -> bool:
    """Whether the key's own account of who uses it changes."""
    old = before.applied.key_uri if before.applied is not None else None
    new = after.applied.key_uri if after.applied is not None else None
    return before.observed_generation < 0 or old != new


def _next(context: Context, outcome: ResourceOutcome) -> Next:
    fault = outcome.fault
    if outcome.wait is not None:
        return Next(after=outcome.wait)
    if fault is None:
        return Next(after=jittered(context.intervals.drift_check))
    if fault.kind is FaultKind.BUSY:
        after = fault.retry_after
        return Next(after=min(after, context.intervals.drift_check) if outcome.obstacle and after else after, backoff=BUSY)
    if outcome.obstacle:
        return Next(after=min(fault.retry_after or 0.0, context.intervals.drift_check), backoff=BLOCKED)
    if not outcome.refused_by_azure:
        # Kubernetes objects alone decide this and each change of one wakes the resource; the slow pass is a second net.
        return Next(after=jittered(context.intervals.drift_check))
    return Next(after=fault.retry_after, backoff=BLOCKED)


async def _tell(context: Context, resource: EncryptedResource, status: EncryptedResourceStatus) -> None:
    encryption = encryption_changed(resource.status, status)
    encrypted = find(status.conditions, "Encrypted")
    if encryption is not None and encrypted is not None:
        active = encryption is NotificationType.ENCRYPTION_ACTIVE
        reason = "EncryptionActive" if active else "EncryptionInactive"
        await context.events.record(resource, "Normal" if active else "Warning", reason, encrypted.message, "Reconcile")
    lost, accessible = resource.status.access, find(status.conditions, "KeyAccessible")
    if lost is not None and status.access is None and accessible is not None and accessible.status == "True":
        shut = f" ({', '.join(lost.virtual_machines)})" if lost.virtual_machines else ""
        await context.events.record(
            resource, "Normal", "KeyRestored", f"{accessible.message}; {lost.recovery}{shut}", "Reconcile"
        )
    before, after = find(resource.status.conditions, "Ready"), find(status.conditions, "Ready")
    if after is not None and (before is None or before.reason != after.reason) and after.reason != "Ready":
        kind: Literal["Normal", "Warning"] = "Warning" if find(status.conditions, "Stalled") is not None else "Normal"
        await context.events.record(resource, kind, after.reason, after.message, "Reconcile")
