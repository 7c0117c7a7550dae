"""Disk encryption sets and disks: made, adopted, rotated by Azure, held by machines, lost and healed, with operations that take time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.administrators.compute import DISKS, ComputeAdministrator
from sandbox.kubernetes.objects import condition, has

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

CUSTOMER_KEY = "EncryptionAtRestWithCustomerKey"
REQUESTED = "cmk-operator.dev/reconcile-requested-at"
CREATION = {"location": "westeurope", "encryptionType": CUSTOMER_KEY}


@dataclass(frozen=True)
class Disks:
    """An environment with a disk encryption set and disks in its group."""

    environment: Environment
    compute: ComputeAdministrator

    @property
    def set_id(self) -> str:
        return self.compute.id_of("diskEncryptionSets", "des")

    async def disk(self, name: str = "data", **options: Any) -> str:
        return await self.compute.create_disk(name, **options)

    async def apply_set(self, name: str = "des", **spec: Any) -> None:
        """The manifest of the set; it says how to create it unless told otherwise."""
        body = {"resourceId": self.set_id, "diskEncryptionSet": CREATION, **spec}
        await self.environment.apply_resource(name, **{key: value for key, value in body.items() if value is not None})

    async def apply_disk(self, name: str = "data", **spec: Any) -> None:
        """The manifest of a disk that must be on the set."""
        disk = {"diskEncryptionSetId": self.set_id}
        await self.environment.apply_resource(name, resourceId=self.compute.id_of("disks", name), disk=disk, **spec)

    async def until(self, what: str, test: Any, name: str = "des") -> dict[str, Any]:
        return await self.environment.resource_until(what, test, name)

    async def properties(self, resource_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.compute.disk(resource_id))["properties"]
        return found

    async def writes(self) -> list[str]:
        """Method and kind of each of the operator's writes to this group."""
        found = await self.environment.operator_requests(f"/{self.environment.group}/", 0, "PUT", "PATCH", "POST", "DELETE")
        return [f"{one['method']} {one['path'].split('?')[0].split('/')[-2]}" for one in found]

    async def made(self, **options: Any) -> str:
        """The set, made by hand on the environment's key; needs the key."""
        identity = self.environment.identity
        key = await self.environment.key_until("Ready", has("Ready"))
        return await self.compute.create_encryption_set(
            "des",
            self.environment.key_uri(key["activeVersion"]),
            identity=identity.managed_identity_resource_id,
            application_client_id=identity.application_client_id,
            **options,
        )


@pytest.fixture
async def disks(environment: Environment) -> Disks:
    """Key, tenant and identity are applied and in force; nothing of Microsoft.Compute exists yet."""
    await environment.vault_with_key()
    await environment.provider.create_resource_group(environment.group)
    await environment.apply_all()
    return Disks(environment, ComputeAdministrator(environment.provider, environment.group))


async def test_a_set_is_made_with_the_version_on_the_wire_and_a_disk_put_on_it_by_operations_that_take_time(
    disks: Disks,
) -> None:
    environment, identity = disks.environment, disks.environment.identity
    disk = await disks.disk()
    await disks.apply_disk()
    await disks.apply_set()
    status = await disks.until("Ready", has("Ready"), "data")
    made = await disks.compute.disk(disks.set_id)
    version = (await environment.key_until("Ready", has("Ready")))["activeVersion"]
    assert made["properties"]["activeKey"] == {"keyUrl": environment.key_uri(version)}
    assert made["properties"]["rotationToLatestKeyVersionEnabled"] is True
    assert made["properties"]["federatedClientId"] == identity.application_client_id
    assert (await disks.properties(disk))["encryption"] == {"type": CUSTOMER_KEY, "diskEncryptionSetId": disks.set_id}
    assert (status["applied"]["keyUri"], "operation" in status) == (environment.key_uri(version), False)
    (rotation,) = status["rotations"]
    assert (rotation["by"], bool(rotation["requestId"])) == ("cmk-operator", True)
    shown = await disks.until("the disk is shown", lambda seen: (seen.get("details") or {}).get("encryptedDisks") == ["data"])
    assert has("Ready")(shown)
    assert shown["target"] == {"kind": "DiskEncryptionSet", "name": "des"}
    assert await disks.writes() == ["PUT diskEncryptionSets", "PATCH disks"]
    key = await environment.key_until("both use it", lambda seen: seen.get("usedByCount") == 2)
    assert key["usedBy"] == ["data", "des"]


async def test_azure_s_own_rotation_is_followed_with_the_old_key_shown_and_never_fought(
    disks: Disks, operator: Operator
) -> None:
    environment, control = disks.environment, disks.environment.control
    await disks.apply_set()
    await disks.until("Ready", has("Ready"))
    await disks.disk(encryption_set=disks.set_id)
    await disks.apply_disk()
    first = (await disks.until("Ready", has("Ready"), "data"))["applied"]["version"]
    written = await disks.writes()
    second = (await environment.customer.new_version(environment.vault, "cmk")).rsplit("/", 1)[-1]
    await environment.key_until("second", lambda seen: seen["activeVersion"] == second)
    await control.advance(2800)
    moving = await disks.until("moving", lambda seen: seen["applied"]["version"] == second)
    assert moving["details"]["previousKeys"] == [environment.key_uri(first)]
    assert moving["rotations"][0]["by"] == "found in Azure"
    await control.advance(700)
    moved = await disks.until("moved", lambda seen: not (seen.get("details") or {}).get("previousKeys"))
    assert (moved["applied"]["version"], has("Ready")(moved), has("KeyCurrent")(moved)) == (second, True, True)
    await disks.until("the disk too", lambda seen: seen["applied"]["version"] == second and has("KeyCurrent")(seen), "data")
    await operator.after_passes(3)
    assert await disks.writes() == written, "Azure moved the set by itself"


async def test_a_set_in_another_region_than_the_vault_is_refused_with_both_regions_before_any_write(
    disks: Disks, operator: Operator
) -> None:
    await disks.apply_set(diskEncryptionSet={**CREATION, "location": "northeurope"})
    status = await disks.until("refused", has("Ready", "False", "VaultInAnotherRegion"))
    message = condition(status, "Stalled")["message"]
    assert "is in westeurope" in message
    assert "des in northeurope" in message
    assert "the platform engineer must set spec.diskEncryptionSet.location to westeurope" in message
    await operator.after_passes(2)
    assert await disks.writes() == []
    await disks.apply_set()
    await disks.until("Ready", has("Ready"))


async def test_a_set_that_does_not_exist_and_may_not_be_made_waits_and_is_adopted_with_its_other_identities_once_it_does(
    disks: Disks,
) -> None:
    environment = disks.environment
    await disks.apply_set(diskEncryptionSet=None)
    status = await disks.until("refused", has("Ready", "False", "DiskEncryptionSetNotFound"))
    assert "spec.diskEncryptionSet" in condition(status, "Stalled")["message"]
    await disks.made(identity_type="SystemAssigned, UserAssigned")
    await disks.disk(encryption_set=disks.set_id)
    await disks.until("Ready", has("Ready"))
    adopted = await disks.compute.disk(disks.set_id)
    assert adopted["identity"]["type"] == "SystemAssigned, UserAssigned"
    assert adopted["properties"]["rotationToLatestKeyVersionEnabled"] is True
    await environment.customer.create_key(environment.vault, "other")
    await disks.apply_set(mode="Observe", diskEncryptionSet=None)
    await environment.apply_key(keyUri=environment.key_uri(key="other"))
    plan = await disks.until("a plan", lambda seen: "other" in str(seen.get("plan", {}).get("summary")))
    assert "key of the disks that use the set (data)" in plan["plan"]["summary"][-1], "it says what moves with the set"


async def test_a_disk_of_a_running_machine_waits_for_its_administrator_and_the_machine_is_never_stopped(
    disks: Disks, operator: Operator
) -> None:
    disk = await disks.disk()
    machine = await disks.compute.create_machine("vm1", disk)
    await disks.apply_set()
    await disks.apply_disk()
    status = await disks.until("waits", has("Ready", "False", "DiskAttached"), "data")
    assert "virtual machine vm1" in condition(status, "Stalled")["message"]
    assert "the provider's administrator must deallocate it" in condition(status, "Stalled")["message"]
    assert status["details"]["attachedTo"] == ["vm1"]
    await operator.after_passes(2)
    assert await disks.compute.power(machine) == "PowerState/running"
    assert await disks.writes() == ["PUT diskEncryptionSets"]
    await disks.compute.deallocate(machine)
    now = {"metadata": {"annotations": {REQUESTED: "deallocated"}}}
    await disks.environment.objects.merge("EncryptedResource", "data", now, disks.environment.namespace)
    await disks.until("Ready", has("Ready"), "data")
    await disks.compute.start(machine)
    status = await disks.until("the machine is shown", lambda seen: (seen.get("details") or {}).get("attachedTo") == ["vm1"])
    assert has("Ready")(status)


MEANINGS = {
    "QuotaExceeded": (
        "Operation could not be completed as it results in exceeding approved quota of disks.",
        "must have it raised",
    ),
    "DiskAttached": (
        "Cannot change Encryption Setting of disk while it is attached to running VM. It requires the virtual machine to be deallocated.",
        "must deallocate the virtual machine",
    ),
}


async def test_each_meaning_of_one_code_of_compute_has_a_sentence_of_its_own(disks: Disks) -> None:
    disk = await disks.disk()
    await disks.apply_set()
    await disks.until("Ready", has("Ready"))
    before = ""
    for reason, (said, advice) in MEANINGS.items():
        fault = await disks.environment.control.inject(
            kind="status", status=409, method="PATCH", path=disk, code="OperationNotAllowed", message=said
        )
        if before:
            # Not earlier: a pass between two faults would put the disk on its set.
            await disks.environment.control.clear_fault(before)
        await disks.apply_disk()
        now = {"metadata": {"annotations": {REQUESTED: reason}}}
        await disks.environment.objects.merge("EncryptedResource", "data", now, disks.environment.namespace)
        status = await disks.until(reason, has("Ready", "False", reason), "data")
        message = condition(status, "Ready")["message"]
        assert advice in message
        assert said.split(".", maxsplit=1)[0] in message
        before = fault
    await disks.environment.control.clear_fault(before)
    await disks.until("Ready", has("Ready"), "data")


async def test_a_disk_that_was_under_azure_disk_encryption_is_told_and_left_alone(disks: Disks, operator: Operator) -> None:
    disk = await disks.disk()
    await disks.environment.provider.patch(disk, DISKS, {"properties": {"encryptionSettingsCollection": {"enabled": True}}})
    await disks.apply_set()
    await disks.apply_disk()
    status = await disks.until("told", has("Ready", "False", "AzureDiskEncryptionUsed"), "data")
    message = condition(status, "Ready")["message"]
    assert "must copy its data to a new disk that never was" in message
    assert "has encryptionSettingsCollection" in message
    await operator.after_passes(2)
    assert (await disks.compute.disk(disk))["properties"]["encryption"]["type"] == "EncryptionAtRestWithPlatformKey"


async def test_a_disabled_key_is_told_while_machines_stop_and_all_heals_when_it_is_enabled(disks: Disks) -> None:
    environment = disks.environment
    await disks.apply_set()
    await disks.until("Ready", has("Ready"))
    machine = await disks.compute.create_machine("vm1", await disks.disk(encryption_set=disks.set_id))
    await disks.apply_disk()
    await disks.until("Ready", has("Ready"), "data")
    written = await disks.writes()
    await environment.customer.disable(environment.vault, "cmk")
    await environment.control.advance(3600)
    for name in ("des", "data"):
        status = await disks.until("lost", has("KeyAccessible", "False", "Disabled"), name)
        assert has("Encrypted")(status), "Azure still has it on the customer's key"
        assert "the customer's administrator" in condition(status, "Stalled")["message"]
    error = await disks.until("Azure's own error", lambda seen: (seen.get("details") or {}).get("rotationError"))
    assert error["details"]["rotationError"].startswith("KeyVaultKeyNotEnabled: ")
    assert await disks.compute.power(machine) == "PowerState/stopped"
    await environment.customer.enable(environment.vault, "cmk")
    for name in ("des", "data"):
        await disks.until("healed", has("Ready"), name)
    await disks.compute.start(machine)
    await environment.control.advance(3600)
    await disks.until("no error", lambda seen: "rotationError" not in (seen.get("details") or {}))
    assert await disks.writes() == written, "nothing is written because a key was lost"


async def test_consent_withdrawn_in_the_middle_of_an_operation_is_told_and_the_set_is_made_once_it_is_back(
    disks: Disks,
) -> None:
    environment, control = disks.environment, disks.environment.control
    await environment.key_until("Ready", has("Ready"))
    await control.set_timings(compute_operation_seconds=100_000)
    await disks.apply_set()
    status = await disks.until("under way", lambda seen: seen.get("operation"))
    assert has("Ready", "False", "OperationInProgress")(status)
    assert status["operation"]["purpose"] == "create the disk encryption set on the key"
    await environment.customer.withdraw_consent(environment.identity.application_client_id)
    await control.advance(100_000)
    lost = await disks.until("failed", has("Ready", "False", "ConsentMissing"))
    assert "the customer's administrator" in condition(lost, "Stalled")["message"]
    assert "operation" not in lost
    await control.set_timings(compute_operation_seconds=0.5)
    await environment.customer.consent(environment.identity.application_client_id)
    await environment.customer.grant(environment.identity.application_client_id, environment.vault)
    await disks.until("Ready", has("Ready"))
    assert (await disks.properties(disks.set_id))["provisioningState"] == "Succeeded"


async def test_a_disk_goes_back_to_a_key_of_microsoft_only_by_its_own_manifest_and_a_set_says_that_it_cannot(
    disks: Disks,
) -> None:
    environment = disks.environment
    disk = await disks.disk()
    await disks.apply_set(deletionPolicy="RevertToPlatformKey")
    await disks.apply_disk(deletionPolicy="RevertToPlatformKey")
    await disks.until("Ready", has("Ready"), "data")
    await disks.until("the disk is shown", lambda seen: (seen.get("details") or {}).get("encryptedDisks"))
    await environment.objects.delete("EncryptedResource", "des", environment.namespace)
    refused = await disks.until("refused", has("Ready", "False", "NoPlatformKeyForSets"))
    assert "(data)" in condition(refused, "Stalled")["message"]
    assert (await disks.properties(disk))["encryption"]["type"] == CUSTOMER_KEY
    await environment.objects.delete("EncryptedResource", "data", environment.namespace)

    async def reverted() -> bool:
        return bool((await disks.properties(disk))["encryption"] == {"type": "EncryptionAtRestWithPlatformKey"})

    await environment.eventually("the disk is on a Microsoft-managed key", reverted)

    async def gone() -> bool:
        return not await environment.objects.all("EncryptedResource")

    await environment.eventually("nothing holds the set's manifest any more", gone)
    assert (await disks.properties(disks.set_id))["activeKey"], "the set itself stays"
