"""Polls an operation that this process or an earlier one started, so that no operation is started twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cmk_operator.core.encryption.long_running import Ended, Failed, Operation, Running
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.reconcile.collaborators.intervals import LIST_MAX_AGE
from cmk_operator.reconcile.resource.outcome import CallRefused, OperationUnknown

if TYPE_CHECKING:
    from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource
    from cmk_operator.reconcile.resource.outcome import Operating


async def poll_operation(
    admitted: AdmittedResource, drift_check: float
) -> AdmittedResource | Operating | CallRefused | OperationUnknown:
    """The admitted resource if no operation is in status or it has ended; or else the outcome of the poll."""
    kept = admitted.resource.status.operation
    if kept is None:
        return admitted
    operation = Operation(kept.url, kept.purpose, kept.request_id)
    answer = await admitted.provider.poll(admitted.path.path.chain, admitted.target, operation)
    if isinstance(answer, Ended):
        return admitted if answer.version is None else replace(admitted, target=admitted.target.knowing(answer.version))
    if isinstance(answer, AzureFailure):
        return OperationUnknown(admitted.judge(answer))
    seen = await admitted.observe(drift_check * LIST_MAX_AGE if isinstance(answer, Running) else 0.0)
    facts = None if isinstance(seen, AzureFailure) else seen
    if isinstance(answer, Failed):
        return CallRefused(admitted.judge_change(answer.failure, facts), facts)
    return admitted.operating(operation, answer.retry_after, facts)
