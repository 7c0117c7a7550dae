"""Disk encryption sets, disks and virtual machines as ARM answers them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sandbox.azure.clock import with_offset

if TYPE_CHECKING:
    from sandbox.azure.arm.assigned_identities import AssignedIdentities
    from sandbox.azure.compute.model import Disk, EncryptionSet, Fleet, KeyUrl, Machine, Resource

GIBIBYTE = 1024**3
POWER = {"running": "VM running", "stopped": "VM stopped", "deallocated": "VM deallocated"}


def _frame(resource: Resource, kind: str) -> dict[str, Any]:
    return {
        "id": resource.id,
        "name": resource.name,
        "type": f"Microsoft.Compute/{kind}",
        "location": resource.location,
        "tags": resource.tags,
    }


def set_shown(encryption_set: EncryptionSet, identities: AssignedIdentities) -> dict[str, Any]:
    """A disk encryption set: `previousKeys` is empty unless a rotation runs, the timestamp is there only after one."""
    settings = encryption_set.settings
    properties: dict[str, Any] = {
        "encryptionType": encryption_set.encryption_type,
        "provisioningState": encryption_set.state,
        "rotationToLatestKeyVersionEnabled": settings.auto,
    }
    if settings.key is not None:
        properties["activeKey"] = _key_shown(settings.key, encryption_set.source_vault)
    properties["previousKeys"] = [_key_shown(one, None) for one in encryption_set.previous]
    if encryption_set.rotated is not None:
        properties["lastKeyRotationTimestamp"] = with_offset(encryption_set.rotated)
    if encryption_set.rotation_error is not None:
        properties["autoKeyRotationError"] = encryption_set.rotation_error
    if settings.federated_client_id:
        properties["federatedClientId"] = settings.federated_client_id
    shown = _frame(encryption_set, "diskEncryptionSets")
    if settings.identity.type != "None":
        kind = settings.identity.type.replace(",", ", ")  # as compute spells it
        shown["identity"] = identities.shown(settings.identity, encryption_set.tenant_id, kind=kind)
    return {**shown, "properties": properties}


def _key_shown(key: KeyUrl, source_vault: str | None) -> dict[str, Any]:
    return {"keyUrl": key.text} | ({"sourceVault": {"id": source_vault}} if source_vault else {})


def disk_shown(disk: Disk, fleet: Fleet, now: float) -> dict[str, Any]:
    """A disk: what protects it stays as it was last set, whether the key can be reached or not."""
    encryption: dict[str, Any] = {"type": disk.encryption_type}
    if disk.set_id:
        encryption["diskEncryptionSetId"] = disk.set_id
    properties: dict[str, Any] = {
        "networkAccessPolicy": "AllowAll",
        "publicNetworkAccess": "Enabled",
        **disk.settings,
        "creationData": disk.creation,
        "diskSizeGB": disk.size,
        "diskSizeBytes": disk.size * GIBIBYTE,
        "encryption": encryption,
        "timeCreated": with_offset(disk.created),
        "provisioningState": disk.state,
        "diskState": fleet.state_of(disk, now),
        "uniqueId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{disk.id.lower()} {disk.created}")),
    }
    shown = _frame(disk, "disks")
    shown["sku"] = {"name": disk.sku, "tier": disk.sku.split("_", maxsplit=1)[0].removesuffix("SSD")}
    if disk.managed_by:
        shown["managedBy"] = disk.managed_by
    if disk.zones:
        shown["zones"] = disk.zones
    return {**shown, "properties": properties}


def machine_shown(machine: Machine, fleet: Fleet, *, instance: dict[str, Any] | None = None) -> dict[str, Any]:
    """A virtual machine with its disks."""

    def disk_shown_in_machine(disk_id: str, settings: dict[str, Any]) -> dict[str, Any]:
        disk = fleet.disks.find(disk_id)
        managed: dict[str, Any] = {"id": disk_id}
        if disk is not None:
            managed["storageAccountType"] = disk.sku
            if disk.set_id:
                managed["diskEncryptionSet"] = {"id": disk.set_id}
        return {**settings, "name": disk_id.rsplit("/", 1)[-1], "managedDisk": managed}

    storage: dict[str, Any] = {
        "osDisk": disk_shown_in_machine(machine.system, machine.system_settings),
        "dataDisks": [disk_shown_in_machine(one, settings) for one, settings in machine.data],
    }
    if "imageReference" in machine.settings:
        storage["imageReference"] = machine.settings["imageReference"]
    properties: dict[str, Any] = {
        **{name: value for name, value in machine.settings.items() if name != "imageReference"},
        "storageProfile": storage,
        "provisioningState": machine.state,
        "vmId": str(uuid.uuid5(uuid.NAMESPACE_URL, machine.id.lower())),
        "timeCreated": with_offset(machine.created),
    }
    if instance is not None:
        properties["instanceView"] = instance
    shown = _frame(machine, "virtualMachines")
    if machine.zones:
        shown["zones"] = machine.zones
    if machine.identity:
        shown["identity"] = machine.identity
    return {**shown, "properties": properties}


def instance_shown(machine: Machine, now: float) -> dict[str, Any]:
    """The instance view: the state of provisioning and of power."""
    return {
        "statuses": [
            {
                "code": f"ProvisioningState/{machine.state.lower()}",
                "level": "Info",
                "displayStatus": f"Provisioning {machine.state.lower()}",
                "time": with_offset(now),
            },
            {"code": f"PowerState/{machine.power}", "level": "Info", "displayStatus": POWER[machine.power]},
        ]
    }
