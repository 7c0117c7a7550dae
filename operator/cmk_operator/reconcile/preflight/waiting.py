"""Says on a `Preflight` what it waits for, if the operator has not made its checks soon: whoever asked sees more than silence."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import Aspect, Progress, dated
from cmk_operator.api.preflight import COMPLETE, Preflight, PreflightStatus
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.schedule import Next
from cmk_operator.kubernetes.client import KubernetesError, ObjectReference
from cmk_operator.kubernetes.status import cut_status
from cmk_operator.reconcile.preflight.reconciler import class_of

if TYPE_CHECKING:
    from cmk_operator.reconcile.preflight.context import PreflightContext

LANE: Final = "waitingpreflights"
WAITS_AFTER: Final = 5.0
"""Seconds after which a Preflight without an answer says that it waits; most are answered sooner."""
_MESSAGE: Final = (
    "the checks have not been made yet: the operator makes those of one Preflight of a namespace at a time, in the order in which "
    "they came, and Azure may answer slowly; nobody must act"
)


def notice_of(reference: ObjectReference) -> ObjectReference:
    """The item of the work queue that says so for a Preflight."""
    return ObjectReference(LANE, reference.namespace, reference.name)


async def tell_waiting(context: PreflightContext, notice: ObjectReference) -> Next:
    """Write the condition `Complete` as False, unless the Preflight has any condition. It never replaces an answer."""
    reference = ObjectReference(Preflight.plural, notice.namespace, notice.name)
    body = await context.cluster.client.get(reference)
    if body is None:
        return Next()
    preflight = Preflight.model_validate(body)
    if preflight.status.conditions or class_of(context, preflight) != context.cluster.operator_class:
        return Next()
    waits = Aspect(COMPLETE, "False", Reason.WAITS_FOR_TURN, _MESSAGE)
    conditions = dated((waits,), Progress(), (), preflight.metadata.generation, context.now())
    status = cut_status(PreflightStatus(conditions=conditions))
    try:
        await context.cluster.client.apply_status(
            reference, "Preflight", preflight.metadata.uid, status, resource_version=body["metadata"]["resourceVersion"]
        )
    except KubernetesError as error:
        # It was answered or deleted meanwhile.
        if error.status not in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
            raise
    return Next()
