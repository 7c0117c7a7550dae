"""An operation that may not be polled: the resource itself decides, and not for longer than the bound."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest

from cmk_operator.core.encryption.long_running import Running
from cmk_operator.core.encryption.protection import MicrosoftManaged
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault, busy, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.providers.protocol import Plan, ResourceFacts
from cmk_operator.providers.sql.kind import SQL_SERVER
from cmk_operator.reconcile.references import ResourcePath
from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource
from cmk_operator.reconcile.resource.operation import RUNS_FOR, UNSEEN_FOR, poll_operation
from cmk_operator.reconcile.resource.outcome import Operating, OperationUnknown
from tests.unit.samples import NOW, encrypted_resource
from tests.unit.test_references import resolved, world
from tests.unit.test_resource_report import OPERATION, Found, report

REFUSED = AzureFailure(403, "AuthorizationFailed", "does not have authorization", read=True)
FACTS: ResourceFacts[Any] = ResourceFacts(MicrosoftManaged(), None)
SAME: Plan[Any] = Plan({}, (), OPERATION.purpose)
NEXT: Plan[Any] = Plan({}, (), "the next request")


@dataclass(frozen=True)
class Refusing:
    """What a provider says whose operations may not be polled."""

    left: Plan[Any] | Fault | None
    seen: ResourceFacts[Any] | AzureFailure = FACTS
    answer: AzureFailure | Running = REFUSED
    kind: Any = field(default=SQL_SERVER)

    async def poll(self, *_: object) -> AzureFailure | Running:
        return self.answer

    async def observe(self, *_: object, max_age: float) -> ResourceFacts[Any] | AzureFailure:
        assert max_age == 0.0 or isinstance(self.answer, Running), "only what is so now decides"
        return self.seen

    def plan(self, *_: object) -> Plan[Any] | Fault | None:
        return self.left

    def judge(self, *_: object) -> Fault:
        return busy(Reason.AZURE_UNAVAILABLE, "no answer")


def admitted(provider: Refusing) -> AdmittedResource:
    operating = report(encrypted_resource(), Found(Operating(OPERATION, 5.0, FACTS), None), NOW)
    resource = encrypted_resource(operating)
    path = resolved(world())
    assert isinstance(path, ResourcePath)
    cast_provider = cast("Any", provider)
    return AdmittedResource(cast("Any", None), cast("Any", None), resource, path, cast_provider, cast("Any", None))


async def polled(provider: Refusing, after: timedelta = timedelta(0)) -> object:
    return await poll_operation(admitted(provider), 300.0, NOW + after)


@pytest.mark.parametrize("left", [SAME, busy(Reason.OPERATION_IN_PROGRESS, "Azure is still changing it")])
async def test_while_the_resource_does_not_show_the_change_it_is_read_again_until_the_bound(left: Plan[Any] | Fault) -> None:
    outcome = await polled(Refusing(left), UNSEEN_FOR - timedelta(seconds=1))
    assert isinstance(outcome, Operating)
    assert outcome.not_visible is not None
    assert "Microsoft.Sql/locations/*/read" in outcome.not_visible
    assert "provider's administrator" in outcome.not_visible
    status = report(encrypted_resource(), Found(outcome, None), NOW)
    assert {one.reason for one in status.conditions if one.type in {"Ready", "Reconciling"}} == {"OperationNotVisible"}
    assert status.operation is not None
    assert isinstance(await polled(Refusing(left), UNSEEN_FOR), AdmittedResource), "then it is sent again"


@pytest.mark.parametrize("left", [None, NEXT, invalid(Reason.INVALID_RESOURCE_ID, "something else is wrong")])
async def test_the_operation_is_over_once_the_resource_shows_what_it_does(left: Plan[Any] | Fault | None) -> None:
    assert isinstance(await polled(Refusing(left)), AdmittedResource)


async def test_a_resource_that_cannot_be_read_either_ends_the_wait_only_with_the_bound() -> None:
    provider = Refusing(None, seen=REFUSED)
    outcome = await polled(provider)
    assert isinstance(outcome, Operating)
    assert outcome.seen is None
    assert isinstance(await polled(provider, UNSEEN_FOR), AdmittedResource)


@pytest.mark.parametrize(
    "answer",
    [replace(REFUSED, status=503, code="ServiceUnavailable"), replace(REFUSED, code="Http403"), replace(REFUSED, code="")],
)
async def test_an_outage_or_the_page_of_a_gateway_is_no_refusal_and_the_operation_stays(answer: AzureFailure) -> None:
    assert isinstance(await polled(Refusing(None, answer=answer), UNSEEN_FOR), OperationUnknown)


@pytest.mark.parametrize("status", [400, 405, 409, 422])
async def test_a_poll_that_azure_refuses_for_another_reason_is_as_one_that_may_not_be_made(status: int) -> None:
    provider = Refusing(SAME, answer=replace(REFUSED, status=status, code="InvalidOperationId"))
    outcome = await polled(provider)
    assert isinstance(outcome, Operating)
    assert "Azure refuses to say how far it is (InvalidOperationId)" in str(outcome.not_visible)
    assert isinstance(await polled(provider, UNSEEN_FOR), AdmittedResource), "then it is sent again"


@pytest.mark.parametrize("answer", [Running(5.0), replace(REFUSED, status=500, code=""), AzureFailure(None, "Timeout", "none")])
async def test_an_operation_of_which_azure_never_says_that_it_ended_does_not_hold_the_resource_for_ever(
    answer: AzureFailure | Running,
) -> None:
    before = await polled(Refusing(SAME, answer=answer), RUNS_FOR - timedelta(seconds=1))
    assert isinstance(before, Operating | OperationUnknown)
    assert isinstance(await polled(Refusing(SAME, answer=answer), RUNS_FOR), AdmittedResource)
