"""Whom support makes an administrator, until when, what is recorded of it, and what is advised afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.organization_key import OrganizationKey, OrganizationKeyStatus, Promotion
from cmk_operator.core.organization.support import LONGEST, Asked, RequestState, advice_after, judge
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.reconcile.organization.changes import changes_of, promoted
from cmk_operator.reconcile.organization.support import with_support
from cmk_operator.reconcile.support.requests import Support

NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
KEY = "https://contoso.vault.azure.net/keys/orders"
ACME = ObjectReference("organizationkeys", "acme", "acme")


def asked(**changes: Any) -> Asked:
    good: dict[str, Any] = {"requested_by": "alice", "approved_by": "bob", "created": NOW, "until": NOW + LONGEST}
    return Asked(**good | changes)


@pytest.mark.parametrize(
    ("request_", "known", "after", "state"),
    [
        (asked(), True, timedelta(0), RequestState.ACTIVE),
        (asked(), True, LONGEST - timedelta(seconds=1), RequestState.ACTIVE),
        (asked(), True, LONGEST, RequestState.ENDED),
        (asked(deleting=True), True, timedelta(0), RequestState.ENDED),
        (asked(approved_by=None), True, timedelta(0), RequestState.PENDING),
        (asked(approved_by="alice"), True, timedelta(0), RequestState.REFUSED),
        (asked(until=NOW + LONGEST + timedelta(seconds=1)), True, timedelta(0), RequestState.REFUSED),
        (asked(created=None), True, timedelta(0), RequestState.REFUSED),
        (asked(), False, timedelta(0), RequestState.REFUSED),
        (asked(approved_by=None), False, timedelta(0), RequestState.REFUSED),
    ],
    ids=str,
)
def test_a_request_is_good_for_a_known_organization_by_two_persons_and_for_a_day_at_most(
    *, request_: Asked, known: bool, after: timedelta, state: RequestState
) -> None:
    assert judge(request_, NOW + after, known=known)[0] is state


names = st.sampled_from(["alice", "bob"])
times = st.integers(-100, 100).map(lambda hours: NOW + timedelta(hours=hours))


@given(
    request_=st.builds(Asked, names, st.none() | names, st.none() | times, times, st.booleans()),
    now=times,
    known=st.booleans(),
)
def test_nobody_is_promoted_by_one_person_alone_or_for_longer_than_a_day(
    *, request_: Asked, now: datetime, known: bool
) -> None:
    if judge(request_, now, known=known)[0] is RequestState.ACTIVE:
        assert request_.approved_by not in {None, request_.requested_by}
        assert request_.created is not None
        assert now < request_.until <= request_.created + LONGEST
        assert known


def promotion(uid: str = "1", hours: float = 4) -> Promotion:
    return Promotion(
        request=f"ticket-{uid}",
        uid=uid,
        subject="8c1d",
        requested_by="alice",
        approved_by="bob",
        ticket="4711",
        until=NOW + timedelta(hours=hours),
        since=NOW,
    )


def in_force(kid: str, *credentials: str) -> dict[str, Any]:
    access: dict[str, Any] = {"method": "Application", "cloud": "AzurePublic", "tenantId": "t"}
    if credentials:
        kept = [{"secret": "vault", "key": one, "type": "ClientSecret"} for one in credentials]
        access |= {"method": "Registration", "credentials": kept}
    return {
        "revision": 1,
        "mode": "CustomerManaged",
        "kid": f"{KEY}/{kid}",
        "since": NOW,
        "probeIntervalSeconds": 60,
        "outageGraceSeconds": 600,
        "access": access,
    }


def status(accepted: dict[str, Any] | None = None) -> OrganizationKeyStatus:
    return OrganizationKeyStatus.model_validate({"accepted": accepted} if accepted is not None else {})


def organization(found: OrganizationKeyStatus) -> OrganizationKey:
    spec = {"organization": {"id": "acme", "name": "Acme"}}
    made = OrganizationKey.model_validate({"metadata": {"name": "acme", "namespace": "acme", "uid": "u"}, "spec": spec})
    return made.model_copy(update={"status": found})


def test_a_promotion_begins_and_ends_once_in_the_record_with_all_who_took_part() -> None:
    before = status()
    during = with_support(before, (promotion(),), NOW)
    [begun] = changes_of(organization(before), during, None, NOW, automatic=False)
    assert (begun.event, begun.by, begun.after) == ("AdministratorPromoted", "alice, approved by bob", "8c1d")
    assert all(word in begun.why for word in ("ticket-1", "4711", "2026-11-30T13:00:00Z"))
    assert changes_of(organization(during), with_support(during, (promotion(),), NOW), None, NOW, automatic=False) == ()
    unread = with_support(during, None, NOW + timedelta(hours=1))
    assert unread == during, "a promotion goes on while requests cannot be read"
    for after, at, by in (
        (with_support(during, None, NOW + timedelta(hours=4)), NOW + timedelta(hours=4), "cmk-operator"),
        (with_support(during, (), NOW), NOW, "unknown"),
    ):
        [ended] = changes_of(organization(during), after, None, at, automatic=False)
        assert (ended.event, ended.by, ended.before) == ("PromotionEnded", by, "8c1d")
        assert promoted(after, after) == ([], [])
    assert with_support(before, None, NOW) == before
    assert with_support(before, (), NOW) == before


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        (in_force("1"), in_force("1"), ("create a new key",)),
        (in_force("1"), in_force("2"), None),
        (in_force("1", "old"), in_force("1", "old"), ("create a new key", "in place of vault/old")),
        (in_force("1", "old"), in_force("2", "old"), ("should create new credentials in place of vault/old",)),
        (in_force("1", "old"), in_force("1", "new"), ("create a new key",)),
        (in_force("1", "old"), in_force("2", "new"), None),
        (in_force("1", "old"), in_force("2", "old", "new"), ("in place of vault/old",)),
        (None, in_force("1"), None),
    ],
    ids=str,
)
def test_a_new_key_and_new_credentials_are_advised_until_both_are_in_force(
    then: dict[str, Any] | None, now: dict[str, Any], words: tuple[str, ...] | None
) -> None:
    promoted_at = with_support(status(then), (promotion(),), NOW)
    later = with_support(promoted_at.model_copy(update={"accepted": status(now).accepted}), (), NOW + timedelta(days=9))
    assert later.support is not None
    advice = later.support.advice
    assert (advice is None) if words is None else all(word in str(advice) for word in words), advice


def test_an_advice_names_who_was_promoted_and_when() -> None:
    assert advice_after("8c1d", "2026-11-30T09:00:00Z", same_key=False, kept_credentials=()) is None
    said = advice_after("8c1d", "2026-11-30T09:00:00Z", same_key=True, kept_credentials=("b", "a"))
    assert said is not None
    assert "8c1d an administrator of the organization at 2026-11-30T09:00:00Z" in said
    assert "in place of a, b" in said


def test_an_organization_is_woken_when_its_promotions_change_and_not_otherwise() -> None:
    support = Support(known=False)
    assert support.of(ACME) is None
    assert support.note({}) == set()
    assert support.of(ACME) == ()
    assert support.note({ACME: (promotion(),)}) == {ACME}
    assert support.note({ACME: (promotion(),)}) == set()
    assert support.note({}) == {ACME}
    restarted = Support(known=False)
    assert restarted.note({ACME: (promotion(),)}) == {ACME}, "a pass that ran before has waited for this"
    assert Support(known=True).of(ACME) == (), "without the feature nobody stays promoted"
