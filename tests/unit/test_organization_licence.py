"""What a licence allows, and what of it settings, status, record and events show."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import find
from cmk_operator.api.licence import LicenceSpec
from cmk_operator.api.organization_key import OrganizationKey, OrganizationKeyStatus
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from cmk_operator.core.organization.licence import (
    NOT_USED,
    AccessMethod,
    Change,
    LicenceState,
    Licensing,
    OrganizationLicence,
    Standing,
    not_read,
    standing,
)
from cmk_operator.kubernetes.client import KubernetesError
from cmk_operator.kubernetes.licences import READ_EVERY, Licences, Unread
from cmk_operator.reconcile.organization.changes import changes_of
from cmk_operator.reconcile.organization.licensing import change_of, licence_in, methods_in, refused_by_licence, with_encryption
from cmk_operator.reconcile.organization.report import OrganizationFacts, organization_status
from cmk_operator.reconcile.organization.settings import Proven, Wanted, with_accepted
from tests.unit.samples import KEY, NOW, V1
from tests.unit.test_organization_settings import ACCESS, CANARY, OWN, WANTED, organization

ENTERPRISE = OrganizationLicence(Licensing.UNIFIED, "Enterprise", LicenceState.ACTIVE)
BY_REGISTRATION = Wanted(60, 600, parse_key_uri(KEY), OWN)
RENEWED = Wanted(
    60, 600, parse_key_uri(KEY), OWN.model_copy(update={"credentials": (OWN.credentials[0].model_copy(update={"key": "new"}),)})
)
TO_PLATFORM = Wanted(60, 600)
MANIFEST: dict[str, Any] = {
    "mode": "CustomerManaged",
    "keyUri": KEY,
    "tenantRef": {"name": "contoso"},
    "access": {"application": {}},
}


def judged(licence: OrganizationLicence | None, **options: Any) -> Standing:
    return standing("acme", licence, **{"customer_managed": True, "now": NOW, **options})


def in_state(state: LicenceState, until: datetime | None = None) -> OrganizationLicence:
    return OrganizationLicence(Licensing.UNIFIED, "Enterprise", state, until)


def accepted(wanted: Wanted = WANTED) -> OrganizationKeyStatus:
    return with_accepted(OrganizationKeyStatus(), wanted, Proven(f"{KEY}/{V1}", "RSA-OAEP-256", CANARY), NOW)


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        (ENTERPRISE, Reason.LICENSED),
        (OrganizationLicence(Licensing.FLEX, "Standard", LicenceState.ACTIVE), Reason.LICENSED),
        (OrganizationLicence(Licensing.FLEX, "Advanced", LicenceState.ACTIVE), Reason.LICENSED),
        (OrganizationLicence(Licensing.FLEX, "Enterprise", LicenceState.ACTIVE), Reason.PLAN_WITHOUT_KEYS),
        (OrganizationLicence(Licensing.UNIFIED, "Standard", LicenceState.ACTIVE), Reason.PLAN_WITHOUT_KEYS),
        (OrganizationLicence(Licensing.UNIFIED, "Free", LicenceState.FREE), Reason.LICENCE_FREE),
        (in_state(LicenceState.FREE), Reason.LICENCE_FREE),
        (in_state(LicenceState.VIEW_ONLY), Reason.LICENCE_VIEW_ONLY),
        (in_state(LicenceState.GRACE, NOW + timedelta(seconds=1)), Reason.LICENCE_GRACE),
        (in_state(LicenceState.GRACE, NOW), Reason.LICENCE_EXPIRED),
        (in_state(LicenceState.GRACE), Reason.LICENCE_EXPIRED),
        (None, Reason.LICENCE_MISSING),
    ],
)
def test_each_licence_has_its_reason_and_a_refusal_says_who_must_act(
    licence: OrganizationLicence | None, reason: Reason
) -> None:
    found = judged(licence)
    assert found.reason is reason
    assert found.allowed is (reason in {Reason.LICENSED, Reason.LICENCE_GRACE})
    assert found.allowed or (" must " in found.message and "set mode to PlatformManaged" in found.message)
    assert found.encrypts


def test_the_end_of_a_grace_period_is_a_moment_whatever_its_offset() -> None:
    until = NOW.astimezone(timezone(timedelta(hours=5)))
    assert judged(in_state(LicenceState.GRACE, until)).reason is Reason.LICENCE_EXPIRED
    assert judged(in_state(LicenceState.GRACE, until), now=NOW - timedelta(seconds=1)).reason is Reason.LICENCE_GRACE


@given(
    st.sampled_from(Licensing),
    st.sampled_from(["Standard", "Advanced", "Enterprise", "Free", "Pro"]),
    st.sampled_from(LicenceState),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.sampled_from(["Allowed", "Refused"]),
)
def test_no_licence_blocks_the_way_to_the_platforms_key_or_a_renewal_and_only_view_only_stops_encryption(
    licensing: Licensing, plan: str, state: LicenceState, until: datetime | None, policy: str
) -> None:
    licence, encrypts = OrganizationLicence(licensing, plan, state, until), policy == "Allowed"
    found = judged(licence, view_only_encrypts=encrypts)
    assert found.allows(Change.TO_PLATFORM)
    assert found.allows(Change.SAME_WAY)
    assert found.allows(Change.OTHER) is found.allowed
    assert found.encrypts is (encrypts or state is not LicenceState.VIEW_ONLY)
    platform = judged(licence, customer_managed=False, view_only_encrypts=encrypts)
    assert platform.allowed
    assert platform.encrypts is found.encrypts


@pytest.mark.parametrize(
    ("before", "wanted", "change"),
    [
        (WANTED, TO_PLATFORM, Change.TO_PLATFORM),
        (None, TO_PLATFORM, Change.TO_PLATFORM),
        (None, WANTED, Change.OTHER),
        (TO_PLATFORM, WANTED, Change.OTHER),
        (WANTED, Wanted(60, 600, parse_key_uri(f"{KEY}/{V1}"), ACCESS), Change.OTHER),
        (WANTED, BY_REGISTRATION, Change.OTHER),
        (BY_REGISTRATION, RENEWED, Change.SAME_WAY),
        (BY_REGISTRATION, Wanted(60, 600, parse_key_uri(KEY), OWN.model_copy(update={"client_id": "other"})), Change.OTHER),
        # The provider has registered its application anew.
        (
            WANTED,
            Wanted(60, 600, parse_key_uri(KEY), ACCESS.model_copy(update={"application_client_id": "new"})),
            Change.SAME_WAY,
        ),
    ],
)
def test_each_difference_counts_as_what_it_is(before: Wanted | None, wanted: Wanted, change: Change) -> None:
    held = None
    if before is not None:
        proven = Proven() if before.access is None else Proven(f"{KEY}/{V1}", "RSA-OAEP-256", CANARY)
        held = with_accepted(OrganizationKeyStatus(), before, proven, NOW).accepted
    assert change_of(held, wanted) is change
    frozen = judged(None)
    refused = refused_by_licence(frozen, held, wanted)
    assert (refused is not None) is (change is Change.OTHER)
    assert refused is None or (refused.stage.value, refused.message) == ("Licence", frozen.message)
    assert refused_by_licence(NOT_USED, held, wanted) is None


def test_only_a_newly_chosen_access_must_be_offered() -> None:
    found = judged(ENTERPRISE, methods=frozenset({AccessMethod.REGISTRATION}))
    refused = refused_by_licence(found, None, WANTED)
    assert refused is not None
    assert refused.reason is Reason.ACCESS_NOT_OFFERED
    assert "use access.registration, or let the provider's administrator add Application" in refused.message
    assert refused_by_licence(found, accepted().accepted, WANTED) is None
    assert refused_by_licence(found, None, BY_REGISTRATION) is None


def test_the_licence_lists_organizations_by_their_id() -> None:
    spec = LicenceSpec.model_validate(
        {"organizations": {"acme": {"licensing": "Unified", "plan": "Enterprise", "state": "Active"}}}
    )
    assert licence_in(spec, "acme") == ENTERPRISE
    assert licence_in(spec, "other") is None
    assert licence_in(LicenceSpec(), "acme") is None
    assert licence_in(None, "acme") is None


@pytest.mark.parametrize(
    ("spec", "offered"),
    [
        (None, set(AccessMethod)),
        (LicenceSpec(), set(AccessMethod)),
        (LicenceSpec(access_methods=["Registration"]), {AccessMethod.REGISTRATION}),
    ],
)
def test_the_platform_offers_every_method_unless_the_licence_says_otherwise(
    spec: LicenceSpec | None, offered: set[AccessMethod]
) -> None:
    assert methods_in(spec) == offered


def test_a_refusal_to_encrypt_changes_neither_revision_nor_key() -> None:
    before = accepted()
    refused = with_encryption(before, judged(in_state(LicenceState.VIEW_ONLY), view_only_encrypts=False))
    assert refused.accepted is not None
    assert before.accepted is not None
    assert refused.accepted == before.accepted.model_copy(update={"encrypt": "Refused"})
    assert with_encryption(refused, judged(ENTERPRISE)) == before
    assert with_encryption(OrganizationKeyStatus(), NOT_USED) == OrganizationKeyStatus()


def reported(found: Standing, status: OrganizationKeyStatus | None = None) -> tuple[OrganizationKey, OrganizationKeyStatus]:
    held = organization(**MANIFEST).model_copy(update={"status": status or accepted()})
    facts = OrganizationFacts(held.status, in_force=True, probed=True, licence=found)
    return held, organization_status(held, facts, NOW)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (NOT_USED, "True"),
        (judged(ENTERPRISE), "True"),
        (judged(None), "False"),
        (not_read("no answer", encrypts=True), "Unknown"),
    ],
)
def test_the_condition_says_what_the_licence_allows(found: Standing, status: str) -> None:
    condition = find(reported(found)[1].conditions, ConditionType.LICENCE_ALLOWS_CHANGE)
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == (status, found.reason, found.message)


def test_each_change_of_the_licence_is_one_entry_and_a_renewal_without_licence_is_flagged() -> None:
    view_only = judged(in_state(LicenceState.VIEW_ONLY))
    held, licensed = reported(judged(ENTERPRISE), accepted(BY_REGISTRATION))
    held = held.model_copy(update={"status": licensed})
    _, frozen = reported(view_only, licensed)
    [entry] = changes_of(held, frozen, None, NOW, automatic=False)
    assert (entry.event, entry.by, entry.before, entry.after) == (
        "LicenceChanged",
        "the provider",
        "Licensed",
        "LicenceViewOnly",
    )
    held = held.model_copy(update={"status": frozen})
    assert changes_of(held, reported(view_only, frozen)[1], None, NOW, automatic=False) == ()
    renewed = with_accepted(frozen, RENEWED, Proven(f"{KEY}/{V1}", "RSA-OAEP-256", CANARY), NOW)
    [entry] = changes_of(held, reported(view_only, renewed)[1], None, NOW, automatic=False)
    assert "the licence allows nothing else (LicenceViewOnly): the credentials were renewed" in entry.why
    followed = with_accepted(frozen, BY_REGISTRATION, Proven(f"{KEY}/{'f' * 32}", "RSA-OAEP-256", CANARY), NOW)
    [entry] = changes_of(held, reported(view_only, followed)[1], None, NOW, automatic=True)
    assert "licence" not in entry.why
    gone = with_accepted(frozen, TO_PLATFORM, Proven(), NOW)
    [entry] = [
        one for one in changes_of(held, reported(view_only, gone)[1], None, NOW, automatic=False) if one.event == "KeyChanged"
    ]
    assert "to the platform's key, without a way back" in entry.why


class Server:
    """An API server with one Licence, which counts what it is asked."""

    def __init__(self, answer: dict[str, Any] | KubernetesError | None) -> None:
        self.answer, self.asked, self.now = answer, 0, 0.0

    async def get(self, _: object) -> dict[str, Any] | None:
        self.asked += 1
        if isinstance(self.answer, KubernetesError):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (KubernetesError("GET", "/x", 403, "Forbidden", "no"), "must let its ServiceAccount read it"),
        (KubernetesError("GET", "/x", 0, "TimeoutError", "no answer"), "cannot read the Licence"),
        ({"metadata": {"name": "organizations"}, "spec": {"organizations": []}}, "has a form that this release does not read"),
    ],
)
def test_a_licence_that_cannot_be_read_is_a_value(answer: dict[str, Any] | KubernetesError, words: str) -> None:
    server = Server(answer)
    found = asyncio.run(Licences(server, lambda: 0.0, used=True).read())  # type: ignore[arg-type] # all that it asks for
    assert isinstance(found, Unread)
    assert words in found.message


def test_many_organizations_read_the_licence_once() -> None:
    async def read() -> None:
        server = Server({"metadata": {"name": "organizations"}, "spec": {}})
        licences = Licences(server, lambda: server.now, used=True)  # type: ignore[arg-type] # all that it asks for
        assert [await licences.read() for _ in range(5)] == [LicenceSpec()] * 5
        assert server.asked == 1
        assert await licences.read(anew=True) == LicenceSpec()
        assert server.asked == 2
        server.now, server.answer = READ_EVERY, None
        assert await licences.read() is None

    asyncio.run(read())
