"""A pass over an `EncryptedResource`: observe, decide, and write only what has just been proven safe."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.conditions import find
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource, EncryptedResourceStatus, TargetReport
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.core.access import Access, AccessState, KeyProbe
from cmk_operator.core.access_verdict import judge_access
from cmk_operator.core.arm_faults import judge_arm_failure
from cmk_operator.core.arm_id import ArmId
from cmk_operator.core.azure_failure import AzureFailure
from cmk_operator.core.decide import Decision, KeyState, Step, decide, decide_deletion, old_version_blocks
from cmk_operator.core.faults import Fault, FaultKind
from cmk_operator.core.key_verdict import judge_key_probe
from cmk_operator.core.prerequisites import check_prerequisites, failed
from cmk_operator.core.protection import KeyChoice
from cmk_operator.core.schedule import BLOCKED, BUSY, Next
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.status import reference_of, take_in
from cmk_operator.providers.registry import unsupported
from cmk_operator.reconcile.context import Context, Written, jittered
from cmk_operator.reconcile.key_report import effective_of as effective_key
from cmk_operator.reconcile.references import ResourcePath, resolve_resource
from cmk_operator.reconcile.resource_report import ResourceOutcome, effective_of, report

if TYPE_CHECKING:
    from cmk_operator.api.model import Metadata
    from cmk_operator.providers.protocol import Applied, Provider, ResourceFacts

FINALIZER: Final = "cmk-operator.dev/revert-to-platform-key"
PROBE_BEFORE_WRITE_MAX_AGE: Final = 60.0
"""Seconds: a key version counts as just probed for so long (law 1)."""
_WAKE_KEY_AFTER: Final = 2.0
"""Seconds in which many resources that moved wake their key only once."""
_LOG: Final = logging.getLogger(__name__)
_AUDIT: Final = logging.getLogger("cmk_operator.audit")


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass over one resource that is admitted and supported."""

    context: Context
    resource: EncryptedResource
    path: ResourcePath
    provider: Provider[Any]

    @property
    def target(self) -> TargetReport:
        return TargetReport(kind=self.provider.shown_kind, name=self.path.target.name)

    def refused(self, fault: Fault, facts: ResourceFacts[Any] | None = None) -> ResourceOutcome:
        return ResourceOutcome(
            self.target,
            self.path.key,
            protection=facts.protection if facts is not None else None,
            fault=fault,
            refused_by_azure=True,
        )


async def reconcile_resource(context: Context, reference: ObjectReference) -> Next:
    """Bring one resource nearer to its manifest, and report."""
    resource = context.inventory.get(EncryptedResource, reference.name, reference.namespace)
    if resource is None:
        context.unreported.pop(reference, None)
        return Next()
    resource = await _keep_finalizer_honest(context, resource)
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
    step = _Pass(context, resource, path, provider)
    if resource.metadata.deletion_timestamp is not None:
        return await _delete(step)
    outcome = await _keep(step)
    return await _finish(context, resource, outcome) if outcome is not None else Next(backoff=BUSY)


def _on_the_way_out(resource: EncryptedResource, fault: Fault) -> Fault:
    if resource.metadata.deletion_timestamp is None:
        return fault
    escape = "the manifest is being deleted and reverts first: set spec.deletionPolicy to Orphan to let it go as it is"
    return replace(fault, message=f"{fault.message}; {escape}")


async def _keep(step: _Pass) -> ResourceOutcome | None:
    """Observe, and write if that is due and allowed; None when the manifest changed meanwhile and a new pass is due."""
    context, resource, path, provider = step.context, step.resource, step.path, step.provider
    max_age = 0.0 if _asked(resource) and resource.status.applied is not None else context.intervals.drift_check * 0.85
    seen = await provider.observe(path.path.chain, path.target, max_age=max_age)
    if isinstance(seen, AzureFailure):
        return step.refused(judge_arm_failure(seen, path.target.name))
    plan = provider.plan(_choice(path, ""), seen)
    decision = decide(
        change_is_due=plan is not None,
        observe_only=effective_of(resource).mode == "Observe",
        key=_key_state(path.key),
    )
    outcome = ResourceOutcome(step.target, path.key, seen.protection, decision, plan)
    return await _write(step) if decision.step is Step.WRITE else outcome


async def _write(step: _Pass) -> ResourceOutcome | None:
    """Re-read all that a write must not be wrong about, probe the key through the same identity, then write once."""
    fresh = await _reread(step)
    if fresh is None:
        return None
    context, path, provider = fresh.context, fresh.path, fresh.provider
    seen = await provider.observe(path.path.chain, path.target, max_age=0.0)
    if isinstance(seen, AzureFailure):
        return fresh.refused(judge_arm_failure(seen, path.target.name))
    probe, key_state = await _probe(fresh, seen)
    version = probe.wanted.attributes.version if probe.wanted.attributes is not None else ""
    plan = provider.plan(_choice(path, version), seen)
    decision = decide(change_is_due=plan is not None, observe_only=False, key=key_state)
    outcome = ResourceOutcome(fresh.target, path.key, seen.protection, decision, plan)
    if decision.step is not Step.WRITE or plan is None:
        return outcome
    blocked = old_version_blocks(_old_version(fresh, seen, probe))
    if blocked is not None:
        return replace(outcome, decision=blocked)
    applied = await provider.apply(path.path.chain, path.target, plan)
    if isinstance(applied, AzureFailure):
        _LOG.warning(
            "Azure refused a change of key",
            extra={
                "object": str(reference_of(fresh.resource)),
                "target": path.target.text,
                "code": applied.code,
                "azureRequestId": applied.request_id,
            },
        )
        return fresh.refused(judge_arm_failure(applied, path.target.name), seen)
    _audit(fresh, "key changed", seen, after=applied)
    await context.events.record(
        fresh.resource, "Normal", "KeyApplied", f"Azure put the resource on {applied.facts.protection.key_uri}", "ApplyKey"
    )
    left = provider.plan(_choice(path, version), applied.facts)
    settled = decide(change_is_due=left is not None, observe_only=False, key=key_state)
    return ResourceOutcome(
        fresh.target,
        path.key,
        applied.facts.protection,
        settled if settled.step is Step.SETTLED else Decision(Step.WAIT, "NotTakenOver", "Azure has not taken the change over"),
        left,
        written_by_us=True,
        request_id=applied.request_id,
    )


async def _reread(step: _Pass) -> _Pass | None:
    """The same pass on what the API server says now; None when the manifest or what it rests on has changed meanwhile.

    What is gone is forgotten by the watch or a sweep, which wake all it concerns; till then the pass is repeated.
    """
    context, resource = step.context, step.resource
    reference, tenant = reference_of(resource), step.path.path.tenant
    identity = ObjectReference(FederatedIdentity.plural, "", tenant.spec.identity_ref.name)
    shared = (reference_of(step.path.key), reference_of(tenant), identity)
    bodies = await asyncio.gather(context.client.get(reference), *(context.client.get_shared(known) for known in shared))
    for known, body in zip((reference, *shared), bodies, strict=True):
        if body is None:
            return None
        take_in(context.inventory, known.plural, body, context.wake)
    now = context.inventory.get(EncryptedResource, reference.name, reference.namespace)
    if now is None or not _same(now.metadata, resource.metadata):
        context.wake(reference, 0.0)
        return None
    path = resolve_resource(context.inventory, now)
    if isinstance(path, Fault):
        context.wake(reference, 0.0)
        return None
    return replace(step, resource=now, path=path)


def _same(now: Metadata, before: Metadata) -> bool:
    return (now.uid, now.generation, now.deletion_timestamp) == (before.uid, before.generation, before.deletion_timestamp)


async def _probe(step: _Pass, seen: ResourceFacts[Any]) -> tuple[KeyProbe, KeyState]:
    """Probe the wanted version and the one that protects the resource now, through the same identity chain."""
    key, path = step.path.key, step.path.path
    old = _own_version(step, seen)
    probe = await step.context.prober.probe(path.probed, frozenset({old} if old else ()), PROBE_BEFORE_WRITE_MAX_AGE)
    access = judge_access(probe)
    known = key.status.access.state if key.status.access is not None else None
    if access.state.value != known:
        step.context.wake(reference_of(key), 0.0)
    if probe.wanted.attributes is None:
        return probe, KeyState(access)
    enforce = effective_key(key).prerequisites == "Enforce"
    broken = failed(check_prerequisites(probe.wanted.attributes, probe.at), enforce=enforce)
    if not broken:
        return probe, KeyState(access)
    return probe, KeyState(access, f"{broken[0].name}Failed", "; ".join(f"{entry.name}: {entry.message}" for entry in broken))


def _own_version(step: _Pass, seen: ResourceFacts[Any]) -> str | None:
    """The version of this very key that protects the resource now."""
    uri = seen.protection.active_key_uri
    return uri.version if uri is not None and uri.versionless == step.path.path.key_uri.versionless else None


def _old_version(step: _Pass, seen: ResourceFacts[Any], probe: KeyProbe) -> Access | None:
    old = _own_version(step, seen)
    return judge_key_probe(probe, {}).by_version.get(old) if old is not None else None


def _choice(path: ResourcePath, probed_version: str) -> KeyChoice:
    return KeyChoice(path.path.key_uri, probed_version, path.path.managed_identity, path.path.chain.application_client_id)


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


async def _keep_finalizer_honest(context: Context, resource: EncryptedResource) -> EncryptedResource:
    """Our finalizer is there exactly while deleting the manifest must write to Azure."""
    effective = effective_of(resource)
    needed = effective.deletion_policy == "RevertToPlatformKey" and effective.mode == "Enforce"
    present = FINALIZER in resource.metadata.finalizers
    deleting = resource.metadata.deletion_timestamp is not None
    if needed == present or (deleting and not present):
        return resource
    return await _set_finalizer(context, resource, present=needed)


async def _set_finalizer(context: Context, resource: EncryptedResource, *, present: bool) -> EncryptedResource:
    reference = reference_of(resource)
    answer = await context.client.apply_finalizers(
        reference, type(resource).__name__, resource.metadata.uid, (FINALIZER,) if present else ()
    )
    if "deletionTimestamp" in answer["metadata"] and not answer["metadata"].get("finalizers"):
        # The API server answers a removal that ended the object with its last state.
        context.inventory.remove(reference, resource.metadata.uid)
    else:
        take_in(context.inventory, reference.plural, answer, context.wake)
    return resource.model_copy(
        update={
            "metadata": resource.metadata.model_copy(update={"finalizers": tuple(answer["metadata"].get("finalizers", ()))})
        }
    )


async def _delete(step: _Pass) -> Next:
    """Revert to a key of Microsoft if the manifest says so and the key is there, then let the manifest go."""
    context, path, provider = step.context, step.path, step.provider
    seen = await provider.observe(path.path.chain, path.target, max_age=0.0)
    gone = isinstance(seen, AzureFailure) and seen.code.lower() in {"resourcenotfound", "resourcegroupnotfound"}
    if isinstance(seen, AzureFailure) and not gone:
        return await _finish(context, step.resource, step.refused(judge_arm_failure(seen, path.target.name)))
    facts = None if isinstance(seen, AzureFailure) else seen
    state = KeyState(None)
    if facts is not None and _own_version(step, facts) is not None:
        _, state = await _probe(step, facts)
    decision = decide_deletion(
        revert=effective_of(step.resource).deletion_policy == "RevertToPlatformKey",
        protection=facts.protection if facts is not None else None,
        on_our_key=facts is not None and _own_version(step, facts) is not None,
        claimed=len(context.inventory.claims_on(path.target)) > 1,
        key=state,
    )
    if decision.step is Step.WAIT and facts is not None:
        waiting = Decision(
            Step.WAIT, "RevertWaitsForKey", f"the manifest is being deleted and reverts first; {decision.message}"
        )
        return await _finish(context, step.resource, ResourceOutcome(step.target, path.key, facts.protection, waiting))
    if decision.step is Step.REVERT and facts is not None:
        if await _reread(step) is None:
            return Next(backoff=BUSY)
        plan = provider.plan_revert(facts)
        applied = await provider.apply(path.path.chain, path.target, plan) if plan is not None else None
        if isinstance(applied, AzureFailure):
            return await _finish(context, step.resource, step.refused(judge_arm_failure(applied, path.target.name), facts))
        if applied is not None:
            _audit(step, "reverted to a key of Microsoft", facts, after=applied)
    await _set_finalizer(context, step.resource, present=False)
    context.wake(reference_of(path.key), _WAKE_KEY_AFTER)
    return Next()


async def _finish(context: Context, resource: EncryptedResource, outcome: ResourceOutcome) -> Next:
    outcome = _attributed(context, reference_of(resource), outcome)
    status = report(resource, outcome, context.now())
    written = await context.writer.write(resource, status)
    context.unreported.pop(reference_of(resource), None)
    if written:
        await _tell(context, resource, status, outcome)
        if outcome.key is not None and _counts_anew(resource.status, status):
            context.wake(reference_of(outcome.key), _WAKE_KEY_AFTER)
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
        await context.events.record(resource, "Warning", after.reason, after.message, "Reconcile")
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


def _audit(
    step: _Pass,
    what: str,
    before: ResourceFacts[Any],
    after: Applied[Any],
) -> None:
    """One line for each change of a key, by law 8."""
    _AUDIT.info(
        what,
        extra={
            "resource": str(reference_of(step.resource)),
            "target": step.path.target.text,
            "from": str(before.protection.active_key_uri or "a key of Microsoft"),
            "to": str(after.facts.protection.active_key_uri or "a key of Microsoft"),
            "why": "the manifest says so",
            "azureRequestId": after.request_id,
        },
    )
