"""Disks: only onto a set that fits and is on the key, never off a machine that runs, and back only as the manifest says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from azure.mgmt.compute.models import Disk, DiskEncryptionSet, DiskUpdate
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.encryption.protection import MicrosoftManaged, version_in_force
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.disk.disk import Facts, plan_disk, plan_disk_revert, protected_disk, with_sets
from cmk_operator.providers.disk.disk import read_disk as read_disk_model
from cmk_operator.providers.disk.encryption_set import Facts as SetFacts
from cmk_operator.providers.disk.encryption_set import read_set as read_set_model
from cmk_operator.providers.disk.options import DiskPlacement
from cmk_operator.providers.protocol import Plan, Target
from tests.unit.samples import SUBSCRIPTION, V1, V2, VAULT, uri_of
from tests.unit.test_disk_encryption_sets import CUSTOMER_KEY, FOLLOW, GROUP, OTHER_IDENTITY, SET, want
from tests.unit.test_disk_encryption_sets import body as set_body

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.key_uri import KeyUri

DISK = f"{GROUP}/providers/Microsoft.Compute/disks/data"
MACHINE = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/vm1"
PLATFORM_KEY = "EncryptionAtRestWithPlatformKey"
ANOTHER_SET = f"{SET}-b"


def read_set(answer: dict[str, Any]) -> SetFacts:
    return read_set_model(DiskEncryptionSet(answer))


def read_disk(answer: dict[str, Any]) -> Facts:
    return read_disk_model(Disk(answer))


def body(encryption: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    properties = {
        "encryption": encryption or {"type": PLATFORM_KEY},
        "diskState": "Unattached",
        "provisioningState": "Succeeded",
    }
    properties |= {name: value for name, value in changes.items() if name in {"diskState", "provisioningState"}}
    top = {name: value for name, value in changes.items() if name not in properties}
    return {"id": DISK, "name": "data", "location": "westeurope", "properties": properties, **top}


def on_the_set(set_id: str = SET) -> dict[str, Any]:
    return {"type": CUSTOMER_KEY, "diskEncryptionSetId": set_id}


def the_set(**changes: Any) -> SetFacts:
    return read_set(set_body(str(FOLLOW.at(V2))) | changes)


def seen(answer: dict[str, Any], wanted: SetFacts | None = None, present: SetFacts | None = None) -> Facts:
    """The facts; the set that the disk uses is the wanted one unless `present` is another."""
    facts = read_disk(answer)
    return with_sets(facts, present or (wanted if facts.detail.encryption_set is not None else None), wanted)


def target(set_id: str = SET, *, in_scope: bool = True) -> Target:
    return Target(ArmId(DISK), DiskPlacement(ArmId(set_id)), lambda _: in_scope)


def refused(facts: Facts, aim: Target | None = None, key_uri: KeyUri = FOLLOW) -> Fault:
    fault = plan_disk(aim or target(), want(key_uri), facts)
    assert isinstance(fault, Fault)
    return fault


def test_the_patch_is_azure_s_to_the_letter_with_the_type_of_the_set() -> None:
    plan = plan_disk(target(), want(), seen(body(), the_set()))
    assert isinstance(plan, Plan)
    assert plan.body == plan.request == {"properties": {"encryption": on_the_set()}}
    sent: dict[str, Any] = dict(plan.body)
    assert json.loads(json.dumps(DiskUpdate(sent).as_dict(exclude_readonly=True))) == sent
    both = "EncryptionAtRestWithPlatformAndCustomerKeys"
    properties = {**set_body(str(FOLLOW.at(V2)))["properties"], "encryptionType": both}
    plan = plan_disk(target(), want(), seen(body(), the_set(properties=properties)))
    assert isinstance(plan, Plan)
    assert plan.body["properties"]["encryption"]["type"] == both


def test_a_disk_on_its_set_is_left_alone_and_its_key_is_that_of_the_set() -> None:
    facts = seen(body(on_the_set(SET.upper())), the_set(), the_set())
    assert plan_disk(target(), want(), facts) is None
    assert (uri_of(facts.protection), version_in_force(facts.protection)) == (FOLLOW, V2)
    assert isinstance(seen(body()).protection, MicrosoftManaged)


def test_a_disk_on_another_set_is_moved() -> None:
    plan = plan_disk(target(), want(), seen(body(on_the_set(ANOTHER_SET)), the_set(), the_set()))
    assert isinstance(plan, Plan)
    assert [str(change) for change in plan.changes] == [f"properties.encryption.diskEncryptionSetId: {ANOTHER_SET} -> {SET}"]


@pytest.mark.parametrize(
    ("wanted", "aim", "kind", "reason", "words"),
    [
        (None, target(in_scope=False), FaultKind.INVALID, "DiskEncryptionSetNotAllowed", "outside the scopes"),
        (
            None,
            target(SET.replace(SUBSCRIPTION, "0" * 8 + SUBSCRIPTION[8:])),
            FaultKind.INVALID,
            "DiskEncryptionSetInAnotherSubscription",
            "in the same subscription",
        ),
        (None, target(), FaultKind.BLOCKED, "DiskEncryptionSetNotFound", "an EncryptedResource that creates it"),
        (
            the_set(location="northeurope"),
            target(),
            FaultKind.INVALID,
            "DiskEncryptionSetInAnotherRegion",
            "is in westeurope and disk encryption set des in northeurope",
        ),
        (
            the_set(properties={**set_body()["properties"], "encryptionType": "ConfidentialVmEncryptedWithCustomerKey"}),
            target(),
            FaultKind.INVALID,
            "DiskEncryptionSetOfAnotherType",
            "confidential virtual machines",
        ),
        (
            read_set(set_body(f"https://{VAULT}/keys/other/{V2}")),
            target(),
            FaultKind.BLOCKED,
            "DiskEncryptionSetOnAnotherKey",
            "puts the set on the key",
        ),
        (
            the_set(identity={"type": "UserAssigned", "userAssignedIdentities": {OTHER_IDENTITY: {}}}),
            target(),
            FaultKind.BLOCKED,
            "DiskEncryptionSetOfAnotherIdentity",
            "EncryptedResource for the set",
        ),
    ],
)
@pytest.mark.parametrize("encryption", [None, on_the_set()])
def test_a_set_that_will_not_do_is_named_whether_the_disk_is_on_it_or_not(
    wanted: SetFacts | None,
    aim: Target,
    kind: FaultKind,
    reason: str,
    words: str,
    encryption: dict[str, Any] | None,
) -> None:
    fault = refused(seen(body(encryption), wanted), aim)
    assert (fault.kind, fault.reason, fault.actor) == (kind, reason, Actor.PLATFORM_ENGINEER)
    assert words in fault.message


@pytest.mark.parametrize("encryption", [None, on_the_set()])
def test_a_pinned_key_waits_for_the_set_to_be_on_exactly_that_version(encryption: dict[str, Any] | None) -> None:
    fault = refused(seen(body(encryption), the_set()), key_uri=FOLLOW.at(V1))
    assert (fault.kind, fault.reason) == (FaultKind.BUSY, "DiskEncryptionSetRotating")
    assert "the EncryptedResource of the set moves it" in fault.message
    assert isinstance(plan_disk(target(), want(FOLLOW.at(V2)), seen(body(), the_set())), Plan)


def test_a_disk_does_not_join_a_set_on_a_version_that_has_not_just_been_probed() -> None:
    late = read_set(set_body(str(FOLLOW.at(V1))))
    fault = refused(seen(body(), late))
    assert (fault.kind, fault.reason) == (FaultKind.BUSY, "DiskEncryptionSetRotating")
    assert plan_disk(target(), want(), seen(body(on_the_set()), late, late)) is None, "one that is there moves with its set"


@pytest.mark.parametrize("state", ["Attached", "Frozen"])
def test_a_disk_of_a_machine_that_runs_waits_and_names_the_machine_and_who_must_deallocate_it(state: str) -> None:
    facts = seen(body(diskState=state, managedBy=MACHINE), the_set())
    for fault in (
        refused(facts),
        plan_disk_revert(target(), seen(body(on_the_set(), diskState=state, managedBy=MACHINE), the_set())),
    ):
        assert isinstance(fault, Fault)
        assert (fault.kind, fault.reason, fault.actor) == (FaultKind.BLOCKED, "DiskAttached", Actor.PROVIDER_ADMINISTRATOR)
        assert "virtual machine vm1" in fault.message
        assert "must deallocate it" in fault.message
    assert facts.shown.attached_to == ("vm1",)
    assert protected_disk(facts).attached_to == ArmId(MACHINE)


@pytest.mark.parametrize("state", ["Reserved", "Unattached", ""])
def test_a_disk_of_a_deallocated_machine_is_changed(state: str) -> None:
    assert isinstance(plan_disk(target(), want(), seen(body(diskState=state, managedBy=MACHINE), the_set())), Plan)


@pytest.mark.parametrize("state", ["ActiveSAS", "ActiveSASFrozen", "ReadyToUpload", "ActiveUpload"])
def test_an_export_is_waited_for(state: str) -> None:
    fault = refused(seen(body(diskState=state), the_set()))
    assert (fault.reason, fault.actor) == ("DiskInUse", Actor.PROVIDER_ADMINISTRATOR)


def test_a_shared_disk_names_all_its_machines() -> None:
    other = MACHINE.replace("vm1", "vm2")
    fault = refused(seen(body(diskState="Attached", managedBy=MACHINE, managedByExtended=[MACHINE, other]), the_set()))
    assert "vm1, vm2" in fault.message


def test_another_operation_on_the_disk_or_on_its_set_is_waited_for() -> None:
    updating = the_set()
    moving = replace(updating, detail=replace(updating.detail, state="Updating"))
    made = read_set(set_body(provisioningState="Creating"))
    for facts in (seen(body(provisioningState="Updating"), the_set()), seen(body(), moving), seen(body(), made)):
        assert refused(facts).kind is FaultKind.BUSY


def test_a_revert_names_only_the_type_and_a_disk_on_a_key_of_microsoft_needs_none() -> None:
    plan = plan_disk_revert(target(), seen(body(on_the_set()), the_set(), the_set()))
    assert isinstance(plan, Plan)
    assert plan.body == {"properties": {"encryption": {"type": PLATFORM_KEY}}}
    assert plan_disk_revert(target(), seen(body(), the_set())) is None
    assert isinstance(plan_disk_revert(target(), seen(body(on_the_set(), provisioningState="Updating"))), Fault)


@given(
    state=st.sampled_from(["", "Unattached", "Attached", "Reserved", "Frozen", "ActiveSAS", "ActiveUpload"]),
    busy=st.booleans(),
    on=st.none() | st.sampled_from([SET, SET.upper(), ANOTHER_SET]),
    set_version=st.sampled_from([V1, V2]),
    set_key=st.sampled_from(["disks", "other"]),
    scope=st.booleans(),
    exists=st.booleans(),
)
def test_a_disk_is_written_only_onto_a_set_in_scope_on_the_probed_version_while_nothing_uses_the_disk(
    *, state: str, busy: bool, on: str | None, set_version: str, set_key: str, scope: bool, exists: bool
) -> None:
    found = read_set(set_body(f"https://{VAULT}/keys/{set_key}/{set_version}")) if exists else None
    answer = body(on_the_set(on) if on else None, diskState=state, provisioningState="Updating" if busy else "Succeeded")
    plan = plan_disk(target(in_scope=scope), want(), seen(answer, found))
    if isinstance(plan, Plan):
        assert scope
        assert exists
        assert (set_key, set_version) == ("disks", V2)
        assert state in {"", "Unattached", "Reserved"}
        assert not busy
        settled = seen(body(plan.body["properties"]["encryption"]), found)
        assert plan_disk(target(), want(), settled) is None
    elif plan is None:
        assert scope
        assert exists
        assert set_key == "disks"
        assert on is not None
        assert on.lower() == SET.lower()
