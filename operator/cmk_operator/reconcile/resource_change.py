"""Puts a resource on its key: one idempotent write, after everything it must not be wrong about was read again."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cmk_operator.core.arm_faults import judge_arm_failure
from cmk_operator.core.azure_failure import AzureFailure
from cmk_operator.core.decide import Decision, Step, decide, old_version_blocks
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.reconcile.resource_pass import audit, choice_of, old_version, probe_again, reread
from cmk_operator.reconcile.resource_report import ResourceOutcome

if TYPE_CHECKING:
    from cmk_operator.reconcile.resource_pass import ResourcePass

_LOG: Final = logging.getLogger(__name__)


async def write_key(step: ResourcePass) -> ResourceOutcome | None:
    """Re-read all that a write must not be wrong about, probe the key through the same identity, then write once."""
    fresh = await reread(step)
    if fresh is None:
        return None
    context, path, provider = fresh.context, fresh.path, fresh.provider
    seen = await provider.observe(path.path.chain, path.target, max_age=0.0)
    if isinstance(seen, AzureFailure):
        return fresh.refused(judge_arm_failure(seen, path.target.name))
    probe, key_state = await probe_again(fresh, seen)
    version = probe.wanted.attributes.version if probe.wanted.attributes is not None else ""
    plan = provider.plan(choice_of(path, version), seen)
    decision = decide(change_is_due=plan is not None, observe_only=False, key=key_state)
    outcome = ResourceOutcome(fresh.target, path.key, seen.protection, decision, plan)
    if decision.step is not Step.WRITE or plan is None:
        return outcome
    blocked = old_version_blocks(old_version(fresh, seen, probe))
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
    audit(fresh, "key changed", seen, after=applied)
    await context.events.record(
        fresh.resource, "Normal", "KeyApplied", f"Azure put the resource on {applied.facts.protection.key_uri}", "ApplyKey"
    )
    left = provider.plan(choice_of(path, version), applied.facts)
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
