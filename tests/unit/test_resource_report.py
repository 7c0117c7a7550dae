"""The status of a resource: complete, true, and written only when it means something else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import Condition, find
from cmk_operator.api.encrypted_resource import EncryptedResourceStatus, TargetReport
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.encryption.long_running import Operation
from cmk_operator.core.encryption.protection import FieldChange, MicrosoftManaged, OnKey, Protection, key_in_force
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import FaultKind, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.protocol import Plan, ResourceFacts, Shown
from cmk_operator.reconcile.audit import key_change_found
from cmk_operator.reconcile.key import report as key_report
from cmk_operator.reconcile.key.report import KeyFacts, Usage
from cmk_operator.reconcile.resource import report as resource_report
from cmk_operator.reconcile.resource.authorship import OwnChange
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
    facts_of,
)
from tests.unit.samples import (
    KEY,
    LATER,
    NOW,
    V1,
    V2,
    VAULT,
    customer_managed_key,
    disabled,
    encrypted_resource,
    guard,
    healthy,
    key_probes,
    probe,
    refused,
    states,
    transient_failures,
)
from tests.unit.schema import complaints, status_schema

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.core.access.state import KeyProbe

ASPECTS = {"Ready", "Encrypted", "KeyAccessible", "KeyCurrent", "DataCovered"}
TARGET = TargetReport(kind="StorageAccount", name="contosodata")
ON_V1 = OnKey(KeyUri(VAULT, "storage"), V1)
ON_MICROSOFT = MicrosoftManaged()
NOTHING_SHOWN = Shown()
OPERATION = Operation("https://management.azure.com/operations/1", "put the set on the key", "r-0")
PLAN: Plan[dict[str, Any]] = Plan(
    {"properties": {"encryption": {}}},
    (FieldChange("properties.encryption.keySource", "Microsoft.Storage", "Microsoft.Keyvault"),),
)


def probed(found: KeyProbe | None = None, **spec: Any) -> CustomerManagedKey:
    key = customer_managed_key(**spec)
    gathered = KeyFacts(guard(found, key.spec.key_uri), Usage(("data",), {V1: ("data",)}))
    return key.model_copy(update={"status": key_report.key_status(key, gathered, NOW)})


@dataclass(frozen=True, slots=True)
class Found:
    """What a pass came to, and what else its report is told."""

    outcome: ResourceOutcome
    key: CustomerManagedKey | None
    own: OwnChange | None = None


def report(resource: EncryptedResource, found: Found, now: datetime) -> EncryptedResourceStatus:
    return resource_report.resource_status(resource, found.outcome, now, target=TARGET, key=found.key, own=found.own)


def facts(protection: Protection = ON_V1, shown: Shown = NOTHING_SHOWN) -> ResourceFacts[None]:
    return ResourceFacts(protection, None, shown)


def settled(
    protection: Protection = ON_V1,
    key: CustomerManagedKey | None = None,
    own: OwnChange | None = None,
    shown: Shown = NOTHING_SHOWN,
) -> Found:
    return Found(Settled(facts(protection, shown)), key or probed(), own)


def waiting(
    reason: Reason,
    message: str,
    key: CustomerManagedKey,
    protection: Protection = ON_MICROSOFT,
    *,
    keeps_key: bool = False,
) -> Found:
    return Found(Waiting(reason, message, facts(protection), keeps_key=keeps_key), key)


def condition(status: EncryptedResourceStatus, kind: str) -> Condition:
    found = next((one for one in status.conditions if one.type == kind), None)
    assert found is not None
    return found


def wire(status: EncryptedResourceStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


waits = st.sampled_from(
    [
        (Reason.DISABLED, "waiting for the key: the customer's administrator must enable it"),
        (Reason.WAITING_FOR_KEY, "the key has not been probed yet"),
        (Reason.KEY_SIZE_FAILED, "the key lacks a prerequisite: the customer's administrator must create an RSA 2048 key"),
        (Reason.NOT_TAKEN_OVER, "Azure accepted the change but does not show it yet"),
    ]
)
faults = st.one_of(
    st.just(invalid(Reason.UNSUPPORTED_RESOURCE_TYPE, "the platform engineer must remove this manifest")),
    transient_failures.map(lambda failure: judge_arm_failure(failure, "contosodata")),
    st.sampled_from(["AuthorizationFailed", "KeyVaultAuthenticationFailure", "Unheard"]).map(
        lambda code: judge_arm_failure(AzureFailure(400, code, ""), "contosodata")
    ),
)
protections: list[Protection] = [
    ON_MICROSOFT,
    ON_V1,
    OnKey(KeyUri(VAULT, "storage"), V2),
    OnKey(KeyUri(VAULT, "other"), V1),
    OnKey(KeyUri(VAULT, "storage")),
]
read = st.sampled_from(protections).map(facts)
on_a_key = st.sampled_from([one for one in protections if isinstance(one, OnKey)]).map(facts)
perhaps_read = st.one_of(st.none(), read)
results: st.SearchStrategy[ResourceOutcome] = st.one_of(
    st.builds(Refused, faults),
    st.builds(OperationUnknown, faults),
    st.builds(CallRefused, faults, perhaps_read),
    st.builds(Obstructed, faults, read),
    st.builds(Operating, st.just(OPERATION), st.floats(1.0, 60.0), perhaps_read),
    st.tuples(waits, read).map(lambda given: Waiting(*given[0], given[1], keeps_key=False)),
    st.tuples(waits, on_a_key).map(lambda given: Waiting(*given[0], given[1], keeps_key=True)),
    st.builds(Planned, st.sampled_from([PLAN, replace(PLAN, keeps_key=True)]), read),
    st.builds(Settled, on_a_key),
)


@st.composite
def outcomes(draw: st.DrawFn) -> Found:
    found = draw(results)
    key = draw(st.one_of(st.none(), key_probes().map(probed), st.just(customer_managed_key())))
    seen = facts_of(found)
    own = OwnChange(str(key_in_force(seen.protection) or ""), "r-1") if seen is not None and draw(st.booleans()) else None
    return Found(found, key, own)


@given(outcomes())
def test_the_status_of_every_outcome_is_complete_and_fits_the_definition(found: Found) -> None:
    status = report(encrypted_resource(), found, NOW)
    types = [entry.type for entry in status.conditions]
    assert set(types) - {"Reconciling", "Stalled"} == ASPECTS
    assert len(types) == len(set(types))
    assert complaints(wire(status), status_schema("encryptedresources")) == []
    assert EncryptedResourceStatus.model_validate(wire(status)) == status


@given(outcomes())
def test_coming_to_the_same_again_later_writes_nothing(found: Found) -> None:
    resource = encrypted_resource()
    first = report(resource, found, NOW)
    assert report(resource.model_copy(update={"status": first}), found, LATER) == first


@given(outcomes())
def test_ready_is_true_exactly_if_neither_reconciling_nor_stalled_is(found: Found) -> None:
    status = report(encrypted_resource(), found, NOW)
    ready = condition(status, "Ready").status == "True"
    reconciling, stalled = find(status.conditions, ConditionType.RECONCILING), find(status.conditions, ConditionType.STALLED)
    assert reconciling is None or stalled is None
    assert ready is (reconciling is None and stalled is None)
    if stalled is not None:
        assert " must " in stalled.message


@given(outcomes())
def test_ready_means_encrypted_with_an_accessible_key_unless_only_a_plan_is_asked_for(found: Found) -> None:
    status = report(encrypted_resource(), found, NOW)
    ready = condition(status, "Ready")
    if ready.reason == Reason.PLAN_ONLY:
        assert status.plan is not None
        assert condition(status, "Encrypted").status == "False"
    elif ready.status == "True":
        assert isinstance(found.outcome, Settled | Planned)
        assert condition(status, "Encrypted").status == "True"
        assert condition(status, "KeyAccessible").status == "True"


@given(outcomes())
def test_a_plan_is_shown_only_when_observing(found: Found) -> None:
    status = report(encrypted_resource(mode="Observe"), found, NOW)
    observing = isinstance(found.outcome, Planned)
    assert (status.plan is not None) is observing
    if status.plan is not None:
        assert status.plan.summary == ("properties.encryption.keySource: Microsoft.Storage -> Microsoft.Keyvault",)
        assert status.plan.patch == '{"properties": {"encryption": {}}}'


@given(outcomes())
def test_what_azure_was_last_seen_to_do_outlives_a_failed_look(found: Found) -> None:
    first = report(encrypted_resource(), settled(), NOW)
    status = report(encrypted_resource(first), found, LATER)
    if facts_of(found.outcome) is None:
        assert (status.applied, status.rotations) == (first.applied, first.rotations)


@given(outcomes())
def test_an_operation_stays_in_status_until_the_service_says_that_it_has_ended(found: Found) -> None:
    running = Found(Operating(OPERATION, 15.0, facts(ON_MICROSOFT)), probed())
    first = report(encrypted_resource(), running, NOW)
    assert first.operation is not None
    stays = isinstance(found.outcome, Refused | OperationUnknown | Operating)
    assert report(encrypted_resource(first), found, LATER).operation == (first.operation if stays else None)


def test_the_healthy_resource_says_so_in_every_condition() -> None:
    status = report(encrypted_resource(), settled(), NOW)
    assert {entry.type: (entry.status, entry.reason) for entry in status.conditions} == {
        "Ready": ("True", "Ready"),
        "Encrypted": ("True", "CustomerManagedKey"),
        "KeyAccessible": ("True", "Accessible"),
        "KeyCurrent": ("True", "Current"),
        "DataCovered": ("Unknown", "CoverageNotRead"),
    }
    assert status.applied is not None
    assert (status.applied.key_uri, status.applied.version) == (f"{KEY}/{V1}", V1)


def test_a_person_is_called_when_a_prerequisite_is_missing() -> None:
    message = "the key lacks a prerequisite: the customer's administrator must create a key"
    found = waiting(Reason.KEY_SIZE_FAILED, message, probed(probe(healthy(key_size=4096))))
    assert find(report(encrypted_resource(), found, NOW).conditions, ConditionType.STALLED) is not None


@pytest.mark.parametrize(
    "name", ["OperatorNotAuthenticated", "FirewallBlocksProbe", "Disabled", "PermissionDenied", "ConsentMissing"]
)
def test_a_person_is_called_when_the_key_waits_for_one(name: str) -> None:
    key = probed(states()[name])
    told = condition_of(key)
    for found in (waiting(AccessState(name).reason, f"waiting for the key: {told.message}", key), settled(key=key)):
        assert find(report(encrypted_resource(), found, NOW).conditions, ConditionType.STALLED) is not None


@pytest.mark.parametrize("name", ["Unknown", "VaultUnreachable"])
def test_an_outage_is_only_waited_for(name: str) -> None:
    key = probed(states()[name])
    for found in (waiting(AccessState(name).reason, "waiting for the key: nothing is concluded", key), settled(key=key)):
        status = report(encrypted_resource(), found, NOW)
        assert find(status.conditions, ConditionType.RECONCILING) is not None
        assert condition(status, "KeyAccessible").status == "Unknown"


def condition_of(key: CustomerManagedKey) -> Condition:
    found = find(key.status.conditions, ConditionType.KEY_ACCESSIBLE)
    assert found is not None
    return found


def test_a_lost_key_leaves_the_resource_encrypted_and_not_ready() -> None:
    status = report(encrypted_resource(), settled(key=probed(probe(disabled()))), NOW)
    assert condition(status, "Encrypted").status == "True"
    assert (condition(status, "Ready").status, condition(status, "Ready").reason) == ("False", "Disabled")


def test_a_resource_whose_own_version_is_accessible_is_ready_though_the_latest_is_lost() -> None:
    key = customer_managed_key()
    first = probed()
    found = probe(disabled(V2), in_use={V1: healthy(V1)})
    gathered = KeyFacts(guard(found), Usage(("data",), {V1: ("data",)}))
    lost = key.model_copy(update={"status": key_report.key_status(first, gathered, LATER)})
    status = report(encrypted_resource(), settled(key=lost), NOW)
    assert condition(status, "KeyAccessible").status == "True"
    assert condition(status, "Ready").status == "True"


def test_while_a_revert_waits_the_resource_is_still_encrypted() -> None:
    message = "the manifest is being deleted, and the resource must revert first; the customer's administrator must enable it"
    found = waiting(Reason.REVERT_WAITS_FOR_KEY, message, probed(probe(disabled())), ON_V1, keeps_key=True)
    resource = encrypted_resource()
    going = resource.model_copy(update={"metadata": resource.metadata.model_copy(update={"deletion_timestamp": NOW})})
    status = report(going, found, NOW)
    assert condition(status, "Encrypted").status == "True"
    assert (condition(status, "Ready").status, condition(status, "Ready").reason) == ("False", "RevertWaitsForKey")
    assert find(status.conditions, ConditionType.STALLED) is not None


def test_on_its_way_to_another_key_a_resource_is_not_said_to_be_encrypted_with_it() -> None:
    # Found by `make soak`: the operation was under way, and the condition said what was still so of the former key.
    on_another = facts(OnKey(KeyUri(VAULT, "former"), V1))
    found = Found(Operating(OPERATION, 15.0, on_another), probed())
    told = condition(report(encrypted_resource(), found, NOW), "Encrypted")
    assert (told.status, told.reason) == ("False", "OperationInProgress")


@pytest.mark.parametrize(
    ("protection", "status"), [(ON_V1, "True"), (OnKey(KeyUri(VAULT, "former"), V1), "False"), (ON_MICROSOFT, "False")]
)
def test_what_else_is_to_be_done_takes_no_resource_off_its_key(protection: Protection, status: str) -> None:
    fault = judge_arm_failure(AzureFailure(403, "AuthorizationFailed", ""), "contosodata")
    found = (
        Obstructed(fault, facts(protection)),
        Operating(OPERATION, 15.0, facts(protection)),
        Planned(replace(PLAN, keeps_key=True), facts(protection)),
        Waiting(Reason.NOT_TAKEN_OVER, "Azure accepted the change but does not show it yet", facts(protection), keeps_key=True),
    )
    for outcome in found:
        told = report(encrypted_resource(), Found(outcome, probed()), NOW)
        assert condition(told, "Encrypted").status == status
    moves = report(encrypted_resource(), Found(Planned(PLAN, facts(protection)), probed()), NOW)
    assert condition(moves, "Encrypted").status == "False"


def test_nobody_knows_whether_it_is_ready_while_azure_is_silent() -> None:
    fault = judge_arm_failure(AzureFailure(None, "Timeout", "no answer in time"), "contosodata")
    status = report(encrypted_resource(), Found(CallRefused(fault, None), probed()), NOW)
    assert condition(status, "Ready").status == "Unknown"
    assert condition(status, "Encrypted").status == "Unknown"


def test_an_outage_of_azure_says_nothing_about_the_encryption() -> None:
    fault = judge_arm_failure(AzureFailure(503, "ServerBusy", ""), "contosodata")
    assert fault.kind is FaultKind.BUSY
    status = report(encrypted_resource(), Found(CallRefused(fault, None), probed()), NOW)
    assert condition(status, "Encrypted").status == "Unknown"
    assert find(status.conditions, ConditionType.RECONCILING) is not None


@pytest.mark.parametrize(
    ("protection", "status", "reason"),
    [
        (ON_V1, "True", "Current"),
        (OnKey(KeyUri(VAULT, "storage"), V2), "False", "AzureWillRotate"),
        (OnKey(KeyUri(VAULT, "STORAGE"), V1), "True", "Current"),
        (OnKey(KeyUri(VAULT, "storage")), "Unknown", "VersionNotTold"),
        (OnKey(KeyUri(VAULT, "storage2"), V1), "False", "NotOnKey"),
        (MicrosoftManaged(), "False", "NotOnKey"),
    ],
    ids=["current", "behind", "another spelling", "version not told", "another key", "Microsoft-managed key"],
)
def test_key_current_compares_with_the_active_version(protection: Protection, status: str, reason: str) -> None:
    told = condition(report(encrypted_resource(), settled(protection=protection), NOW), "KeyCurrent")
    assert (told.status, told.reason) == (status, reason)


def test_a_pinned_resource_behind_its_version_is_moved_by_the_operator_not_by_azure() -> None:
    key = probed(probe(healthy(V2)), keyUri=f"{KEY}/{V2}")
    told = condition(report(encrypted_resource(), settled(key=key), NOW), "KeyCurrent")
    assert (told.status, told.reason) == ("False", "Outdated")


def test_a_move_is_told_with_both_keys_and_by_whom() -> None:
    first = report(encrypted_resource(), settled(own=OwnChange(f"{KEY}/{V1}", "r-1")), NOW)
    assert [(entry.from_, entry.to, entry.by, entry.request_id) for entry in first.rotations] == [
        (None, f"{KEY}/{V1}", "cmk-operator", "r-1")
    ]
    second = report(encrypted_resource(first), settled(protection=OnKey(KeyUri(VAULT, "storage"), V2)), LATER)
    newest = second.rotations[0]
    assert (newest.from_, newest.to, newest.by, newest.at) == (f"{KEY}/{V1}", f"{KEY}/{V2}", "found in Azure", LATER)
    assert newest.request_id is None
    third = report(encrypted_resource(second), settled(protection=MicrosoftManaged()), LATER)
    assert third.rotations[0].to == "a Microsoft-managed key"
    assert third.applied is None


def test_what_snowflake_did_is_told_as_snowflakes() -> None:
    first = report(encrypted_resource(resourceId=None, snowflake=SNOWFLAKE), settled(), NOW)
    assert first.rotations[0].by == "found in Snowflake"
    assert condition(first, "Encrypted").message.startswith("Snowflake reports")
    warehouse = encrypted_resource(first, resourceId=None, snowflake=SNOWFLAKE)
    second = report(warehouse, settled(protection=MicrosoftManaged()), LATER)
    assert (second.rotations[0].to, second.rotations[0].by) == ("a Snowflake-managed key", "found in Snowflake")
    found = key_change_found(warehouse, second.rotations[0].to, LATER)
    assert (found.by, found.after) == ("Snowflake or the customer", "a Snowflake-managed key")


def test_the_last_ten_moves_are_kept_newest_first() -> None:
    resource = encrypted_resource()
    for number in range(14):
        protection = OnKey(KeyUri(VAULT, "storage"), f"{number:032x}")
        status = report(resource, settled(protection=protection), NOW + timedelta(hours=number))
        resource = resource.model_copy(update={"status": status})
    assert [entry.to for entry in resource.status.rotations] == [f"{KEY}/{number:032x}" for number in range(13, 3, -1)]


def test_effective_values_are_told() -> None:
    status = report(encrypted_resource(), settled(), NOW)
    assert status.effective is not None
    assert (status.effective.mode, status.effective.deletion_policy) == ("Enforce", "Orphan")


def test_a_key_that_was_never_probed_is_told_as_such() -> None:
    status = report(
        encrypted_resource(),
        waiting(Reason.WAITING_FOR_KEY, "the key has not been probed yet", customer_managed_key()),
        NOW,
    )
    assert condition(status, "KeyAccessible").reason == "NotProbed"
    assert condition(status, "KeyCurrent").reason == "NoActiveVersion"


def test_the_refusal_of_a_probe_never_reaches_the_resource_as_a_bare_code() -> None:
    key = probed(probe(refused(AzureFailure(403, "Forbidden", "secret text", "ForbiddenByRbac", request_id="r"))))
    message = condition(report(encrypted_resource(), settled(key=key), NOW), "KeyAccessible").message
    assert "the customer's administrator must assign the role" in message
    assert "secret text" not in message


SET = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.Compute/diskEncryptionSets/des"


@pytest.mark.parametrize(
    ("spec", "after", "words"),
    [({}, timedelta(minutes=10), "403"), ({"resourceId": SET}, timedelta(hours=1), "shut down")],
    ids=["storage", "disks"],
)
def test_a_resource_tells_when_its_own_kind_stops_and_which_machines_stop_with_it(
    spec: dict[str, Any], after: timedelta, words: str
) -> None:
    resource = encrypted_resource(**spec)
    machines = ("vm1", "vm2") if spec else ()
    lost = settled(key=probed(probe(disabled())), shown=Shown(attached_to=machines))
    status = report(resource, lost, LATER)
    assert status.access is not None
    assert (status.access.state, status.access.lost_since) == ("Disabled", NOW)
    assert status.access.inaccessible_expected_at == NOW + after
    assert words in status.access.effect
    assert status.access.virtual_machines == machines
    again = resource.model_copy(update={"status": status})
    assert report(again, settled(key=probed(), shown=Shown(attached_to=machines)), LATER).access is None


def test_a_resource_on_another_key_or_on_an_accessible_version_is_in_no_danger() -> None:
    elsewhere = settled(key=probed(probe(disabled())), protection=OnKey(KeyUri(VAULT, "other"), V1))
    assert report(encrypted_resource(), elsewhere, NOW).access is None
    key = customer_managed_key()
    gathered = KeyFacts(guard(probe(disabled(V2), in_use={V1: healthy()}), key.spec.key_uri), Usage(("data",), {V1: ("data",)}))
    on_the_well_one = key.model_copy(update={"status": key_report.key_status(key, gathered, NOW)})
    assert report(encrypted_resource(), settled(key=on_the_well_one), NOW).access is None


SNOWFLAKE = {"account": "contoso", "user": "CMK", "privateKeySecretRef": {"name": "snowflake"}}


@pytest.mark.parametrize(("name", "truth"), [("PermissionDenied", "Unknown"), ("Disabled", "False")])
def test_what_only_our_application_is_denied_says_nothing_about_snowflakes_data(name: str, truth: str) -> None:
    warehouse = encrypted_resource(resourceId=None, snowflake=SNOWFLAKE)
    status = report(warehouse, settled(key=probed(states()[name])), NOW)
    told = condition(status, "KeyAccessible")
    assert (told.status, told.reason) == (truth, name)
    assert ("application of its own" in told.message) == (truth == "Unknown")
    assert (status.access is not None) == (truth == "False")


def test_who_reports_the_key_is_named() -> None:
    warehouse = encrypted_resource(resourceId=None, snowflake=SNOWFLAKE)
    told = [condition(report(resource, settled(), NOW), "Encrypted").message for resource in (warehouse, encrypted_resource())]
    assert told == [f"Snowflake reports that the resource is on {KEY}", f"Azure reports that the resource is on {KEY}"]
