"""Disk encryption sets: the version always on the wire, Azure's own rotation never fought, regions told, nobody's identity lost."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from azure.mgmt.compute.models import DiskEncryptionSet, DiskEncryptionSetUpdate
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.encryption.protection import KeyChoice, MicrosoftManaged, version_in_force
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.disk.encryption_set import (
    ABSENT,
    ChangeSet,
    CreateSet,
    DisksOfSet,
    ProtectedDisk,
    plan_set,
    plan_set_revert,
    read_set,
    with_disks,
)
from cmk_operator.providers.disk.options import DiskEncryptionSetCreation
from cmk_operator.providers.disk.provider import judge_compute_failure
from cmk_operator.providers.protocol import Plan, Target
from tests.unit.samples import APPLICATION, IDENTITY, SUBSCRIPTION, V1, V2, V3, VAULT, uri_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmk_operator.providers.disk.encryption_set import Facts

CUSTOMER_KEY = "EncryptionAtRestWithCustomerKey"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"
SET = f"{GROUP}/providers/Microsoft.Compute/diskEncryptionSets/des"
OTHER_IDENTITY = IDENTITY.replace("/cmk", "/other")
FOLLOW = KeyUri(VAULT, "disks")
CREATION = DiskEncryptionSetCreation("West Europe", CUSTOMER_KEY)


def want(key_uri: KeyUri = FOLLOW, probed: str = V2, region: str | None = "westeurope") -> KeyChoice:
    return KeyChoice(key_uri, key_uri.version or probed, ArmId(IDENTITY), APPLICATION, vault_region=region)


def target(options: DiskEncryptionSetCreation | None = None) -> Target:
    return Target(ArmId(SET), options, lambda _: True)


def body(key: str = f"{FOLLOW.at(V1)}", **properties: Any) -> dict[str, Any]:
    """A set as Azure answers it, on our identity unless changed."""
    return {
        "id": SET,
        "name": "des",
        "location": "westeurope",
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {"clientId": "x"}}},
        "properties": {
            "encryptionType": CUSTOMER_KEY,
            "activeKey": {"keyUrl": key},
            "rotationToLatestKeyVersionEnabled": True,
            "federatedClientId": APPLICATION,
            "provisioningState": "Succeeded",
            **properties,
        },
    }


def as_sent(parameters: DiskEncryptionSet | DiskEncryptionSetUpdate) -> Any:
    """A body as the SDK's client writes it."""
    return json.loads(json.dumps(parameters.as_dict(exclude_readonly=True)))


REFUSED = AzureFailure(403, "AuthorizationFailed", "", read=True)


def seen(answer: dict[str, Any], disks: Sequence[ProtectedDisk] | None = ()) -> Facts:
    found = REFUSED if disks is None else DisksOfSet(tuple(disks))
    return with_disks(read_set(DiskEncryptionSet(answer)), ArmId(SET), found)


def planned(choice: KeyChoice, facts: Facts, options: DiskEncryptionSetCreation | None = None) -> Plan[Any]:
    plan = plan_set(target(options), choice, facts)
    assert isinstance(plan, Plan)
    return plan


def refused(choice: KeyChoice, facts: Facts, options: DiskEncryptionSetCreation | None = None) -> Fault:
    fault = plan_set(target(options), choice, facts)
    assert isinstance(fault, Fault)
    return fault


def patched(answer: dict[str, Any], sent: Any) -> dict[str, Any]:
    """The set after a PATCH: properties are merged, and so are user-assigned identities."""
    assert as_sent(DiskEncryptionSetUpdate(sent)) == sent, "the SDK adds nothing, which might reset a field, and drops nothing"
    after = copy.deepcopy(answer)
    kept = (after.get("identity") or {}).get("userAssignedIdentities") or {}
    spelled = {name.lower(): name for name in kept}
    added = {spelled.get(name.lower(), name): {"clientId": "x"} for name in sent["identity"]["userAssignedIdentities"]}
    after["identity"] = {"type": sent["identity"]["type"], "userAssignedIdentities": kept | added}
    after["properties"] |= sent["properties"]
    return after


@pytest.mark.parametrize("key_uri", [FOLLOW, FOLLOW.at(V2)])
def test_a_set_that_does_not_exist_is_put_whole_with_the_version_that_passed_the_probe(key_uri: KeyUri) -> None:
    plan = planned(want(key_uri), ABSENT, CREATION)
    assert isinstance(plan.request, CreateSet)
    assert plan.body == {
        "location": "westeurope",
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}},
        "properties": {
            "encryptionType": CUSTOMER_KEY,
            "activeKey": {"keyUrl": f"https://{VAULT}/keys/disks/{V2}"},
            "rotationToLatestKeyVersionEnabled": key_uri.version is None,
            "federatedClientId": APPLICATION,
        },
    }


def test_a_set_that_does_not_exist_and_may_not_be_created_names_the_field_that_would_say_how() -> None:
    fault = refused(want(), ABSENT)
    assert (fault.reason, fault.actor) == ("DiskEncryptionSetNotFound", Actor.PLATFORM_ENGINEER)
    assert fault.needs_a_person
    assert "spec.diskEncryptionSet" in fault.message


def test_the_sdk_s_own_models_write_the_bodies_as_planned() -> None:
    put: dict[str, Any] = dict(planned(want(), ABSENT, CREATION).body)
    assert as_sent(DiskEncryptionSet(put)) == put
    patch: dict[str, Any] = dict(planned(want(FOLLOW.at(V2)), seen(body())).body)
    assert as_sent(DiskEncryptionSetUpdate(patch)) == patch


def test_a_set_on_another_key_is_patched_with_a_version_also_when_azure_is_to_follow_by_itself() -> None:
    plan = planned(want(), seen(body(f"https://{VAULT}/keys/other/{V1}", rotationToLatestKeyVersionEnabled=False)))
    assert isinstance(plan.request, ChangeSet)
    assert plan.body["properties"] == {
        "activeKey": {"keyUrl": str(FOLLOW.at(V2))},
        "rotationToLatestKeyVersionEnabled": True,
        "federatedClientId": APPLICATION,
    }
    assert not plan.keeps_key
    after = seen(patched(body(), plan.body))
    assert plan_set(target(), want(), after) is None
    assert (uri_of(after.protection), version_in_force(after.protection)) == (FOLLOW, V2)


@pytest.mark.parametrize("version", [V1, V2, V3])
def test_a_set_that_follows_is_left_on_whatever_version_azure_has_moved_it_to(version: str) -> None:
    facts = seen(body(str(FOLLOW.at(version))))
    assert plan_set(target(), want(probed=V2), facts) is None
    assert (uri_of(facts.protection), version_in_force(facts.protection)) == (FOLLOW, version)


def test_a_set_on_the_right_key_that_does_not_follow_yet_gets_the_flag_and_keeps_its_version() -> None:
    plan = planned(want(), seen(body(rotationToLatestKeyVersionEnabled=False)))
    assert "activeKey" not in plan.body["properties"]
    assert plan.keeps_key
    assert [str(change) for change in plan.changes] == ["properties.rotationToLatestKeyVersionEnabled: false -> true"]


def test_a_pinned_key_moves_a_set_to_exactly_that_version_and_stops_azure_from_following() -> None:
    plan = planned(want(FOLLOW.at(V2)), seen(body(str(FOLLOW.at(V1)))))
    assert plan.body["properties"]["activeKey"] == {"keyUrl": str(FOLLOW.at(V2))}
    assert plan.body["properties"]["rotationToLatestKeyVersionEnabled"] is False
    pinned = seen(patched(body(), plan.body))
    assert plan_set(target(), want(FOLLOW.at(V2)), pinned) is None
    assert uri_of(pinned.protection) == FOLLOW.at(V2)


def test_spelling_is_no_difference() -> None:
    answer = body(f"https://{VAULT.upper()}:443/keys/DISKS/{V1}")
    answer["identity"] = {"type": "userAssigned", "userAssignedIdentities": {IDENTITY.upper(): {}}}
    answer["location"] = "West Europe"
    answer["properties"]["federatedClientId"] = APPLICATION.upper()
    assert plan_set(target(), want(), seen(answer)) is None


@pytest.mark.parametrize(
    ("present", "sent"),
    [
        ("None", "UserAssigned"),
        ("SystemAssigned", "SystemAssigned, UserAssigned"),
        ("SystemAssigned, UserAssigned", "SystemAssigned, UserAssigned"),
        ("UserAssigned", "UserAssigned"),
    ],
)
def test_other_identities_of_an_adopted_set_stay_and_the_pair_is_spelled_with_a_space(present: str, sent: str) -> None:
    answer = body()
    answer["identity"] = {"type": present, "userAssignedIdentities": {OTHER_IDENTITY: {}}}
    identity = planned(want(), seen(answer)).body["identity"]
    assert identity == {"type": sent, "userAssignedIdentities": {OTHER_IDENTITY: {}, IDENTITY: {}}}


@pytest.mark.parametrize(
    ("facts", "options", "remedy"),
    [
        (
            ABSENT,
            DiskEncryptionSetCreation("North Europe", CUSTOMER_KEY),
            "set spec.diskEncryptionSet.location to westeurope, or",
        ),
        (
            seen(body(f"https://{VAULT}/keys/other/{V1}") | {"location": "northeurope"}),
            None,
            "must name a key in a vault in northeurope",
        ),
    ],
)
def test_a_vault_in_another_region_is_told_before_any_write_with_both_regions(
    facts: Facts, options: DiskEncryptionSetCreation | None, remedy: str
) -> None:
    fault = refused(want(), facts, options)
    assert (fault.kind, fault.reason) == (FaultKind.INVALID, "VaultInAnotherRegion")
    assert "is in westeurope" in fault.message
    assert "in northeurope" in fault.message
    assert remedy in fault.message
    assert isinstance(plan_set(target(options), want(region=None), facts), Plan), "an unknown region is for Azure to judge"


@pytest.mark.parametrize("state", ["Updating", "Creating"])
def test_a_change_waits_while_azure_is_still_carrying_out_another(state: str) -> None:
    fault = refused(want(FOLLOW.at(V2)), seen(body(provisioningState=state)))
    assert (fault.kind, fault.actor) == (FaultKind.BUSY, Actor.AZURE)


def test_a_set_that_is_right_waits_for_nothing_but_its_own_creation() -> None:
    assert plan_set(target(), want(), seen(body(provisioningState="Updating"))) is None
    creating = seen(body(provisioningState="Creating"))
    assert refused(want(), creating).reason == "OperationInProgress"
    assert isinstance(creating.protection, MicrosoftManaged), (
        "it shows the key at once, but is on it only when it has been made"
    )


def test_a_set_whose_last_operation_failed_is_sent_again_because_it_shows_what_it_was_to_become() -> None:
    plan = planned(want(), seen(body(provisioningState="Failed")))
    assert [str(change) for change in plan.changes] == ["properties.provisioningState: Failed -> Succeeded"]
    assert plan.body["properties"]["activeKey"] == {"keyUrl": str(FOLLOW.at(V2))}
    assert plan.keeps_key


def disks(count: int) -> list[ProtectedDisk]:
    machine = ArmId(f"{GROUP}/providers/Microsoft.Compute/virtualMachines/vm1")
    return [ProtectedDisk(ArmId(f"{GROUP}/providers/Microsoft.Compute/disks/d{n:02}"), machine) for n in range(count)]


def test_a_change_of_the_key_names_the_disks_that_move_with_the_set() -> None:
    facts = seen(body(str(FOLLOW.at(V1))), disks(2))
    line = str(planned(want(FOLLOW.at(V2)), facts).changes[-1])
    assert line == f"key of the disks that use the set (d00, d01): {FOLLOW.at(V1)} -> {FOLLOW.at(V2)}"
    many = str(planned(want(FOLLOW.at(V2)), seen(body(), disks(25))).changes[-1])
    assert "d19 and 5 more)" in many
    assert (facts.shown.encrypted_disks, facts.shown.attached_to) == (("d00", "d01"), ("vm1",))


def test_a_disk_of_another_group_is_named_with_its_group() -> None:
    elsewhere = ProtectedDisk(ArmId(f"{GROUP}-b/providers/Microsoft.Compute/disks/d1"))
    assert seen(body(), [elsewhere]).shown.encrypted_disks == ("rg-b/d1",)


def test_a_rotation_under_way_and_an_error_of_rotation_are_shown_with_who_must_act() -> None:
    error = {"code": "KeyVaultKeyNotEnabled", "message": "request 4711 at 12:00"}
    facts = seen(body(previousKeys=[{"keyUrl": str(FOLLOW.at(V1))}], autoKeyRotationError=error))
    assert facts.shown.previous_keys == (str(FOLLOW.at(V1)),)
    assert facts.shown.rotation_error is not None
    assert facts.shown.rotation_error.startswith("KeyVaultKeyNotEnabled: ")
    assert "the customer's administrator must enable it" in facts.shown.rotation_error
    assert "4711" not in facts.shown.rotation_error


@pytest.mark.parametrize("known", [disks(1), None])
def test_a_set_cannot_go_back_to_a_key_of_microsoft_and_says_that_its_disks_can(
    known: list[ProtectedDisk] | None,
) -> None:
    fault = plan_set_revert(target(), seen(body(), known))
    assert fault is not None
    assert (fault.kind, fault.reason) == (FaultKind.INVALID, "NoPlatformKeyForSets")
    assert ("d00" if known else "may not read") in fault.message


def test_a_disk_that_cannot_be_read_is_named_and_may_use_the_set() -> None:
    odd = DisksOfSet(tuple(disks(1)), (f"{GROUP}/providers/Microsoft.Compute/disks/odd\u202e", ""))
    facts = with_disks(read_set(DiskEncryptionSet(body())), ArmId(SET), odd)
    assert facts.shown.encrypted_disks == ("d00",)
    assert facts.shown.not_readable == ("a disk without an id", "disk odd")
    alone = with_disks(read_set(DiskEncryptionSet(body())), ArmId(SET), replace(odd, on_it=()))
    fault = plan_set_revert(target(), alone)
    assert fault is not None
    assert "disk odd, which cannot be read" in fault.message


def test_a_set_that_protects_nothing_needs_no_revert() -> None:
    assert plan_set_revert(target(), seen(body())) is None
    assert plan_set_revert(target(), ABSENT) is None


def test_a_key_that_is_no_key_of_a_vault_is_named_and_not_replaced() -> None:
    facts = seen(body("https://hsm.managedhsm.azure.net/keys/k/v"))
    for fault in (plan_set(target(), want(), facts), plan_set_revert(target(), facts)):
        assert isinstance(fault, Fault)
        assert (fault.reason, fault.actor) == ("OnAnotherKey", Actor.PROVIDER_ADMINISTRATOR)
        assert "https://hsm.managedhsm.azure.net/keys/k/v" in fault.message
        assert "must put the set on a key in a Key Vault" in fault.message


def test_what_entra_told_the_disk_service_counts_more_than_the_disk_service_s_own_code() -> None:
    text = "Unable to access key vault resource: AADSTS700016: Application not found in the directory"
    fault = judge_compute_failure(AzureFailure(400, "KeyVaultAccessForbidden", text), "des")
    assert (fault.reason, fault.actor) == ("ConsentMissing", Actor.CUSTOMER_ADMINISTRATOR)
    inside = judge_compute_failure(AzureFailure(500, "InternalServerError", text), "des")
    assert inside.reason == "ConsentMissing"
    plain = judge_compute_failure(AzureFailure(400, "KeyVaultAccessForbidden", "no role"), "des")
    assert plain.reason == "KeyVaultAccessForbidden"
    own = judge_compute_failure(AzureFailure(401, "invalid_client", text, stage=Stage.OPERATOR_TOKEN), "des")
    assert own.reason != "ConsentMissing", "the operator's own sign-in is no word of the disk service"


def test_a_missing_right_names_the_roles_for_disks() -> None:
    fault = judge_compute_failure(AzureFailure(403, "AuthorizationFailed", "no"), "des")
    assert (fault.reason, fault.actor) == ("AuthorizationFailed", Actor.PROVIDER_ADMINISTRATOR)
    assert "Disk Encryption Set Operator for Managed Disks" in fault.message


versions = st.sampled_from([V1, V2, V3])
keys = st.sampled_from(["disks", "other"])


@given(
    start_key=keys,
    start_version=versions,
    automatic=st.booleans(),
    pinned=st.none() | versions,
    probed=versions,
    kind=st.sampled_from(["None", "SystemAssigned", "UserAssigned", "SystemAssigned, UserAssigned"]),
    assigned=st.lists(st.sampled_from([IDENTITY, IDENTITY.upper(), OTHER_IDENTITY]), unique_by=str.lower),
    application=st.sampled_from(["", APPLICATION, APPLICATION.upper(), "another"]),
)
def test_one_patch_settles_any_set_never_moves_one_that_follows_and_always_carries_a_version(
    *,
    start_key: str,
    start_version: str,
    automatic: bool,
    pinned: str | None,
    probed: str,
    kind: str,
    assigned: list[str],
    application: str,
) -> None:
    answer = body(
        f"https://{VAULT}/keys/{start_key}/{start_version}",
        rotationToLatestKeyVersionEnabled=automatic,
        federatedClientId=application,
    )
    answer["identity"] = {"type": kind, "userAssignedIdentities": {one: {} for one in assigned}}
    choice = want(FOLLOW if pinned is None else FOLLOW.at(pinned), probed)
    plan = plan_set(target(), choice, seen(answer))
    assert not isinstance(plan, Fault)
    if plan is None:
        return
    sent: Any = plan.body
    if "activeKey" in sent["properties"]:
        assert sent["properties"]["activeKey"]["keyUrl"] == str(FOLLOW.at(choice.probed_version))
    else:
        assert start_key == "disks"
    if pinned is None and start_key == "disks":
        assert "activeKey" not in sent["properties"]
    after = patched(answer, sent)
    assert plan_set(target(), choice, seen(after)) is None
    before = {one.lower() for one in assigned}
    assert before <= {one.lower() for one in after["identity"]["userAssignedIdentities"]}
    assert ("SystemAssigned" in kind) == ("SystemAssigned" in after["identity"]["type"])
