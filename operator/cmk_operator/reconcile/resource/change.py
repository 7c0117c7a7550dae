"""Puts a resource on its key by idempotent requests, one at a time, each after a probe and a reread of what allows it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.call_budget import changes_only_if
from cmk_operator.core.encryption.decide import NextAction, decide, old_version_blocks
from cmk_operator.core.encryption.protection import Unreadable, text_in_force
from cmk_operator.core.faults.azure_failure import CHANGE_WITHDRAWN, AzureFailure
from cmk_operator.core.faults.fault import Fault, FaultKind
from cmk_operator.core.faults.reason import Reason
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.providers.protocol import Plan, Started
from cmk_operator.reconcile.audit import key_change_started
from cmk_operator.reconcile.resource.admitted_resource import choice_of, is_still_admitted, old_version, probe_again
from cmk_operator.reconcile.resource.outcome import CallRefused, Obstructed, Settled, Waiting

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.core.encryption.decide import Decision, KeyState
    from cmk_operator.core.encryption.protection import KeyChoice
    from cmk_operator.providers.protocol import Applied, ResourceFacts
    from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource
    from cmk_operator.reconcile.resource.context import ResourceContext
    from cmk_operator.reconcile.resource.outcome import Operating, ResourceOutcome

REQUESTS_IN_ONE_PASS: Final = 12
"""Limit for a service that accepts changes but never applies them; the next pass continues."""
_LOG: Final = logging.getLogger(__name__)


async def write_key(
    context: ResourceContext, admitted: AdmittedResource, seen: ResourceFacts[Any] | None = None
) -> ResourceOutcome | None:
    """Send the requests that put the resource on its key, until one is long-running, refused or the last.

    `seen` must come from a read of the resource in this pass, not from a list; if it is None, the resource is read again.
    Returns None if the manifest changed meanwhile, so that the pass must be repeated.
    """
    left = await _write_next(context, admitted, seen)
    for _ in range(REQUESTS_IN_ONE_PASS - 1):
        if not isinstance(left, _Unfinished):
            return left
        left = await _write_next(context, admitted, None)
    return _not_applied(left) if isinstance(left, _Unfinished) else left


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """The service carried out a request; `plan` is the next one."""

    plan: Plan[Any]
    seen: ResourceFacts[Any]


async def _write_next(
    context: ResourceContext, admitted: AdmittedResource, known: ResourceFacts[Any] | None
) -> ResourceOutcome | _Unfinished | None:
    """Read the resource, probe the key through the same identity, reread the manifests, then write once."""
    seen = known if known is not None else await admitted.observe_before_write()
    if isinstance(seen, AzureFailure):
        return CallRefused(admitted.judge(seen), None)
    due = await due_change(admitted, seen, observe_only=False)
    plan, decision = due.plan, due.decision
    if isinstance(plan, Fault):
        return Obstructed(plan, seen)
    if decision.action is not NextAction.WRITE or plan is None:
        return admitted.unwritten(decision, plan, seen)
    pause = None if plan.reopens else context.contentions.pause(admitted.resource, due.want)
    if pause is not None:
        seconds, message = pause
        return Waiting(Reason.CONTESTED, message, seen, plan.keeps_key, seconds)
    with changes_only_if(partial(is_still_admitted, admitted, due.probed_at, context.reporting.now)):
        answer = await admitted.provider.apply(admitted.path.path.chain, admitted.target, plan)
    if isinstance(answer, AzureFailure):
        if answer.code == CHANGE_WITHDRAWN:
            return None
        fault = admitted.judge_change(answer, seen)
        # A wait that ends by itself, such as Snowflake's 72 hours, is not worth a warning.
        level = logging.INFO if fault.kind is FaultKind.BUSY else logging.WARNING
        said = {"code": answer.code, "azureMessage": answer.message}
        _log(admitted, "the service refused a change of key", plan.purpose, answer.request_id, level=level, **said)
        return CallRefused(fault, seen)
    if isinstance(answer, Started):
        return _started(context, admitted, seen, answer)
    return await _applied(context, admitted, seen, answer, due, plan)


@dataclass(frozen=True, slots=True)
class DueChange:
    """The key that a resource must be on, the next request, and whether it may be sent now."""

    want: KeyChoice
    key_state: KeyState
    plan: Plan[Any] | Fault | None
    decision: Decision
    probed_at: datetime


async def due_change(admitted: AdmittedResource, seen: ResourceFacts[Any], *, observe_only: bool) -> DueChange:
    """Check everything that must hold before a write, with a fresh probe through the same identity; writes nothing."""
    probe, key_state = await probe_again(admitted, seen)
    want = choice_of(admitted.path, probe.wanted.attributes)
    plan = admitted.provider.plan(admitted.target, want, seen)
    decision = decide(change_is_due=plan is not None, observe_only=observe_only, key=key_state)
    if decision.action is NextAction.WRITE:
        decision = old_version_blocks(old_version(admitted, seen, probe)) or decision
    return DueChange(want, key_state, plan, decision, probe.at)


def _log(
    admitted: AdmittedResource, message: str, purpose: str, request_id: str | None, *, level: int = logging.INFO, **more: str
) -> None:
    about = {"object": str(reference_of(admitted.resource)), "target": admitted.path.target.text, "purpose": purpose}
    _LOG.log(level, message, extra={**about, "azureRequestId": request_id, **more})


def _started(context: ResourceContext, admitted: AdmittedResource, seen: ResourceFacts[Any], answer: Started) -> Operating:
    operation = answer.operation
    old = text_in_force(seen.protection) or ""
    context.authorship.note_unreported(admitted.resource, seen.protection, admitted.path.path.key_uri)
    context.reporting.journal.note(key_change_started(admitted.resource, old, operation, context.reporting.now()))
    _log(admitted, "the service started a long-running operation", operation.purpose, operation.request_id)
    if answer.remembered is not None:
        seen = replace(seen, remembered=answer.remembered)
    return admitted.operating(operation, answer.retry_after, seen)


async def _applied(
    context: ResourceContext,
    admitted: AdmittedResource,
    seen: ResourceFacts[Any],
    answer: Applied[Any],
    due: DueChange,
    plan: Plan[Any],
) -> CallRefused | Obstructed | Settled | Waiting | _Unfinished:
    facts = answer.facts
    if isinstance(facts.protection, Unreadable):
        # Accepted, but the answer does not show what it led to. Only a read may decide what is left to do.
        context.authorship.sent(admitted.resource, answer.request_id)
        again = await admitted.observe(0.0)
        if isinstance(again, AzureFailure):
            return CallRefused(admitted.judge(again), None)
        facts = again
    old, new = text_in_force(seen.protection) or "", text_in_force(facts.protection)
    if old != new:
        context.authorship.note_unreported(admitted.resource, seen.protection, admitted.path.path.key_uri)
        context.authorship.made(admitted.resource, old, facts.protection, answer.request_id)
    else:
        _log(admitted, "the service carried out a request, and the key is still to change", plan.purpose, answer.request_id)
    left = admitted.provider.plan(admitted.target, due.want, facts)
    if isinstance(left, Fault):
        return Obstructed(left, facts)
    if left is None:
        return Settled(facts)
    unfinished = _Unfinished(left, facts)
    return unfinished if left != plan else _not_applied(unfinished)


def _not_applied(left: _Unfinished) -> Waiting:
    return Waiting(Reason.NOT_TAKEN_OVER, "Azure accepted the change but does not show it yet", left.seen, left.plan.keeps_key)
