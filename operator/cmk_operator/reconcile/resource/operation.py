"""Asks after what was started before, by this process or by one before it: an operation is never started twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cmk_operator.core.encryption.long_running import Ended, Failed, Operation, Running
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.reconcile.resource.outcome import CallRefused, OperationUnknown

if TYPE_CHECKING:
    from cmk_operator.reconcile.resource.outcome import Operating
    from cmk_operator.reconcile.resource.resource_pass import ResourcePass


async def ask_after_operation(
    step: ResourcePass, drift_check: float
) -> ResourcePass | Operating | CallRefused | OperationUnknown:
    """The pass that goes on, because no operation is in status or it has ended; else what became of the operation."""
    kept = step.resource.status.operation
    if kept is None:
        return step
    operation = Operation(kept.url, kept.purpose, kept.request_id)
    answer = await step.provider.poll(step.path.path.chain, step.target, operation)
    if isinstance(answer, Ended):
        return step if answer.version is None else replace(step, target=step.target.knowing(answer.version))
    if isinstance(answer, AzureFailure):
        return OperationUnknown(step.judge(answer))
    seen = await step.observe(drift_check * 0.85 if isinstance(answer, Running) else 0.0)
    facts = None if isinstance(seen, AzureFailure) else seen
    if isinstance(answer, Failed):
        return CallRefused(step.judge(answer.failure), facts)
    return step.operating(operation, answer.retry_after, facts)
