"""What the console's report of break-glass accounts is worth, and how each use comes into record and events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import find
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.organization.break_glass import (
    REPORT_MAX_AGE,
    USED_WITHIN,
    KnownAccount,
    Readiness,
    readiness,
)
from cmk_operator.core.text.rfc3339 import to_rfc3339
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.organization.changes import changes_of, unrecorded_uses
from cmk_operator.reconcile.organization.report import OrganizationFacts, break_glass_seen_within, organization_status

NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
LONG_AGO = NOW - USED_WITHIN - timedelta(seconds=1)
TRIED, UNTRIED, OLD = KnownAccount(True, NOW), KnownAccount(True, None), KnownAccount(True, LONG_AGO)  # noqa: FBT003 - as it is read
BROKEN = KnownAccount(False, NOW)  # noqa: FBT003 - as above


@pytest.mark.parametrize(
    ("accounts", "age", "found"),
    [
        ((TRIED,), timedelta(0), Readiness.READY),
        ((BROKEN, UNTRIED, OLD, TRIED), REPORT_MAX_AGE, Readiness.READY),
        ((KnownAccount(True, NOW - USED_WITHIN),), timedelta(0), Readiness.READY),  # noqa: FBT003 - as above
        ((UNTRIED, OLD, BROKEN), timedelta(0), Readiness.NOT_TRIED),
        ((BROKEN,), timedelta(0), Readiness.UNUSABLE),
        ((), timedelta(0), Readiness.NO_ACCOUNT),
        ((TRIED,), REPORT_MAX_AGE + timedelta(seconds=1), Readiness.NOT_REPORTED),
        ((TRIED,), -timedelta(hours=1), Readiness.NOT_REPORTED),
        ((TRIED,), None, Readiness.NOT_REPORTED),
    ],
    ids=str,
)
def test_one_account_that_works_and_was_tried_is_enough_and_an_old_report_says_nothing(
    accounts: tuple[KnownAccount, ...], age: timedelta | None, found: Readiness
) -> None:
    assert readiness(accounts, NOW - age if age is not None else None, NOW) is found


def organization(**status: Any) -> OrganizationKey:
    metadata = {"name": "acme", "namespace": "acme", "uid": "u", "generation": 1}
    spec = {"organization": {"id": "acme", "name": "Acme"}}
    return OrganizationKey.model_validate({"metadata": metadata, "spec": spec, "status": status})


def use(second: int, account: str = "first") -> dict[str, Any]:
    return {"at": (NOW + timedelta(seconds=second)).isoformat(), "account": account, "person": "Erika"}


def judged(found: OrganizationKey) -> Any:
    return organization_status(found, OrganizationFacts(found.status, in_force=False), NOW)


@given(st.lists(st.integers(0, 19), unique=True), st.lists(st.integers(0, 19), unique=True))
def test_each_use_is_recorded_once_with_its_person_whatever_was_recorded_before(reported: list[int], before: list[int]) -> None:
    found = organization(
        breakGlass={"uses": [use(one) for one in reported], "observedAt": NOW.isoformat()},
        recordedBreakGlassUses=[use(one) for one in before],
    )
    status = judged(found)
    changes = [one for one in changes_of(found, status, None, NOW, automatic=False) if one.event == "BreakGlassUsed"]
    wanted = [to_rfc3339(NOW + timedelta(seconds=one)) for one in reversed(reported) if one not in before]
    assert [one.at for one in changes] == wanted
    assert {(one.by, one.target) for one in changes} <= {("break-glass:first (Erika)", "organization acme")}
    assert len({one.id for one in changes}) == len(changes)
    again = found.model_copy(update={"status": status})
    assert unrecorded_uses(again.status) == ()
    assert not any(one.event == "BreakGlassUsed" for one in changes_of(again, judged(again), None, NOW, automatic=False))


def test_a_console_that_stops_takes_the_claim_with_it_and_what_was_recorded_stays() -> None:
    account = {"name": "first", "since": NOW.isoformat(), "lastUsedAt": NOW.isoformat()}
    report = {"accounts": [account], "uses": [use(0)], "observedAt": NOW.isoformat()}
    ready = judged(organization(breakGlass=report))
    assert find(ready.conditions, ConditionType.BREAK_GLASS_READY).status == "True"  # type: ignore[union-attr]
    assert find(ready.conditions, ConditionType.READY).reason != "BreakGlassTried"  # type: ignore[union-attr]
    old = judged(organization(breakGlass={**report, "observedAt": (NOW - REPORT_MAX_AGE * 2).isoformat()}))
    assert find(old.conditions, ConditionType.BREAK_GLASS_READY).status == "Unknown"  # type: ignore[union-attr]
    gone = judged(organization(recordedBreakGlassUses=[use(0)]))
    assert len(gone.recorded_break_glass_uses) == 1
    assert break_glass_seen_within(ready.break_glass, NOW) == REPORT_MAX_AGE.total_seconds()
    assert break_glass_seen_within(None, NOW) == float("inf")


def test_a_new_report_starts_a_pass_and_a_repeated_one_does_not() -> None:
    inventory = Inventory()
    body = organization(breakGlass={"uses": [use(0)], "observedAt": NOW.isoformat()}).model_dump(mode="json", by_alias=True)
    inventory.put("organizationkeys", body)
    body["metadata"]["resourceVersion"] = "2"
    body["status"]["breakGlass"]["observedAt"] = (NOW + timedelta(minutes=10)).isoformat()
    assert not inventory.put("organizationkeys", body)[1]
    body["metadata"]["resourceVersion"] = "3"
    body["status"]["breakGlass"]["uses"] = []
    assert inventory.put("organizationkeys", body)[1]
