"""Asks after what was started before, by this process or by one before it: an operation is never started twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cmk_operator.core.encryption.long_running import Ended, Failed, Operation, Running
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.reconcile.resource.outcome import CallRefused, OperationUnknown

if TYPE_CHECKING:
    from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource
    from cmk_operator.reconcile.resource.outcome import Operating


async def ask_after_operation(
    admitted: AdmittedResource, drift_check: float
) -> AdmittedResource | Operating | CallRefused | OperationUnknown:
    """The pass that goes on, because no operation is in status or it has ended; else what became of the operation."""
    kept = admitted.resource.status.operation
    if kept is None:
        return admitted
    operation = Operation(kept.url, kept.purpose, kept.request_id)
    answer = await admitted.provider.poll(admitted.path.path.chain, admitted.target, operation)
    if isinstance(answer, Ended):
        return admitted if answer.version is None else replace(admitted, target=admitted.target.knowing(answer.version))
    if isinstance(answer, AzureFailure):
        return OperationUnknown(admitted.judge(answer))
    seen = await admitted.observe(drift_check * 0.85 if isinstance(answer, Running) else 0.0)
    facts = None if isinstance(seen, AzureFailure) else seen
    if isinstance(answer, Failed):
        return CallRefused(admitted.judge(answer.failure), facts)
    return admitted.operating(operation, answer.retry_after, facts)
