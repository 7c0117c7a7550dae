"""What the deletion of a manifest does in Azure: nothing under Orphan; a revert, held by our finalizer, where it says so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.encryption.decide import KeyState, NextAction, decide_deletion
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.schedule import BUSY, Next
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.providers.protocol import Started
from cmk_operator.reconcile.audit import key_change_started
from cmk_operator.reconcile.collaborators.cluster import WAKE_KEY_AFTER
from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource, own_version, probe_again, reread
from cmk_operator.reconcile.resource.operation import ask_after_operation
from cmk_operator.reconcile.resource.outcome import CallRefused, Obstructed, Waiting
from cmk_operator.reconcile.resource.report import effective_resource_policy

if TYPE_CHECKING:
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.providers.protocol import ResourceFacts
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.resource.context import ResourceContext
    from cmk_operator.reconcile.resource.outcome import ResourceOutcome

FINALIZER: Final = "cmk-operator.dev/revert-to-platform-key"


async def keep_finalizer_honest(cluster: Cluster, resource: EncryptedResource) -> EncryptedResource:
    """Our finalizer is there exactly while deleting the manifest must write to Azure."""
    effective = effective_resource_policy(resource)
    needed = effective.deletion_policy == "RevertToPlatformKey" and effective.mode == "Enforce"
    present = FINALIZER in resource.metadata.finalizers
    deleting = resource.metadata.deletion_timestamp is not None
    if needed == present or (deleting and not present):
        return resource
    return await _set_finalizer(cluster, resource, present=needed)


async def _set_finalizer(cluster: Cluster, resource: EncryptedResource, *, present: bool) -> EncryptedResource:
    reference = reference_of(resource)
    answer = await cluster.client.apply_finalizers(
        reference, type(resource).__name__, resource.metadata.uid, (FINALIZER,) if present else ()
    )
    if "deletionTimestamp" in answer["metadata"] and not answer["metadata"].get("finalizers"):
        # The API server answers a removal that ended the object with its last state.
        cluster.inventory.remove(reference, resource.metadata.uid)
        cluster.wake(reference, 0.0)
    else:
        cluster.put_answer(reference, answer)
    return resource.model_copy(
        update={
            "metadata": resource.metadata.model_copy(update={"finalizers": tuple(answer["metadata"].get("finalizers", ()))})
        }
    )


async def delete(context: ResourceContext, admitted: AdmittedResource) -> ResourceOutcome | Next:
    """Revert to a key of Microsoft if the manifest says so and the key is there, then let the manifest go.

    An outcome is to be reported, because something is in the way; else the next wish.
    """
    asked = await ask_after_operation(admitted, context.intervals.drift_check)
    if not isinstance(asked, AdmittedResource):
        return asked
    admitted = asked
    path = admitted.path
    seen = await admitted.observe(0.0)
    gone = isinstance(seen, AzureFailure) and seen.code.lower() in {"resourcenotfound", "resourcegroupnotfound"}
    if isinstance(seen, AzureFailure) and not gone:
        return CallRefused(admitted.judge(seen), None)
    facts = None if isinstance(seen, AzureFailure) else seen
    state = KeyState(None)
    if facts is not None:
        # What an operation came to is recorded here: with the finalizer goes the last place that would show it.
        await context.authorship.of(admitted.resource, facts.protection, path.path.key_uri)
    if facts is not None and own_version(admitted, facts) is not None:
        _, state = await probe_again(admitted, facts)
    decision = decide_deletion(
        revert=effective_resource_policy(admitted.resource).deletion_policy == "RevertToPlatformKey",
        protection=facts.protection if facts is not None else None,
        on_our_key=facts is not None and own_version(admitted, facts) is not None,
        claimed=len(context.cluster.inventory.claims_on(path.target)) > 1,
        key=state,
    )
    if decision.action is NextAction.WAIT and facts is not None:
        message = f"the manifest is being deleted and reverts first; {decision.message}"
        return Waiting(Reason.REVERT_WAITS_FOR_KEY, message, facts, keeps_key=True)
    if decision.action is NextAction.REVERT and facts is not None:
        in_the_way = await _revert(context, admitted, facts)
        if in_the_way is not None:
            return in_the_way
    await context.reporting.journal.settled(admitted.resource.metadata.uid)
    await _set_finalizer(context.cluster, admitted.resource, present=False)
    context.cluster.wake(reference_of(path.key), WAKE_KEY_AFTER)
    return Next()


async def _revert(
    context: ResourceContext, admitted: AdmittedResource, facts: ResourceFacts[Any]
) -> ResourceOutcome | Next | None:
    """Send the next request of the revert; None when the resource is on a key of Microsoft."""
    if await reread(admitted) is None:
        return Next(backoff=BUSY)
    plan = admitted.provider.plan_revert(admitted.target, facts)
    if plan is None:
        return None
    if isinstance(plan, Fault):
        return Obstructed(on_the_way_out(plan), facts)
    answer = await admitted.provider.apply(admitted.path.path.chain, admitted.target, plan)
    if isinstance(answer, AzureFailure):
        return CallRefused(admitted.judge(answer), facts)
    old = facts.protection.active_key_text
    if isinstance(answer, Started):
        context.reporting.journal.note(key_change_started(admitted.resource, old, answer.operation, context.reporting.now()))
        return admitted.operating(answer.operation, answer.retry_after, facts)
    if answer.facts.protection.active_key_text != old:
        context.authorship.made(admitted.resource, old, answer.facts.protection, answer.request_id)
    return None if admitted.provider.plan_revert(admitted.target, answer.facts) is None else Next(backoff=BUSY)


def on_the_way_out(fault: Fault) -> Fault:
    """A fault in the way of a manifest that is being deleted, with the way to let it go."""
    escape = "the manifest is being deleted and reverts first: set spec.deletionPolicy to Orphan to let it go as it is"
    return replace(fault, message=f"{fault.message}; {escape}")
