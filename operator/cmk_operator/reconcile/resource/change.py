"""Puts a resource on its key: one idempotent request after the other, each after all it must not be wrong about was read again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.encryption.decide import NextAction, decide, old_version_blocks
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault, FaultKind
from cmk_operator.core.faults.reason import Reason
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.providers.protocol import Plan, Started
from cmk_operator.reconcile.audit import key_change_started
from cmk_operator.reconcile.resource.admitted_resource import choice_of, old_version, probe_again, reread
from cmk_operator.reconcile.resource.outcome import CallRefused, Obstructed, Settled, Waiting

if TYPE_CHECKING:
    from cmk_operator.core.encryption.decide import Decision, KeyState
    from cmk_operator.core.encryption.protection import KeyChoice
    from cmk_operator.providers.protocol import Applied, ResourceFacts
    from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource
    from cmk_operator.reconcile.resource.context import ResourceContext
    from cmk_operator.reconcile.resource.outcome import Operating, ResourceOutcome

REQUESTS_IN_ONE_PASS: Final = 12
"""A bound against a service that never takes a change over; the next pass goes on."""
_LOG: Final = logging.getLogger(__name__)


async def write_key(
    context: ResourceContext, admitted: AdmittedResource, seen: ResourceFacts[Any] | None = None
) -> ResourceOutcome | None:
    """Send the requests that put the resource on its key, until one is long-running, refused, or the last.

    `seen` are facts that were read in this pass, not from a list; without them the resource is read again. None when the
    manifest changed meanwhile and a new pass is due.
    """
    left = await _write_next(context, admitted, seen)
    for _ in range(REQUESTS_IN_ONE_PASS - 1):
        if not isinstance(left, _Unfinished):
            return left
        left = await _write_next(context, admitted, None)
    return _not_taken_over(left) if isinstance(left, _Unfinished) else left


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """A request was carried out, and `plan` is what is left to do."""

    plan: Plan[Any]
    seen: ResourceFacts[Any]


async def _write_next(
    context: ResourceContext, admitted: AdmittedResource, known: ResourceFacts[Any] | None
) -> ResourceOutcome | _Unfinished | None:
    """Re-read all that a write must not be wrong about, probe the key through the same identity, then write once."""
    fresh = await reread(admitted)
    if fresh is None:
        return None
    seen = known if known is not None else await fresh.observe(0.0)
    if isinstance(seen, AzureFailure):
        return CallRefused(fresh.judge(seen), None)
    due = await due_change(fresh, seen, observe_only=False)
    plan, decision = due.plan, due.decision
    if isinstance(plan, Fault):
        return Obstructed(plan, seen)
    if decision.action is not NextAction.WRITE or plan is None:
        return fresh.unwritten(decision, plan, seen)
    answer = await fresh.provider.apply(fresh.path.path.chain, fresh.target, plan)
    if isinstance(answer, AzureFailure):
        fault = fresh.judge(answer)
        # What only takes its time, such as Snowflake's 72 hours, is no reason to look into a log.
        level = logging.INFO if fault.kind is FaultKind.BUSY else logging.WARNING
        _log(fresh, "a change of key was refused", plan.purpose, answer.request_id, level=level, code=answer.code)
        return CallRefused(fault, seen)
    if isinstance(answer, Started):
        return _started(context, fresh, seen, answer)
    return _applied(context, fresh, seen, answer, due, plan)


@dataclass(frozen=True, slots=True)
class DueChange:
    """The key that a resource must be on, what is ahead of it, and whether that may be done now."""

    want: KeyChoice
    key_state: KeyState
    plan: Plan[Any] | Fault | None
    decision: Decision


async def due_change(admitted: AdmittedResource, seen: ResourceFacts[Any], *, observe_only: bool) -> DueChange:
    """All that must hold before a write, judged on a key that has just been probed through the same identity; writes nothing."""
    probe, key_state = await probe_again(admitted, seen)
    want = choice_of(admitted.path, probe.wanted.attributes)
    plan = admitted.provider.plan(admitted.target, want, seen)
    decision = decide(change_is_due=plan is not None, observe_only=observe_only, key=key_state)
    if decision.action is NextAction.WRITE:
        decision = old_version_blocks(old_version(admitted, seen, probe)) or decision
    return DueChange(want, key_state, plan, decision)


def _log(
    admitted: AdmittedResource, message: str, purpose: str, request_id: str | None, *, level: int = logging.INFO, **more: str
) -> None:
    about = {"object": str(reference_of(admitted.resource)), "target": admitted.path.target.text, "purpose": purpose}
    _LOG.log(level, message, extra={**about, "azureRequestId": request_id, **more})


def _started(context: ResourceContext, admitted: AdmittedResource, seen: ResourceFacts[Any], answer: Started) -> Operating:
    operation = answer.operation
    old = seen.protection.active_key_text
    context.authorship.note_unreported(admitted.resource, seen.protection, admitted.path.path.key_uri)
    context.reporting.journal.note(key_change_started(admitted.resource, old, operation, context.reporting.now()))
    _log(admitted, "a long-running operation was started", operation.purpose, operation.request_id)
    if answer.remembered is not None:
        seen = replace(seen, remembered=answer.remembered)
    return admitted.operating(operation, answer.retry_after, seen)


def _applied(
    context: ResourceContext,
    admitted: AdmittedResource,
    seen: ResourceFacts[Any],
    answer: Applied[Any],
    due: DueChange,
    plan: Plan[Any],
) -> Obstructed | Settled | Waiting | _Unfinished:
    facts = answer.facts
    old, new = seen.protection.active_key_text, facts.protection.active_key_text
    if old != new:
        context.authorship.note_unreported(admitted.resource, seen.protection, admitted.path.path.key_uri)
        context.authorship.made(admitted.resource, old, facts.protection, answer.request_id)
    else:
        _log(admitted, "a request towards the key was carried out", plan.purpose, answer.request_id)
    left = admitted.provider.plan(admitted.target, due.want, facts)
    if isinstance(left, Fault):
        return Obstructed(left, facts)
    if left is None:
        return Settled(facts)
    unfinished = _Unfinished(left, facts)
    return unfinished if left != plan else _not_taken_over(unfinished)


def _not_taken_over(left: _Unfinished) -> Waiting:
    return Waiting(Reason.NOT_TAKEN_OVER, "Azure has not taken the change over", left.seen, left.plan.keeps_key)
