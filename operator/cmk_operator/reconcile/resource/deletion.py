"""Handles the deletion of a manifest: Orphan changes nothing in Azure; RevertToPlatformKey reverts first, held by a finalizer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.azure.call_budget import changes_only_if
from cmk_operator.core.encryption.decide import KeyState, NextAction, decide_deletion
from cmk_operator.core.encryption.protection import text_in_force
from cmk_operator.core.faults.azure_failure import CHANGE_WITHDRAWN, AzureFailure
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.schedule import BUSY, Next
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.providers.protocol import Started, is_readable
from cmk_operator.reconcile.audit import key_change_started
from cmk_operator.reconcile.collaborators.cluster import WAKE_KEY_AFTER
from cmk_operator.reconcile.collaborators.revert_finalizer import FINALIZER, set_finalizer
from cmk_operator.reconcile.references import is_claimed_by_another
from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource, is_still_admitted, own_version, probe_again
from cmk_operator.reconcile.resource.operation import poll_operation
from cmk_operator.reconcile.resource.outcome import CallRefused, Obstructed, Waiting
from cmk_operator.reconcile.resource.report import effective_resource_policy

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.providers.protocol import ResourceFacts
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.resource.context import ResourceContext
    from cmk_operator.reconcile.resource.outcome import ResourceOutcome


async def sync_finalizer(cluster: Cluster, resource: EncryptedResource) -> EncryptedResource:
    """Set the operator's finalizer exactly while deleting the manifest requires a write to Azure."""
    effective = effective_resource_policy(resource)
    needed = effective.deletion_policy == "RevertToPlatformKey" and effective.mode == "Enforce"
    present = FINALIZER in resource.metadata.finalizers
    deleting = resource.metadata.deletion_timestamp is not None
    if needed == present or (deleting and not present):
        return resource
    finalizers = await set_finalizer(cluster, resource, present=needed)
    if not needed:
        cluster.wake(
            ObjectReference(CustomerManagedKey.plural, resource.metadata.namespace or "", resource.spec.key_ref.name), 0.0
        )
    return resource.model_copy(update={"metadata": resource.metadata.model_copy(update={"finalizers": finalizers})})


async def delete(context: ResourceContext, admitted: AdmittedResource) -> ResourceOutcome | Next:
    """Revert to the platform key if the manifest says so and the key is accessible, then release the manifest.

    Returns an outcome to report if something blocks the deletion, or else when to run the next pass.
    """
    polled = await poll_operation(admitted, context.intervals.drift_check, context.reporting.now())
    if not isinstance(polled, AdmittedResource):
        return polled
    admitted = polled
    path = admitted.path
    seen = await admitted.observe(0.0)
    gone = isinstance(seen, AzureFailure) and seen.code.lower() in {"resourcenotfound", "resourcegroupnotfound"}
    if isinstance(seen, AzureFailure) and not gone:
        return CallRefused(admitted.judge(seen), None)
    facts = None if isinstance(seen, AzureFailure) else seen
    state = KeyState(None)
    if facts is not None:
        # Record the result of an operation now: once the finalizer is removed, nothing else shows it.
        await context.authorship.of(admitted.resource, facts.protection, path.path.key_uri)
    probed_at = context.reporting.now()
    if facts is not None and own_version(admitted, facts) is not None:
        probe, state = await probe_again(admitted, facts)
        probed_at = probe.at
    decision = decide_deletion(
        revert=effective_resource_policy(admitted.resource).deletion_policy == "RevertToPlatformKey",
        protection=facts.protection if facts is not None else None,
        on_our_key=facts is not None and own_version(admitted, facts) is not None,
        claimed=is_claimed_by_another(context.cluster.inventory, admitted.resource, path.target),
        key=state,
    )
    if decision.action is NextAction.WAIT and facts is not None:
        message = f"the manifest is being deleted, and the resource must revert first; {decision.message}"
        return Waiting(Reason.REVERT_WAITS_FOR_KEY, message, facts, keeps_key=True)
    if decision.action is NextAction.REVERT and facts is not None:
        unfinished = await _revert(context, admitted, facts, probed_at)
        if unfinished is not None:
            return unfinished
    await context.reporting.journal.settled(admitted.resource.metadata.uid)
    await set_finalizer(context.cluster, admitted.resource, present=False)
    context.cluster.wake(reference_of(path.key), WAKE_KEY_AFTER)
    return Next()


async def _revert(
    context: ResourceContext, admitted: AdmittedResource, facts: ResourceFacts[Any], probed_at: datetime
) -> ResourceOutcome | Next | None:
    """Send the next request of the revert; None once the resource is on its platform key."""
    plan = admitted.provider.plan_revert(admitted.target, facts)
    if plan is None:
        return None
    if isinstance(plan, Fault):
        return Obstructed(with_deletion_hint(plan), facts)
    with changes_only_if(partial(is_still_admitted, admitted, probed_at, context.reporting.now)):
        answer = await admitted.provider.apply(admitted.path.path.chain, admitted.target, plan)
    if isinstance(answer, AzureFailure):
        withdrawn = answer.code == CHANGE_WITHDRAWN
        return Next(backoff=BUSY) if withdrawn else CallRefused(admitted.judge(answer), facts)
    old = text_in_force(facts.protection) or ""
    if isinstance(answer, Started):
        context.reporting.journal.note(key_change_started(admitted.resource, old, answer.operation, context.reporting.now()))
        return admitted.operating(answer.operation, answer.retry_after, facts)
    if not is_readable(answer.facts):
        context.authorship.sent(admitted.resource, answer.request_id)
    elif text_in_force(answer.facts.protection) != old:
        context.authorship.made(admitted.resource, old, answer.facts.protection, answer.request_id)
    return None if admitted.provider.plan_revert(admitted.target, answer.facts) is None else Next(backoff=BUSY)


def with_deletion_hint(fault: Fault) -> Fault:
    """Add to a fault how to finish the deletion that it blocks."""
    hint = (
        "this blocks the deletion of the manifest, because the resource must revert first: to delete it without a revert, the platform "
        "engineer must set spec.deletionPolicy to Orphan"
    )
    return replace(fault, message=f"{fault.message}; {hint}")
