"""What the deletion of a manifest does in Azure: nothing under Orphan; a revert, held by our finalizer, where it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.core.arm_faults import judge_arm_failure
from cmk_operator.core.azure_failure import AzureFailure
from cmk_operator.core.decide import Decision, KeyState, Step, decide_deletion
from cmk_operator.core.schedule import BUSY, Next
from cmk_operator.kubernetes.status import reference_of, take_in
from cmk_operator.reconcile.context import WAKE_KEY_AFTER, Context
from cmk_operator.reconcile.resource_pass import audit, own_version, probe_again, reread
from cmk_operator.reconcile.resource_report import ResourceOutcome, effective_of

if TYPE_CHECKING:
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.reconcile.resource_pass import ResourcePass

FINALIZER: Final = "cmk-operator.dev/revert-to-platform-key"


async def keep_finalizer_honest(context: Context, resource: EncryptedResource) -> EncryptedResource:
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


async def delete(step: ResourcePass) -> ResourceOutcome | Next:
    """Revert to a key of Microsoft if the manifest says so and the key is there, then let the manifest go.

    An outcome is to be reported, because something is in the way; else the next wish.
    """
    context, path, provider = step.context, step.path, step.provider
    seen = await provider.observe(path.path.chain, path.target, max_age=0.0)
    gone = isinstance(seen, AzureFailure) and seen.code.lower() in {"resourcenotfound", "resourcegroupnotfound"}
    if isinstance(seen, AzureFailure) and not gone:
        return step.refused(judge_arm_failure(seen, path.target.name))
    facts = None if isinstance(seen, AzureFailure) else seen
    state = KeyState(None)
    if facts is not None and own_version(step, facts) is not None:
        _, state = await probe_again(step, facts)
    decision = decide_deletion(
        revert=effective_of(step.resource).deletion_policy == "RevertToPlatformKey",
        protection=facts.protection if facts is not None else None,
        on_our_key=facts is not None and own_version(step, facts) is not None,
        claimed=len(context.inventory.claims_on(path.target)) > 1,
        key=state,
    )
    if decision.step is Step.WAIT and facts is not None:
        waiting = Decision(
            Step.WAIT, "RevertWaitsForKey", f"the manifest is being deleted and reverts first; {decision.message}"
        )
        return ResourceOutcome(step.target, path.key, facts.protection, waiting)
    if decision.step is Step.REVERT and facts is not None:
        if await reread(step) is None:
            return Next(backoff=BUSY)
        plan = provider.plan_revert(facts)
        applied = await provider.apply(path.path.chain, path.target, plan) if plan is not None else None
        if isinstance(applied, AzureFailure):
            return step.refused(judge_arm_failure(applied, path.target.name), facts)
        if applied is not None:
            audit(step, "reverted to a key of Microsoft", facts, after=applied)
    await _set_finalizer(context, step.resource, present=False)
    context.wake(reference_of(path.key), WAKE_KEY_AFTER)
    return Next()
