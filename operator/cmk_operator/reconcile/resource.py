"""A pass over an `EncryptedResource`: observe, decide, and write only what has just been proven safe."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from cmk_operator.api.conditions import find
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource, EncryptedResourceStatus, TargetReport
from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.core.access import Access, AccessState
from cmk_operator.core.arm_faults import judge_arm_failure
from cmk_operator.core.arm_id import ArmId
from cmk_operator.core.azure_failure import AzureFailure
from cmk_operator.core.decide import KeyState, Step, decide
from cmk_operator.core.faults import Fault, FaultKind
from cmk_operator.core.schedule import BLOCKED, BUSY, Next
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.providers.registry import unsupported
from cmk_operator.reconcile.context import WAKE_KEY_AFTER, Context, Written, jittered
from cmk_operator.reconcile.references import resolve_resource
from cmk_operator.reconcile.resource_change import write_key
from cmk_operator.reconcile.resource_deletion import FINALIZER, delete, keep_finalizer_honest
from cmk_operator.reconcile.resource_pass import ResourcePass, choice_of
from cmk_operator.reconcile.resource_report import ResourceOutcome, effective_of, report

if TYPE_CHECKING:
    from cmk_operator.kubernetes.client import ObjectReference

_AUDIT: Final = logging.getLogger("cmk_operator.audit")


async def reconcile_resource(context: Context, reference: ObjectReference) -> Next:
    """Bring one resource nearer to its manifest, and report."""
    resource = context.inventory.get(EncryptedResource, reference.name, reference.namespace)
    if resource is None:
        context.unreported.pop(reference, None)
        return Next()
    resource = await keep_finalizer_honest(context, resource)
    if resource.metadata.deletion_timestamp is not None and FINALIZER not in resource.metadata.finalizers:
        return Next()
    target = ArmId(resource.spec.resource_id)
    provider = context.providers.get(target.resource_type)
    if provider is None:
        shown = TargetReport(kind=target.shown_type, name=target.name)
        return await _finish(context, resource, ResourceOutcome(shown, fault=unsupported(target, context.providers)))
    path = resolve_resource(context.inventory, resource)
    if isinstance(path, Fault):
        shown = TargetReport(kind=provider.shown_kind, name=target.name)
        key = context.inventory.get(CustomerManagedKey, resource.spec.key_ref.name, reference.namespace)
        return await _finish(context, resource, ResourceOutcome(shown, key, fault=_on_the_way_out(resource, path)))
    step = ResourcePass(context, resource, path, provider)
    if resource.metadata.deletion_timestamp is not None:
        ended = await delete(step)
        return ended if isinstance(ended, Next) else await _finish(context, resource, ended)
    outcome = await _keep(step)
    return await _finish(context, resource, outcome) if outcome is not None else Next(backoff=BUSY)


def _on_the_way_out(resource: EncryptedResource, fault: Fault) -> Fault:
    if resource.metadata.deletion_timestamp is None:
        return fault
    escape = "the manifest is being deleted and reverts first: set spec.deletionPolicy to Orphan to let it go as it is"
    return replace(fault, message=f"{fault.message}; {escape}")


async def _keep(step: ResourcePass) -> ResourceOutcome | None:
    """Observe, and write if that is due and allowed; None when the manifest changed meanwhile and a new pass is due."""
    context, resource, path, provider = step.context, step.resource, step.path, step.provider
    max_age = 0.0 if _asked(resource) and resource.status.applied is not None else context.intervals.drift_check * 0.85
    seen = await provider.observe(path.path.chain, path.target, max_age=max_age)
    if isinstance(seen, AzureFailure):
        return step.refused(judge_arm_failure(seen, path.target.name))
    plan = provider.plan(choice_of(path, ""), seen)
    decision = decide(
        change_is_due=plan is not None,
        observe_only=effective_of(resource).mode == "Observe",
        key=_key_state(path.key),
    )
    outcome = ResourceOutcome(step.target, path.key, seen.protection, decision, plan)
    return await write_key(step) if decision.step is Step.WRITE else outcome


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


def _asked(resource: EncryptedResource) -> bool:
    requested = resource.metadata.annotations.get(RECONCILE_REQUESTED_AT)
    return (
        resource.status.observed_generation != resource.metadata.generation
        or requested != resource.status.last_handled_reconcile_at
    )


async def _finish(context: Context, resource: EncryptedResource, outcome: ResourceOutcome) -> Next:
    outcome = _attributed(context, reference_of(resource), outcome)
    status = report(resource, outcome, context.now())
    written = await context.writer.write(resource, status)
    context.unreported.pop(reference_of(resource), None)
    if written:
        await _tell(context, resource, status, outcome)
        if outcome.key is not None and _counts_anew(resource.status, status):
            context.wake(reference_of(outcome.key), WAKE_KEY_AFTER)
    return _next(context, outcome)


def _attributed(context: Context, reference: ObjectReference, outcome: ResourceOutcome) -> ResourceOutcome:
    """A change that this process made in an earlier pass, whose status did not land, is its own."""
    shown = str(outcome.protection.active_key_uri) if outcome.protection is not None else ""
    if outcome.written_by_us:
        context.unreported[reference] = Written(shown, outcome.request_id)
        return outcome
    own = context.unreported.get(reference)
    return (
        replace(outcome, written_by_us=True, request_id=own.request_id) if own is not None and own.key_uri == shown else outcome
    )


def _counts_anew(before: EncryptedResourceStatus, after: EncryptedResourceStatus) -> bool:
    """Whether the key's own account of who uses it changes."""
    old = before.applied.key_uri if before.applied is not None else None
    new = after.applied.key_uri if after.applied is not None else None
    return before.observed_generation < 0 or old != new


def _next(context: Context, outcome: ResourceOutcome) -> Next:
    fault = outcome.fault
    if fault is None:
        return Next(after=jittered(context.intervals.drift_check))
    if fault.kind is FaultKind.BUSY:
        return Next(after=fault.retry_after, backoff=BUSY)
    if not outcome.refused_by_azure:
        # Kubernetes objects alone decide this and each change of one wakes the resource; the slow pass is a second net.
        return Next(after=jittered(context.intervals.drift_check))
    return Next(after=fault.retry_after, backoff=BLOCKED)


async def _tell(
    context: Context, resource: EncryptedResource, status: EncryptedResourceStatus, outcome: ResourceOutcome
) -> None:
    before, after = find(resource.status.conditions, "Ready"), find(status.conditions, "Ready")
    if after is not None and (before is None or before.reason != after.reason) and after.reason != "Ready":
        kind: Literal["Normal", "Warning"] = "Warning" if find(status.conditions, "Stalled") is not None else "Normal"
        await context.events.record(resource, kind, after.reason, after.message, "Reconcile")
    if not outcome.written_by_us and resource.status.applied is not None and status.rotations != resource.status.rotations:
        rotation = status.rotations[0]
        _AUDIT.info(
            "key change found in Azure",
            extra={
                "resource": str(reference_of(resource)),
                "target": resource.spec.resource_id,
                "from": rotation.from_,
                "to": rotation.to,
                "why": "not made by this operator",
            },
        )
