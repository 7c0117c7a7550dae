"""Puts a resource on its key: one idempotent request after the other, each after all it must not be wrong about was read again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.encryption.decide import Decision, Step, decide, old_version_blocks
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault, FaultKind
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.providers.protocol import Plan, Started
from cmk_operator.reconcile.audit import key_change_started, note_unreported
from cmk_operator.reconcile.context import Written
from cmk_operator.reconcile.resource.resource_pass import audit, choice_of, old_version, probe_again, reread

if TYPE_CHECKING:
    from cmk_operator.core.encryption.decide import KeyState
    from cmk_operator.core.encryption.protection import KeyChoice, Protection
    from cmk_operator.providers.protocol import Applied, ResourceFacts
    from cmk_operator.reconcile.resource.report import ResourceOutcome
    from cmk_operator.reconcile.resource.resource_pass import ResourcePass

REQUESTS_IN_ONE_PASS: Final = 12
"""A bound against a service that never takes a change over; the next pass goes on."""
_LOG: Final = logging.getLogger(__name__)


async def write_key(step: ResourcePass, seen: ResourceFacts[Any] | None = None) -> ResourceOutcome | None:
    """Send the requests that put the resource on its key, until one is long-running, refused, or the last.

    `seen` are facts that were read in this pass, not from a list; without them the resource is read again. None when the
    manifest changed meanwhile and a new pass is due.
    """
    outcome = await _write_next(step, seen)
    for _ in range(REQUESTS_IN_ONE_PASS - 1):
        if outcome is None or not outcome.goes_on:
            break
        before, outcome = outcome, await _write_next(step, None)
        if outcome is not None and before.written_by_us and not outcome.written_by_us:
            outcome = replace(outcome, written_by_us=True, request_id=before.request_id)
    return outcome


async def _write_next(step: ResourcePass, known: ResourceFacts[Any] | None) -> ResourceOutcome | None:
    """Re-read all that a write must not be wrong about, probe the key through the same identity, then write once."""
    fresh = await reread(step)
    if fresh is None:
        return None
    seen = known if known is not None else await fresh.observe(0.0)
    if isinstance(seen, AzureFailure):
        return fresh.refused(seen)
    due = await due_change(fresh, seen, observe_only=False)
    plan, decision = due.plan, due.decision
    if isinstance(plan, Fault):
        return fresh.obstructed(plan, seen)
    if decision.step is not Step.WRITE or plan is None:
        keeps_key = plan is not None and plan.keeps_key and fresh.is_on_key(seen)
        return fresh.outcome(seen, decision=decision, plan=plan, keeps_key=keeps_key)
    answer = await fresh.provider.apply(fresh.path.path.chain, fresh.target, plan)
    if isinstance(answer, AzureFailure):
        outcome = fresh.refused(answer, seen)
        # What only takes its time, such as Snowflake's 72 hours, is no reason to look into a log.
        waits = outcome.fault is not None and outcome.fault.kind is FaultKind.BUSY
        level = logging.INFO if waits else logging.WARNING
        _log(fresh, "a change of key was refused", plan.purpose, answer.request_id, level=level, code=answer.code)
        return outcome
    if isinstance(answer, Started):
        return _started(fresh, seen, answer)
    return await _applied(fresh, seen, answer, due, plan)


@dataclass(frozen=True, slots=True)
class DueChange:
    """The key that a resource must be on, what is ahead of it, and whether that may be done now."""

    want: KeyChoice
    key_state: KeyState
    plan: Plan | Fault | None
    decision: Decision


async def due_change(step: ResourcePass, seen: ResourceFacts[Any], *, observe_only: bool) -> DueChange:
    """All that must hold before a write, judged on a key that has just been probed through the same identity; writes nothing."""
    probe, key_state = await probe_again(step, seen)
    want = choice_of(step.path, probe.wanted.attributes)
    plan = step.provider.plan(step.target, want, seen)
    decision = decide(change_is_due=plan is not None, observe_only=observe_only, key=key_state)
    if decision.step is Step.WRITE:
        decision = old_version_blocks(old_version(step, seen, probe)) or decision
    return DueChange(want, key_state, plan, decision)


def _log(
    step: ResourcePass, message: str, purpose: str, request_id: str | None, *, level: int = logging.INFO, **more: str
) -> None:
    about = {"object": str(reference_of(step.resource)), "target": step.path.target.text, "purpose": purpose}
    _LOG.log(level, message, extra={**about, "azureRequestId": request_id, **more})


def _started(step: ResourcePass, seen: ResourceFacts[Any], answer: Started) -> ResourceOutcome:
    operation = answer.operation
    old = str(seen.protection.active_key_uri or "")
    note_unreported(step.context, step.resource, seen.protection, step.path.path.key_uri)
    step.context.journal.note(key_change_started(step.resource, old, operation, step.context.now()))
    _log(step, "a long-running operation was started", operation.purpose, operation.request_id)
    outcome = step.waits(operation, answer.retry_after, seen)
    return outcome if answer.remembered is None else replace(outcome, remembered=answer.remembered)


async def _applied(
    step: ResourcePass, seen: ResourceFacts[Any], answer: Applied[Any], due: DueChange, plan: Plan
) -> ResourceOutcome:
    facts = answer.facts
    old, new = str(seen.protection.active_key_uri or ""), str(facts.protection.active_key_uri or "")
    changed = old != new
    if changed:
        note_unreported(step.context, step.resource, seen.protection, step.path.path.key_uri)
        await tell_changed(step, old, facts.protection, answer.request_id)
    else:
        _log(step, "a request towards the key was carried out", plan.purpose, answer.request_id)
    left = step.provider.plan(step.target, due.want, facts)
    if isinstance(left, Fault):
        return replace(step.obstructed(left, facts), written_by_us=changed, request_id=answer.request_id)
    decision = decide(change_is_due=left is not None, observe_only=False, key=due.key_state)
    goes_on = left is not None and left != plan
    if decision.step is not Step.SETTLED and not goes_on:
        decision = Decision(Step.WAIT, "NotTakenOver", "Azure has not taken the change over")
    return step.outcome(
        facts,
        decision=decision,
        plan=left,
        written_by_us=changed,
        request_id=answer.request_id,
        goes_on=goes_on,
        keeps_key=left is not None and left.keeps_key and step.is_on_key(facts),
    )


async def tell_changed(step: ResourcePass, old: str, protection: Protection, request_id: str | None) -> None:
    """Audit and announce a change of key that this operator made, and keep it for a status that does not land."""
    step.context.unreported[reference_of(step.resource)] = Written(str(protection.active_key_uri or ""), request_id)
    audit(step, old, protection, request_id)
    if protection.customer_managed:
        message = f"the resource was put on {protection.key_uri}"
        await step.context.events.record(step.resource, "Normal", "KeyApplied", message, "ApplyKey")
