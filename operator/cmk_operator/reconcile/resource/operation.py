"""Polls an operation that this process or an earlier one started, so that no operation is started twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.long_running import Ended, Failed, Operation, Running
from cmk_operator.core.faults.azure_failure import AzureFailure, Unreadable
from cmk_operator.core.faults.fault import Fault, FaultKind
from cmk_operator.core.kinds.required_actions import RequiredActions
from cmk_operator.core.text.rfc3339 import to_rfc3339
from cmk_operator.reconcile.collaborators.intervals import LIST_MAX_AGE
from cmk_operator.reconcile.resource.admitted_resource import choice_of
from cmk_operator.reconcile.resource.outcome import CallRefused, Operating, OperationUnknown

if TYPE_CHECKING:
    from typing import Any

    from cmk_operator.providers.protocol import ResourceFacts
    from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource

UNSEEN_FOR: Final = timedelta(minutes=5)
"""How long the resource itself may take to show what an operation does that the operator may not poll; then it is sent again."""
RUNS_FOR: Final = timedelta(days=1)
"""How long Azure may say that an operation runs, or give no usable answer about it; then the resource itself decides.

No operation of the kinds takes hours. Azure may forget one, or show a status that no release knows.
"""
_SAYS_NOTHING: Final = frozenset({401, 403, 404, 408, 410, 429})
"""Refusals of a poll that have another meaning than that Azure does not know the operation."""
GRANT_POLLS: Final = "; the provider's administrator may grant the right to poll"
READ_AGAIN_AFTER: Final = 10.0
"""Seconds between two reads of such a resource."""


async def poll_operation(
    admitted: AdmittedResource, drift_check: float, now: datetime
) -> AdmittedResource | Operating | CallRefused | OperationUnknown:
    """The admitted resource if no operation is in status or it has ended; or else the outcome of the poll."""
    kept = admitted.resource.status.operation
    if kept is None:
        return admitted
    operation = Operation(kept.url, kept.purpose, kept.request_id)
    answer = await admitted.provider.poll(admitted.path.path.chain, admitted.target, operation)
    if isinstance(answer, Ended):
        return admitted if answer.version is None else replace(admitted, target=admitted.target.knowing(answer.version))
    of_azure = isinstance(admitted.provider.kind.rights, RequiredActions)
    if of_azure and not isinstance(answer, Failed) and now >= kept.started_at + RUNS_FOR:
        return admitted
    if isinstance(answer, AzureFailure):
        polls = _refused_polls(admitted, answer)
        if isinstance(answer, Unreadable):
            why = f"it cannot be polled, because {answer.message}", ""
        elif polls is not None:
            needed = f" (it needs {', '.join(polls)})" if polls else ""
            why = f"the operator's managed identity may not poll it{needed}", GRANT_POLLS
        elif of_azure and answer.status is not None and 400 <= answer.status < 500 and answer.status not in _SAYS_NOTHING:
            why = f"Azure refuses to say how far it is ({answer.shown_code})", ""
        else:
            return OperationUnknown(admitted.judge(answer))
        return await _judge_by_resource(admitted, operation, kept.started_at + UNSEEN_FOR, now, why)
    seen = await admitted.observe(drift_check * LIST_MAX_AGE if isinstance(answer, Running) else 0.0)
    facts = None if isinstance(seen, AzureFailure) else seen
    if isinstance(answer, Failed):
        return CallRefused(admitted.judge_change(answer.failure, facts), facts)
    return admitted.operating(operation, answer.retry_after, facts)


def _refused_polls(admitted: AdmittedResource, failure: AzureFailure) -> tuple[str, ...] | None:
    """The actions that polling needs, if Resource Manager says that the operator lacks them; None for any other failure."""
    rights = admitted.provider.kind.rights
    refused = failure.status == 403 and failure.code not in {"", "Http403"}
    return rights.polls if refused and isinstance(rights, RequiredActions) else None


async def _judge_by_resource(
    admitted: AdmittedResource, operation: Operation, until: datetime, now: datetime, why: tuple[str, str]
) -> AdmittedResource | Operating:
    """Decide by the resource itself whether the operation has ended: it shows the change, or the time is over.

    `why` is the beginning and the end of the sentence that says why it cannot be polled.
    """
    seen = await admitted.observe(0.0)
    facts = None if isinstance(seen, AzureFailure) else seen
    if now >= until or (facts is not None and _shows(admitted, operation, facts)):
        return admitted
    beginning, end = why
    not_visible = (
        f"{beginning}, so the resource itself is read until {to_rfc3339(until)}, and then the change is sent again{end}"
    )
    return Operating(operation, READ_AGAIN_AFTER, facts, not_visible)


def _shows(admitted: AdmittedResource, operation: Operation, facts: ResourceFacts[Any]) -> bool:
    """Whether the resource shows what the operation does: nothing is left to do, or another request is next."""
    if admitted.resource.metadata.deletion_timestamp is not None:
        plan = admitted.provider.plan_revert(admitted.target, facts)
    else:
        plan = admitted.provider.plan(admitted.target, choice_of(admitted.path, None), facts)
    if isinstance(plan, Fault):
        return plan.kind is not FaultKind.BUSY
    return plan is None or plan.purpose != operation.purpose
