"""The status of a resource: complete, true, and written only when it means something else."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import Condition, find
from cmk_operator.api.encrypted_resource import EncryptedResourceStatus, TargetReport
from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.encryption.decide import Decision, Step
from cmk_operator.core.encryption.protection import FieldChange, Protection
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import FaultKind, invalid
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.protocol import Plan, Shown
from cmk_operator.reconcile.audit import key_change_found
from cmk_operator.reconcile.key import report as key_report
from cmk_operator.reconcile.key.report import KeyFacts, Usage
from cmk_operator.reconcile.resource.report import ResourceOutcome, report
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
    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.core.access.state import KeyProbe

ASPECTS = {"Ready", "Encrypted", "KeyAccessible", "KeyCurrent"}
TARGET = TargetReport(kind="StorageAccount", name="contosodata")
ON_V1 = Protection(KeyUri(VAULT, "storage"), V1)
PLAN = Plan(
    {"properties": {"encryption": {}}},
    (FieldChange("properties.encryption.keySource", "Microsoft.Storage", "Microsoft.Keyvault"),),
)
SETTLED = Decision(Step.SETTLED)


def probed(found: KeyProbe | None = None, **spec: Any) -> CustomerManagedKey:
    key = customer_managed_key(**spec)
    facts = KeyFacts(guard(found, key.spec.key_uri), Usage(("data",), {V1: ("data",)}))
    return key.model_copy(update={"status": key_report.report(key, facts, NOW)})


def outcome(**fields: Any) -> ResourceOutcome:
    given: dict[str, Any] = {"target": TARGET, "key": probed(), "protection": ON_V1, "decision": SETTLED}
    return ResourceOutcome(**(given | fields))


def condition(status: EncryptedResourceStatus, kind: str) -> Condition:
    found = find(status.conditions, kind)
    assert found is not None
    return found


def wire(status: EncryptedResourceStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


decisions = st.sampled_from(
    [
        SETTLED,
        Decision(Step.SHOW_PLAN, "PlanOnly", "the manifest says to observe only"),
        Decision(Step.WAIT, "Disabled", "waiting for the key: the customer's administrator must enable it"),
        Decision(Step.WAIT, "WaitingForKey", "the key has not been probed yet"),
        Decision(
            Step.WAIT, "KeySizeFailed", "the key lacks a prerequisite: the customer's administrator must create an RSA 2048 key"
        ),
        Decision(Step.WAIT, "NotTakenOver", "Azure has not taken the change over"),
    ]
)
faults = st.one_of(
    st.just(invalid("UnsupportedResourceType", "the platform engineer must remove this manifest")),
    transient_failures.map(lambda failure: judge_arm_failure(failure, "contosodata")),
    st.sampled_from(["AuthorizationFailed", "KeyVaultAuthenticationFailure", "Unheard"]).map(
        lambda code: judge_arm_failure(AzureFailure(400, code, ""), "contosodata")
    ),
)
protections = st.sampled_from(
    [
        None,
        Protection(),
        ON_V1,
        Protection(KeyUri(VAULT, "storage"), V2),
        Protection(KeyUri(VAULT, "other"), V1),
        Protection(KeyUri(VAULT, "storage")),
    ]
)


@st.composite
def outcomes(draw: st.DrawFn) -> ResourceOutcome:
    fault = draw(st.one_of(st.none(), faults))
    key = draw(st.one_of(st.none(), key_probes().map(probed), st.just(customer_managed_key())))
    if fault is not None:
        return ResourceOutcome(TARGET, key, draw(protections), fault=fault, refused_by_azure=draw(st.booleans()))
    decision = draw(decisions)
    on_key = draw(protections.filter(lambda found: found is not None and (decision != SETTLED or found.customer_managed)))
    return ResourceOutcome(
        TARGET, key, on_key, decision, PLAN if decision != SETTLED else None, written_by_us=draw(st.booleans())
    )


@given(outcomes())
def test_the_status_of_every_outcome_is_complete_and_fits_the_definition(found: ResourceOutcome) -> None:
    status = report(encrypted_resource(), found, NOW)
    types = [entry.type for entry in status.conditions]
    assert set(types) - {"Reconciling", "Stalled"} == ASPECTS
    assert len(types) == len(set(types))
    assert complaints(wire(status), status_schema("encryptedresources")) == []
    assert EncryptedResourceStatus.model_validate(wire(status)) == status


@given(outcomes())
def test_coming_to_the_same_again_later_writes_nothing(found: ResourceOutcome) -> None:
    resource = encrypted_resource()
    first = report(resource, found, NOW)
    assert report(resource.model_copy(update={"status": first}), found, LATER) == first


@given(outcomes())
def test_ready_is_true_exactly_if_neither_reconciling_nor_stalled_is(found: ResourceOutcome) -> None:
    status = report(encrypted_resource(), found, NOW)
    ready = condition(status, "Ready").status == "True"
    reconciling, stalled = find(status.conditions, "Reconciling"), find(status.conditions, "Stalled")
    assert reconciling is None or stalled is None
    observing = found.decision is not None and found.decision.step is Step.SHOW_PLAN
    assert ready is (reconciling is None and stalled is None and not observing)
    if stalled is not None:
        assert " must " in stalled.message


@given(outcomes())
def test_ready_means_encrypted_with_an_accessible_key(found: ResourceOutcome) -> None:
    status = report(encrypted_resource(), found, NOW)
    if condition(status, "Ready").status == "True":
        assert found.fault is None
        assert condition(status, "Encrypted").status == "True"
        assert condition(status, "KeyAccessible").status == "True"


@given(outcomes())
def test_a_plan_is_shown_only_when_observing(found: ResourceOutcome) -> None:
    status = report(encrypted_resource(mode="Observe"), found, NOW)
    observing = found.decision is not None and found.decision.step is Step.SHOW_PLAN
    assert (status.plan is not None) is observing
    if status.plan is not None:
        assert status.plan.summary == ("properties.encryption.keySource: Microsoft.Storage -> Microsoft.Keyvault",)
        assert status.plan.patch == '{"properties": {"encryption": {}}}'


@given(outcomes())
def test_what_azure_was_last_seen_to_do_outlives_a_failed_look(found: ResourceOutcome) -> None:
    settled = report(encrypted_resource(), outcome(), NOW)
    status = report(encrypted_resource(settled), found, LATER)
    if found.protection is None:
        assert (status.applied, status.rotations) == (settled.applied, settled.rotations)


def test_the_healthy_resource_says_so_in_every_condition() -> None:
    status = report(encrypted_resource(), outcome(), NOW)
    assert {entry.type: (entry.status, entry.reason) for entry in status.conditions} == {
        "Ready": ("True", "Ready"),
        "Encrypted": ("True", "CustomerManagedKey"),
        "KeyAccessible": ("True", "Accessible"),
        "KeyCurrent": ("True", "Current"),
    }
    assert status.applied is not None
    assert (status.applied.key_uri, status.applied.version) == (f"{KEY}/{V1}", V1)


def test_a_person_is_called_when_a_prerequisite_is_missing() -> None:
    waiting = Decision(
        Step.WAIT, "KeySizeFailed", "the key lacks a prerequisite: the customer's administrator must create a key"
    )
    found = outcome(key=probed(probe(healthy(key_size=4096))), protection=Protection(), decision=waiting, plan=PLAN)
    assert find(report(encrypted_resource(), found, NOW).conditions, "Stalled") is not None


@pytest.mark.parametrize(
    "name", ["OperatorNotAuthenticated", "FirewallBlocksProbe", "Disabled", "PermissionDenied", "ConsentMissing"]
)
def test_a_person_is_called_when_the_key_waits_for_one(name: str) -> None:
    key = probed(states()[name])
    told = condition_of(key)
    waiting = Decision(Step.WAIT, name, f"waiting for the key: {told.message}")
    for found in (outcome(key=key, protection=Protection(), decision=waiting, plan=PLAN), outcome(key=key)):
        assert find(report(encrypted_resource(), found, NOW).conditions, "Stalled") is not None


@pytest.mark.parametrize("name", ["Unknown", "VaultUnreachable"])
def test_an_outage_is_only_waited_for(name: str) -> None:
    key = probed(states()[name])
    waiting = Decision(Step.WAIT, name, "waiting for the key: nothing is concluded")
    for found in (outcome(key=key, protection=Protection(), decision=waiting, plan=PLAN), outcome(key=key)):
        status = report(encrypted_resource(), found, NOW)
        assert find(status.conditions, "Reconciling") is not None
        assert condition(status, "KeyAccessible").status == "Unknown"


def condition_of(key: CustomerManagedKey) -> Condition:
    found = find(key.status.conditions, "KeyAccessible")
    assert found is not None
    return found


def test_a_lost_key_leaves_the_resource_encrypted_and_not_ready() -> None:
    status = report(encrypted_resource(), outcome(key=probed(probe(disabled()))), NOW)
    assert condition(status, "Encrypted").status == "True"
    assert (condition(status, "Ready").status, condition(status, "Ready").reason) == ("False", "Disabled")


def test_a_resource_whose_own_version_is_accessible_is_ready_though_the_latest_is_lost() -> None:
    key = customer_managed_key()
    first = probed()
    found = probe(disabled(V2), in_use={V1: healthy(V1)})
    facts = KeyFacts(guard(found), Usage(("data",), {V1: ("data",)}))
    lost = key.model_copy(update={"status": key_report.report(first, facts, LATER)})
    status = report(encrypted_resource(), outcome(key=lost), NOW)
    assert condition(status, "KeyAccessible").status == "True"
    assert condition(status, "Ready").status == "True"


def test_while_a_revert_waits_the_resource_is_still_encrypted() -> None:
    waiting = Decision(
        Step.WAIT,
        "RevertWaitsForKey",
        "the manifest is being deleted and reverts first; the customer's administrator must enable it",
    )
    resource = encrypted_resource()
    going = resource.model_copy(update={"metadata": resource.metadata.model_copy(update={"deletion_timestamp": NOW})})
    status = report(going, outcome(key=probed(probe(disabled())), decision=waiting), NOW)
    assert condition(status, "Encrypted").status == "True"
    assert (condition(status, "Ready").status, condition(status, "Ready").reason) == ("False", "RevertWaitsForKey")
    assert find(status.conditions, "Stalled") is not None


def test_on_its_way_to_another_key_a_resource_is_not_said_to_be_encrypted_with_it() -> None:
    # Found by `make soak`: the operation was under way, and the condition said what was still so of the former key.
    waiting = Decision(Step.WAIT, "OperationInProgress", "waiting for the service to end an operation: put the set on the key")
    on_another = Protection(KeyUri(VAULT, "former"), V1)
    told = condition(report(encrypted_resource(), outcome(protection=on_another, decision=waiting), NOW), "Encrypted")
    assert (told.status, told.reason) == ("False", "OperationInProgress")


def test_nobody_knows_whether_it_is_ready_while_azure_is_silent() -> None:
    fault = judge_arm_failure(AzureFailure(None, "Timeout", "no answer in time"), "contosodata")
    status = report(encrypted_resource(), outcome(protection=None, decision=None, fault=fault, refused_by_azure=True), NOW)
    assert condition(status, "Ready").status == "Unknown"
    assert condition(status, "Encrypted").status == "Unknown"


def test_an_outage_of_azure_says_nothing_about_the_encryption() -> None:
    fault = judge_arm_failure(AzureFailure(503, "ServerBusy", ""), "contosodata")
    assert fault.kind is FaultKind.BUSY
    status = report(encrypted_resource(), outcome(protection=None, decision=None, fault=fault, refused_by_azure=True), NOW)
    assert condition(status, "Encrypted").status == "Unknown"
    assert find(status.conditions, "Reconciling") is not None


@pytest.mark.parametrize(
    ("protection", "status", "reason"),
    [
        (ON_V1, "True", "Current"),
        (Protection(KeyUri(VAULT, "storage"), V2), "False", "AzureWillRotate"),
        (Protection(KeyUri(VAULT, "STORAGE"), V1), "True", "Current"),
        (Protection(KeyUri(VAULT, "storage")), "Unknown", "VersionNotTold"),
        (Protection(KeyUri(VAULT, "storage2"), V1), "False", "NotOnKey"),
        (Protection(), "False", "NotOnKey"),
    ],
    ids=["current", "behind", "another spelling", "version not told", "another key", "key of Microsoft"],
)
def test_key_current_compares_with_the_active_version(protection: Protection, status: str, reason: str) -> None:
    told = condition(report(encrypted_resource(), outcome(protection=protection), NOW), "KeyCurrent")
    assert (told.status, told.reason) == (status, reason)


def test_a_pinned_resource_behind_its_version_is_moved_by_the_operator_not_by_azure() -> None:
    key = probed(probe(healthy(V2)), keyUri=f"{KEY}/{V2}")
    told = condition(report(encrypted_resource(), outcome(key=key), NOW), "KeyCurrent")
    assert (told.status, told.reason) == ("False", "Outdated")


def test_a_move_is_told_with_both_keys_and_by_whom() -> None:
    first = report(encrypted_resource(), outcome(written_by_us=True, request_id="r-1"), NOW)
    assert [(entry.from_, entry.to, entry.by, entry.request_id) for entry in first.rotations] == [
        (None, f"{KEY}/{V1}", "cmk-operator", "r-1")
    ]
    second = report(encrypted_resource(first), outcome(protection=Protection(KeyUri(VAULT, "storage"), V2)), LATER)
    newest = second.rotations[0]
    assert (newest.from_, newest.to, newest.by, newest.at) == (f"{KEY}/{V1}", f"{KEY}/{V2}", "found in Azure", LATER)
    assert newest.request_id is None
    third = report(encrypted_resource(second), outcome(protection=Protection()), LATER)
    assert third.rotations[0].to == "a key of Microsoft"
    assert third.applied is None


def test_what_snowflake_did_is_told_as_snowflakes() -> None:
    first = report(encrypted_resource(resourceId=None, snowflake=SNOWFLAKE), outcome(), NOW)
    assert first.rotations[0].by == "found in Snowflake"
    assert condition(first, "Encrypted").message.startswith("Snowflake reports")
    warehouse = encrypted_resource(first, resourceId=None, snowflake=SNOWFLAKE)
    second = report(warehouse, outcome(protection=Protection()), LATER)
    assert (second.rotations[0].to, second.rotations[0].by) == ("a key of Snowflake", "found in Snowflake")
    found = key_change_found(warehouse, second.rotations[0].to, LATER)
    assert (found.by, found.after) == ("Snowflake or the customer", "a key of Snowflake")


def test_the_last_ten_moves_are_kept_newest_first() -> None:
    resource = encrypted_resource()
    for number in range(14):
        protection = Protection(KeyUri(VAULT, "storage"), f"{number:032x}")
        status = report(resource, outcome(protection=protection), NOW + timedelta(hours=number))
        resource = resource.model_copy(update={"status": status})
    assert [entry.to for entry in resource.status.rotations] == [f"{KEY}/{number:032x}" for number in range(13, 3, -1)]


def test_effective_values_are_told() -> None:
    status = report(encrypted_resource(), outcome(), NOW)
    assert status.effective is not None
    assert (status.effective.mode, status.effective.deletion_policy) == ("Enforce", "Orphan")


def test_a_key_that_was_never_probed_is_told_as_such() -> None:
    status = report(
        encrypted_resource(),
        outcome(
            key=customer_managed_key(),
            protection=Protection(),
            decision=Decision(Step.WAIT, "WaitingForKey", "the key has not been probed yet"),
            plan=PLAN,
        ),
        NOW,
    )
    assert condition(status, "KeyAccessible").reason == "NotProbed"
    assert condition(status, "KeyCurrent").reason == "NoActiveVersion"


def test_the_refusal_of_a_probe_never_reaches_the_resource_as_a_bare_code() -> None:
    key = probed(probe(refused(AzureFailure(403, "Forbidden", "secret text", "ForbiddenByRbac", request_id="r"))))
    message = condition(report(encrypted_resource(), outcome(key=key), NOW), "KeyAccessible").message
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
    lost = outcome(key=probed(probe(disabled())), details=Shown(attached_to=machines))
    status = report(resource, lost, LATER)
    assert status.access is not None
    assert (status.access.state, status.access.lost_since) == ("Disabled", NOW)
    assert status.access.inaccessible_expected_at == NOW + after
    assert words in status.access.effect
    assert status.access.virtual_machines == machines
    again = resource.model_copy(update={"status": status})
    assert report(again, outcome(key=probed(), details=Shown(attached_to=machines)), LATER).access is None


def test_a_resource_on_another_key_or_on_an_accessible_version_is_in_no_danger() -> None:
    elsewhere = outcome(key=probed(probe(disabled())), protection=Protection(KeyUri(VAULT, "other"), V1))
    assert report(encrypted_resource(), elsewhere, NOW).access is None
    key = customer_managed_key()
    facts = KeyFacts(guard(probe(disabled(V2), in_use={V1: healthy()}), key.spec.key_uri), Usage(("data",), {V1: ("data",)}))
    on_the_well_one = key.model_copy(update={"status": key_report.report(key, facts, NOW)})
    assert report(encrypted_resource(), outcome(key=on_the_well_one), NOW).access is None


SNOWFLAKE = {"account": "contoso", "user": "CMK", "privateKeySecretRef": {"name": "snowflake"}}


@pytest.mark.parametrize(("name", "truth"), [("PermissionDenied", "Unknown"), ("Disabled", "False")])
def test_what_only_our_application_is_denied_says_nothing_about_snowflakes_data(name: str, truth: str) -> None:
    warehouse = encrypted_resource(resourceId=None, snowflake=SNOWFLAKE)
    status = report(warehouse, outcome(key=probed(states()[name])), NOW)
    told = condition(status, "KeyAccessible")
    assert (told.status, told.reason) == (truth, name)
    assert ("application of its own" in told.message) == (truth == "Unknown")
    assert (status.access is not None) == (truth == "False")


def test_who_reports_the_key_is_named() -> None:
    warehouse = encrypted_resource(resourceId=None, snowflake=SNOWFLAKE)
    told = [condition(report(resource, outcome(), NOW), "Encrypted").message for resource in (warehouse, encrypted_resource())]
    assert told == [f"Snowflake reports that the resource is on {KEY}", f"Azure reports that the resource is on {KEY}"]
