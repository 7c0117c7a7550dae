"""Settings of an organization: how they differ from those in force, and what the status keeps of those before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.organization_key import (
    MOST_EARLIER,
    AcceptedAccess,
    AcceptedCredential,
    Canary,
    DataKeysReport,
    KidCount,
    OrganizationKey,
    OrganizationKeyStatus,
)
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from cmk_operator.reconcile.organization.settings import (
    PLATFORM_KEY,
    Difference,
    Proven,
    Wanted,
    difference,
    effective_settings,
    wanted_settings,
    with_accepted,
    with_bounds,
)
from cmk_operator.reconcile.organization.versions import version_reports
from tests.unit.samples import APPLICATION, CLIENT, CUSTOMER, KEY, NOW, PROVIDER, V1, V2

CANARY = Canary(wrapped="AAAA", digest="0" * 64)
ACCESS = AcceptedAccess(
    method="Application",
    cloud="AzurePublic",
    tenant_id=CUSTOMER,
    application_client_id=APPLICATION,
    managed_identity_client_id=CLIENT,
    provider_tenant_id=PROVIDER,
    operator_credential="ManagedIdentity",
)
OWN = AcceptedAccess(
    method="Registration",
    cloud="AzurePublic",
    tenant_id=CUSTOMER,
    client_id=CLIENT,
    credentials=(AcceptedCredential(secret="vault", key="secret", type="ClientSecret"),),  # noqa: S106 - the name of a Secret
)
WANTED = Wanted(60, 600, parse_key_uri(KEY), ACCESS)


def organization(**spec: Any) -> OrganizationKey:
    """An OrganizationKey of Acme."""
    whole = {"organization": {"id": "acme", "name": "Acme Corp"}, **spec}
    metadata = {"name": "acme", "namespace": "team", "uid": "one", "generation": 1}
    return OrganizationKey.model_validate({"metadata": metadata, "spec": whole})


def proven(version: str = V1, **changes: Any) -> Proven:
    """A test that has passed."""
    return Proven(f"{KEY}/{version}", "RSA-OAEP-256", CANARY, **changes)


def in_force(status: OrganizationKeyStatus | None = None, wanted: Wanted = WANTED, found: Proven | None = None) -> Any:
    """The status after an acceptance."""
    return with_accepted(status or OrganizationKeyStatus(), wanted, found or proven(), NOW)


def test_nothing_in_force_differs_from_everything() -> None:
    assert difference(None, WANTED) is Difference.KEY
    assert difference(None, Wanted(60, 600)) is Difference.KEY


@pytest.mark.parametrize(
    ("wanted", "differs"),
    [
        (WANTED, Difference.NONE),
        (Wanted(30, 600, parse_key_uri(KEY), ACCESS), Difference.BOUNDS),
        (Wanted(60, 0, parse_key_uri(KEY), ACCESS), Difference.BOUNDS),
        (Wanted(60, 600, parse_key_uri(KEY), OWN), Difference.ACCESS),
        (Wanted(60, 600, parse_key_uri(f"{KEY}/{V1}"), ACCESS), Difference.KEY),
        (Wanted(60, 600, parse_key_uri(f"{KEY}2"), OWN), Difference.KEY),
        (Wanted(60, 600), Difference.KEY),
    ],
)
def test_settings_differ_in_bounds_access_or_key(wanted: Wanted, differs: Difference) -> None:
    assert difference(in_force().accepted, wanted) is differs


def test_each_acceptance_is_the_next_revision_and_the_one_before_is_kept_first() -> None:
    status = in_force(in_force(), found=proven(V2))
    assert status.accepted is not None
    assert (status.accepted.revision, status.accepted.kid) == (2, f"{KEY}/{V2}")
    assert [(one.revision, one.kid, one.until) for one in status.earlier] == [(1, f"{KEY}/{V1}", NOW)]


def test_the_key_in_force_that_only_the_new_access_reaches_is_found_with_it_first() -> None:
    status = in_force(
        in_force(), Wanted(60, 600, parse_key_uri(f"{KEY}2"), OWN), Proven(f"{KEY}2/{V1}", "RSA-OAEP-256", CANARY, OWN)
    )
    assert status.accepted is not None
    assert status.accepted.revision == 3
    assert [(one.revision, one.kid, one.access) for one in status.earlier] == [
        (2, f"{KEY}/{V1}", OWN),
        (1, f"{KEY}/{V1}", ACCESS),
    ]


def test_a_key_that_is_spelled_anew_keeps_its_first_name_so_that_no_version_in_force_looks_superseded() -> None:
    vault, _, name = KEY.rpartition("/")
    respelled = f"{vault}/{name.upper()}"
    anew = Proven(f"{respelled}/{V1}", "RSA-OAEP-256", CANARY)
    pinned = in_force(in_force(), Wanted(60, 600, parse_key_uri(f"{respelled}/{V1}"), ACCESS), anew)
    assert pinned.accepted is not None
    assert (pinned.accepted.kid, pinned.earlier) == (f"{KEY}/{V1}", ())
    back = in_force(in_force(in_force(), found=proven(V2)), Wanted(60, 600, parse_key_uri(respelled), ACCESS), anew)
    assert back.accepted is not None
    assert back.accepted.kid == f"{KEY}/{V1}"
    counted = {f"{KEY}/{V1}": 1, f"{KEY}/{V2}": 0}
    versions = version_reports(back, counted, "0h", NOW)
    assert [(one.kid, one.safe_to_disable) for one in versions] == [(f"{KEY}/{V1}", "False"), (f"{KEY}/{V2}", "True")]


def test_other_bounds_are_a_revision_of_the_same_key_and_leave_nothing_behind() -> None:
    before = in_force()
    after = with_bounds(before, Wanted(1, 0, parse_key_uri(KEY), ACCESS))
    assert after.accepted is not None
    assert before.accepted is not None
    assert (after.accepted.revision, after.accepted.probe_interval_seconds, after.accepted.outage_grace_seconds) == (2, 1, 0)
    assert (after.accepted.kid, after.accepted.canary, after.accepted.since) == (before.accepted.kid, CANARY, NOW)
    assert after.earlier == ()


def test_the_platform_key_has_no_canary_and_no_access() -> None:
    status = in_force(in_force(), Wanted(60, 600), Proven())
    assert status.accepted is not None
    assert (status.accepted.mode, status.accepted.kid, status.accepted.access) == ("PlatformManaged", PLATFORM_KEY, None)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_no_version_with_data_keys_leaves_what_is_kept_while_there_is_room(order: list[int]) -> None:
    used = f"{KEY}/{'a' * 32}"
    counted = DataKeysReport(by_kid=(KidCount(kid=used, data_keys=1),), total=1)
    status = in_force(found=proven("a" * 32)).model_copy(update={"data_keys": counted})
    for number in order:
        status = in_force(status, found=proven(f"{number:032x}"))
    assert len(status.earlier) <= MOST_EARLIER
    assert any(one.kid == used for one in status.earlier)
    assert len({(one.kid, one.access) for one in status.earlier}) == len(status.earlier), "each key and access once"


def test_what_a_manifest_leaves_out_has_a_default_in_status() -> None:
    effective = effective_settings(organization())
    assert (effective.mode, effective.rotation, effective.approval) == ("PlatformManaged", None, "Automatic")
    assert (effective.check_interval, effective.probe_interval, effective.outage_grace) == ("1h", "60s", "10m")
    assert effective.backup_retention is None


def test_intervals_are_read_as_seconds() -> None:
    wanted = wanted_settings(organization(revocation={"probeInterval": "1m30s", "outageGrace": "0s"}))
    assert (wanted.probe_interval_seconds, wanted.outage_grace_seconds, wanted.mode) == (90, 0, "PlatformManaged")
    assert timedelta(seconds=wanted.probe_interval_seconds) == timedelta(minutes=1.5)
