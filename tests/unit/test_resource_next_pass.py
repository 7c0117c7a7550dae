"""When a resource is reconciled next, for each way in which a pass can end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cmk_operator.core.encryption.long_running import Operation
from cmk_operator.core.encryption.protection import FieldChange, MicrosoftManaged
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.schedule import BLOCKED, BUSY, Next
from cmk_operator.providers.protocol import Plan, ResourceFacts
from cmk_operator.reconcile.resource.outcome import (
    CallRefused,
    Obstructed,
    Operating,
    OperationUnknown,
    Planned,
    Refused,
    ResourceOutcome,
    Settled,
    Waiting,
)
from cmk_operator.reconcile.resource.reconciler import _next

DRIFT_CHECK = 300.0
SEEN = ResourceFacts(MicrosoftManaged(), None)
PLAN: Plan[dict[str, object]] = Plan({}, (FieldChange("keySource", "Microsoft.Storage", "Microsoft.Keyvault"),))
BUSY_FAULT = Fault(Reason.SETTLING, "Azure asks to wait", Actor.PLATFORM_ENGINEER)
BLOCKED_FAULT = Fault(Reason.AUTHORIZATION_FAILED, "somebody must act", Actor.PLATFORM_ENGINEER)


@pytest.mark.parametrize(
    "outcome",
    [
        Settled(SEEN),
        Planned(PLAN, SEEN),
        Waiting(Reason.WAITING_FOR_KEY, "the key has not been probed yet", SEEN, keeps_key=False),
        Refused(BLOCKED_FAULT),
    ],
)
def test_what_kubernetes_decides_or_nothing_delays_is_looked_at_after_an_interval(outcome: ResourceOutcome) -> None:
    wish = _next(outcome, DRIFT_CHECK)
    assert wish.backoff is None
    assert wish.after is not None
    assert DRIFT_CHECK * 0.9 <= wish.after <= DRIFT_CHECK * 1.1


def test_an_operation_is_asked_after_when_the_service_says() -> None:
    operation = Operation("url", "put the resource on the key")
    assert _next(Operating(operation, 15.0, None), DRIFT_CHECK) == Next(after=15.0)


@pytest.mark.parametrize("wait", [None, 20.0, 900.0])
def test_what_azure_refuses_is_repeated_slowly_and_never_before_it_says(wait: float | None) -> None:
    busy, blocked = replace(BUSY_FAULT, retry_after=wait), replace(BLOCKED_FAULT, retry_after=wait)
    assert _next(Refused(busy), DRIFT_CHECK) == Next(after=wait, backoff=BUSY)
    for outcome, backoff in ((busy, BUSY), (blocked, BLOCKED)):
        assert _next(CallRefused(outcome, None), DRIFT_CHECK) == Next(after=wait, backoff=backoff)
        assert _next(OperationUnknown(outcome), DRIFT_CHECK) == Next(after=wait, backoff=backoff)


@pytest.mark.parametrize(("wait", "after"), [(None, None), (20.0, 20.0), (900.0, DRIFT_CHECK)])
def test_an_obstacle_is_looked_at_no_later_than_drift(wait: float | None, after: float | None) -> None:
    for fault, backoff in ((BUSY_FAULT, BUSY), (BLOCKED_FAULT, BLOCKED)):
        assert _next(Obstructed(replace(fault, retry_after=wait), SEEN), DRIFT_CHECK) == Next(after=after, backoff=backoff)
