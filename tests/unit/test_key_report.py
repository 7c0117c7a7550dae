"""The status of a key: complete, true, and written only when it means something else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import Condition, find
from cmk_operator.api.customer_managed_key import CustomerManagedKey, CustomerManagedKeyStatus
from cmk_operator.core.access.state import AccessState, KeyProbe, VersionProbe
from cmk_operator.core.authority import TenantGrant, judge_namespace
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Fault
from cmk_operator.reconcile.key.policy import effective_key_policy
from cmk_operator.reconcile.key.report import KeyFacts, Usage, key_status, refused_key_status, watched_versions
from tests.unit.samples import (
    KEY,
    LATER,
    LISTED,
    NOW,
    V1,
    V2,
    V3,
    customer_managed_key,
    disabled,
    entra,
    forbidden,
    guard,
    healthy,
    key_probes,
    probe,
    refused,
    states,
    users_of_versions,
    vault,
)
from tests.unit.schema import complaints, status_schema

STORAGE = "microsoft.storage/storageaccounts"
ASPECTS = {"Ready", "KeyAccessible", "PrerequisitesMet", "RotationCurrent", "ConsentGranted", "UsersKnown"}


def facts(found: KeyProbe, users: dict[str, tuple[str, ...]] | None = None, uri: str = KEY) -> KeyFacts:
    by_version = users or {}
    names = tuple(sorted({name for names in by_version.values() for name in names}))
    return KeyFacts(guard(found, uri), Usage(names, by_version), azure=LISTED)


def condition(status: CustomerManagedKeyStatus, kind: str) -> Condition:
    found = next((one for one in status.conditions if one.type == kind), None)
    assert found is not None
    return found


def wire(status: CustomerManagedKeyStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


refusal = judge_namespace(TenantGrant("contoso", (), (), ()), "team-a")


@given(key_probes(), users_of_versions(), st.sampled_from([None, "Enforce", "Warn"]))
def test_the_status_of_every_probe_is_complete_and_fits_the_definition(
    found: KeyProbe, users: dict[str, tuple[str, ...]], strictness: str | None
) -> None:
    status = key_status(customer_managed_key(prerequisites=strictness), facts(found, users), NOW)
    types = [entry.type for entry in status.conditions]
    assert set(types) - {"Reconciling", "Stalled"} == ASPECTS
    assert len(types) == len(set(types))
    assert complaints(wire(status), status_schema("customermanagedkeys")) == []
    assert CustomerManagedKeyStatus.model_validate(wire(status)) == status


@given(key_probes(), users_of_versions())
def test_seeing_the_same_again_later_writes_nothing(found: KeyProbe, users: dict[str, tuple[str, ...]]) -> None:
    key = customer_managed_key()
    first = key_status(key, facts(found, users), NOW)
    again = key_status(key.model_copy(update={"status": first}), facts(found, users), LATER)
    assert again == first


@given(key_probes(), users_of_versions())
def test_exactly_one_of_ready_reconciling_and_stalled_is_true(found: KeyProbe, users: dict[str, tuple[str, ...]]) -> None:
    status = key_status(customer_managed_key(), facts(found, users), NOW)
    ready = condition(status, "Ready").status == "True"
    assert [
        ready,
        find(status.conditions, ConditionType.RECONCILING) is not None,
        find(status.conditions, ConditionType.STALLED) is not None,
    ].count(True) == 1
    stalled = find(status.conditions, ConditionType.STALLED)
    if stalled is not None:
        assert " must " in stalled.message


@given(key_probes(), users_of_versions())
def test_ready_means_accessible_with_its_prerequisites_met(found: KeyProbe, users: dict[str, tuple[str, ...]]) -> None:
    status = key_status(customer_managed_key(), facts(found, users), NOW)
    if condition(status, "Ready").status == "True":
        assert found.wanted.round_trip
        assert condition(status, "PrerequisitesMet").status == "True"
        assert status.access is not None
        assert status.access.state == "Accessible"


@given(st.lists(st.tuples(key_probes(), users_of_versions()), min_size=1, max_size=5))
def test_the_active_version_is_always_one_that_passed(life: list[tuple[KeyProbe, dict[str, tuple[str, ...]]]]) -> None:
    key, passed = customer_managed_key(), set()
    for hour, (found, users) in enumerate(life):
        if key_status(customer_managed_key(), facts(found), NOW).active_version is not None:
            assert found.wanted.attributes is not None
            passed.add(found.wanted.attributes.version)
        status = key_status(key, facts(found, users), NOW + timedelta(hours=hour))
        assert status.active_version is None or status.active_version in passed
        assert set(users) <= {entry.version for entry in status.versions}
        assert all(entry.safe_to_disable_after is None for entry in status.versions if entry.version in users)
        assert len(status.rotations) <= 10
        key = key.model_copy(update={"status": status})


@pytest.mark.parametrize(("name", "found"), states().items())
def test_every_state_is_the_reason_of_key_accessible_and_unknown_unless_it_is_a_loss(name: str, found: KeyProbe) -> None:
    status = key_status(customer_managed_key(), facts(found), NOW)
    told = condition(status, "KeyAccessible")
    assert told.reason == name
    expected = {True: "False", False: "Unknown"}[AccessState(name).is_known_loss] if name != "Accessible" else "True"
    assert told.status == expected


@pytest.mark.parametrize(
    ("code", "granted"), [(700016, "False"), (7000112, "False"), (53003, "Unknown"), (700236, "Unknown"), (700213, "Unknown")]
)
def test_consent_is_told_only_as_far_as_entra_told_it(code: int, granted: str) -> None:
    status = key_status(customer_managed_key(), facts(probe(refused(entra(code)))), NOW)
    assert condition(status, "ConsentGranted").status == granted


def test_a_rotation_is_told_with_its_two_versions_and_by_whom() -> None:
    key = customer_managed_key()
    first = key_status(key, facts(probe(healthy(V1)), {V1: ("data",)}), NOW)
    followed = key.model_copy(update={"status": first})
    second = key_status(followed, facts(probe(healthy(V2), in_use={V1: healthy(V1)}), {V1: ("data",)}), LATER)
    assert [(entry.from_, entry.to, entry.by) for entry in second.rotations] == [(V1, V2, "Key Vault"), (None, V1, "Key Vault")]
    assert condition(second, "RotationCurrent").reason == "ResourcesOnOlderVersion"
    assert f"data is still on an older version than {V2}" in condition(second, "RotationCurrent").message
    assert all(entry.safe_to_disable_after is None for entry in second.versions)


def test_the_last_ten_rotations_are_kept_newest_first() -> None:
    key = customer_managed_key()
    for number in range(14):
        status = key_status(key, facts(probe(healthy(f"{number:032x}"))), NOW + timedelta(hours=number))
        key = key.model_copy(update={"status": status})
    assert [entry.to for entry in key.status.rotations] == [f"{number:032x}" for number in range(13, 3, -1)]


def test_a_lost_key_keeps_its_active_version_and_says_when_data_goes() -> None:
    key = customer_managed_key()
    good = key_status(key, facts(probe(healthy(V1)), {V1: ("data",)}), NOW)
    lost = key_status(key.model_copy(update={"status": good}), facts(probe(disabled(V1)), {V1: ("data",)}), LATER)
    assert lost.active_version == V1
    assert lost.access is not None
    assert (lost.access.state, lost.access.since) == ("Disabled", LATER)
    assert lost.access.inaccessible_expected_at == LATER + timedelta(minutes=10)
    assert condition(lost, "Ready").status == "False"
    healed = key_status(
        key.model_copy(update={"status": lost}), facts(probe(healthy(V1)), {V1: ("data",)}), LATER + timedelta(hours=1)
    )
    assert healed.access is not None
    assert healed.access.inaccessible_expected_at is None
    assert condition(healed, "Ready").status == "True"


def test_a_hold_of_the_manifest_delays_what_is_safe_and_backups_are_told_beside_it() -> None:
    key = customer_managed_key(rotation={"holdSupersededFor": "48h", "backupRetention": "840h"})
    first = key_status(key, facts(probe(healthy(V1)), {V1: ("data",)}), NOW)
    moved = key_status(key.model_copy(update={"status": first}), facts(probe(healthy(V2)), {V2: ("data",)}), LATER)
    old = next(entry for entry in moved.versions if entry.version == V1)
    assert old.safe_to_disable_after == LATER + timedelta(hours=48)
    assert old.keep_until == LATER + timedelta(hours=840)


def test_a_key_that_lacks_a_hard_prerequisite_is_not_ready_even_under_warn() -> None:
    status = key_status(
        customer_managed_key(prerequisites="Warn"), facts(probe(healthy(recovery_level="Recoverable+Purgeable"))), NOW
    )
    assert condition(status, "PrerequisitesMet").reason == "PurgeProtectionFailed"
    assert find(status.conditions, ConditionType.STALLED) is not None


def test_warn_tells_what_it_does_not_enforce() -> None:
    status = key_status(customer_managed_key(prerequisites="Warn"), facts(probe(healthy(key_size=4096))), NOW)
    assert condition(status, "Ready").status == "True"
    assert condition(status, "PrerequisitesMet").reason == "Warned"
    assert "the key has 4096 bits, not 2048" in condition(status, "PrerequisitesMet").message


@pytest.mark.parametrize(("uri", "rotation"), [(KEY, "Following"), (f"{KEY}/{V1}", "Pinned")])
def test_the_effective_values_are_told_not_written_into_the_manifest(uri: str, rotation: str) -> None:
    effective = effective_key_policy(customer_managed_key(keyUri=uri))
    assert (effective.rotation, effective.prerequisites, effective.hold_superseded_for) == (rotation, "Enforce", "24h")


def test_a_requested_pass_is_echoed() -> None:
    key = CustomerManagedKey.model_validate(
        {
            "metadata": {"name": "k", "namespace": "n", "annotations": {"cmk-operator.dev/reconcile-requested-at": "now"}},
            "spec": {"tenantRef": {"name": "t"}, "keyUri": KEY},
        }
    )
    assert key_status(key, facts(probe()), NOW).last_handled_reconcile_at == "now"


@given(key_probes(), users_of_versions())
def test_a_refused_key_has_all_conditions_and_forgets_no_version(found: KeyProbe, users: dict[str, tuple[str, ...]]) -> None:
    assert isinstance(refusal, Fault)
    key = customer_managed_key()
    before = key_status(key, facts(found, users), NOW)
    known = key.model_copy(update={"status": before})
    status = refused_key_status(known, refusal, Usage(), LATER)
    assert {entry.type for entry in status.conditions} == ASPECTS | {"Stalled"}
    assert complaints(wire(status), status_schema("customermanagedkeys")) == []
    assert (status.versions, status.active_version) == (before.versions, before.active_version)
    again = refused_key_status(known.model_copy(update={"status": status}), refusal, Usage(), LATER + timedelta(hours=1))
    assert again == status


def test_many_users_are_counted_and_cut() -> None:
    names = tuple(f"data-{number:03}" for number in range(50))
    status = key_status(customer_managed_key(), KeyFacts(guard(), Usage(names, {V1: names})), NOW)
    assert (len(status.used_by), status.used_by_count) == (20, 50)
    assert (len(status.versions[0].in_use_by), status.versions[0].in_use_by_count) == (20, 50)


def test_versions_that_nothing_probes_show_no_access() -> None:
    key = customer_managed_key()
    for version in (V1, V2, V3):
        key = key.model_copy(update={"status": key_status(key, facts(probe(healthy(version)), {version: ("data",)}), NOW)})
    assert [(entry.version, entry.access) for entry in key.status.versions] == [(V3, "Accessible"), (V2, None), (V1, None)]


def rotated(retention: str | None = "840h") -> CustomerManagedKey:
    """A key whose first version nothing is on any more."""
    key = customer_managed_key(rotation={"backupRetention": retention} if retention else {})
    for version in (V1, V2):
        key = key.model_copy(update={"status": key_status(key, facts(probe(healthy(version)), {version: ("data",)}), NOW)})
    return key


@pytest.mark.parametrize("retention", ["840h", None])
def test_a_version_that_is_disabled_before_its_time_is_told_although_nothing_is_on_it(retention: str | None) -> None:
    key = rotated(retention)
    assert watched_versions(key.status, NOW) == {V1}
    lost = key_status(key, facts(probe(healthy(V2), in_use={V1: disabled(V1)}), {V2: ("data",)}), LATER)
    told = condition(lost, "RotationCurrent")
    assert (told.status, told.reason) == ("False", "OldVersionLost")
    assert f"version {V1}, which no resource uses any more" in told.message
    assert "the customer's administrator must enable it" in told.message
    assert condition(lost, "Ready").status == "True", "no data stops"
    assert lost.access is not None
    assert lost.access.lost_since is None
    past = NOW + timedelta(days=35)
    assert watched_versions(key.status, past) == frozenset()
    late = key_status(key, facts(probe(healthy(V2), in_use={V1: disabled(V1)}), {V2: ("data",)}), past)
    assert condition(late, "RotationCurrent").reason == "Current", "then it may be disabled"


def test_while_the_key_itself_is_lost_no_single_version_is_told() -> None:
    lost = key_status(rotated(), facts(probe(disabled(V2), in_use={V1: disabled(V1)}), {V2: ("data",)}), LATER)
    assert condition(lost, "RotationCurrent").reason != "OldVersionLost"
    assert condition(lost, "KeyAccessible").reason == "Disabled"


CLOSED = vault(networkAcls={"bypass": "None", "defaultAction": "Deny"})
BYPASSED = vault(networkAcls={"bypass": "AzureServices", "defaultAction": "Deny"})


@pytest.mark.parametrize("found", [probe(), probe(refused(forbidden("ForbiddenByFirewall")))], ids=["let in", "kept out"])
def test_a_firewall_that_is_known_to_keep_azures_services_out_is_a_loss_wherever_the_probe_comes_from(found: KeyProbe) -> None:
    key = customer_managed_key()
    usage = Usage(("data", "warehouse"), {V1: ("data", "warehouse")}, types={"data": STORAGE, "warehouse": "snowflake"})
    status = key_status(key, KeyFacts(guard(found, vault=CLOSED), usage), NOW)
    told = condition(status, "KeyAccessible")
    assert (told.status, told.reason) == ("False", "FirewallBlocksServices")
    assert "the customer's administrator must enable it" in told.message
    assert status.active_version is None, "nothing new is put on it"
    assert status.access is not None
    (stop,) = status.access.stops
    assert (stop.service, stop.resources) == ("Azure Storage", ("data",)), "Snowflake comes by a door of its own"
    again = key_status(key, KeyFacts(guard(found, vault=BYPASSED), usage), NOW)
    assert condition(again, "KeyAccessible").reason != "FirewallBlocksServices"


@pytest.mark.parametrize(
    ("lost", "stopped"), [(refused(forbidden("ForbiddenByRbac")), 0), (disabled(), 1)], ids=["role", "disabled"]
)
def test_snowflake_stops_when_the_key_is_lost_and_not_when_only_our_application_is_denied(
    lost: VersionProbe, stopped: int
) -> None:
    usage = Usage(("warehouse",), {V1: ("warehouse",)}, types={"warehouse": "snowflake"})
    status = key_status(customer_managed_key(), KeyFacts(guard(probe(lost)), usage), NOW)
    assert status.access is not None
    assert (len(status.access.stops), status.access.lost_since is not None) == (stopped, bool(stopped))


def test_who_is_on_a_version_that_nobody_tells_is_in_danger_too() -> None:
    usage = Usage(("warehouse",), {}, ("warehouse",), types={"warehouse": "snowflake"})
    status = key_status(customer_managed_key(), KeyFacts(guard(probe(disabled())), usage), NOW)
    assert status.access is not None
    assert [stop.resources for stop in status.access.stops] == [("warehouse",)]
