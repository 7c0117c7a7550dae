"""The provider's disks, disk encryption sets and virtual machines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.administrators.administrator import Administrator

DISKS = "2026-03-02"
MACHINES = "2026-04-01"
_IMAGE = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}


class ComputeAdministrator:
    """What an administrator does with Microsoft.Compute, in one resource group unless another is named."""

    def __init__(self, administrator: Administrator, resource_group: str) -> None:
        self._administrator = administrator
        self._resource_group = resource_group

    def id_of(self, kind: str, name: str, resource_group: str | None = None) -> str:
        """The ARM id; `kind` is `disks`, `diskEncryptionSets` or `virtualMachines`."""
        group = resource_group or self._resource_group
        return f"{self._administrator.subscription}/resourceGroups/{group}/providers/Microsoft.Compute/{kind}/{name}"

    async def create_disk(
        self,
        name: str,
        *,
        resource_group: str | None = None,
        location: str = "westeurope",
        encryption_set: str | None = None,
        security: Mapping[str, str] | None = None,
    ) -> str:
        """An empty disk on the platform's key, or on a set; with `security`, one with an operating system. Its ARM id."""
        disk_id = self.id_of("disks", name, resource_group)
        properties: dict[str, Any] = {"creationData": {"createOption": "Empty"}, "diskSizeGB": 8}
        if encryption_set is not None:
            properties["encryption"] = {"diskEncryptionSetId": encryption_set}
        if security is not None:
            image = {"creationData": {"createOption": "FromImage", "imageReference": {"id": "image"}}, "osType": "Linux"}
            properties |= {**image, "hyperVGeneration": "V2", "securityProfile": dict(security)}
        await self._administrator.put(disk_id, DISKS, {"location": location, "properties": properties})
        return disk_id

    async def create_machine(
        self,
        name: str,
        *disks: str,
        resource_group: str | None = None,
        location: str = "westeurope",
        system: str | None = None,
    ) -> str:
        """A running virtual machine with these data disks, which boots from an image or from the disk `system`; its ARM id."""
        machine_id = self.id_of("virtualMachines", name, resource_group)
        data = [{"lun": lun, "createOption": "Attach", "managedDisk": {"id": one}} for lun, one in enumerate(disks)]
        storage: dict[str, Any] = {"imageReference": _IMAGE, "osDisk": {"createOption": "FromImage"}, "dataDisks": data}
        if system is not None:
            boots = {"createOption": "Attach", "osType": "Linux", "managedDisk": {"id": system}}
            storage = {"osDisk": boots, "dataDisks": data}
        properties = {"hardwareProfile": {"vmSize": "Standard_D2s_v5"}, "storageProfile": storage}
        made = await self._administrator.put(machine_id, MACHINES, {"location": location, "properties": properties})
        while made["properties"]["provisioningState"] == "Creating":
            await asyncio.sleep(0.2)
            made = await self._administrator.get(machine_id, MACHINES)
        return machine_id

    async def create_encryption_set(
        self,
        name: str,
        key_url: str,
        *,
        identity: str,
        application_client_id: str | None = None,
        automatic: bool = False,
        identity_type: str = "UserAssigned",
        resource_group: str | None = None,
        location: str = "westeurope",
        **more: object,
    ) -> str:
        """A set on a key, by its URL with the version, and with more properties; its ARM id."""
        set_id = self.id_of("diskEncryptionSets", name, resource_group)
        properties: dict[str, Any] = {
            "encryptionType": "EncryptionAtRestWithCustomerKey",
            "activeKey": {"keyUrl": key_url},
            "rotationToLatestKeyVersionEnabled": automatic,
            **more,
        }
        if application_client_id is not None:
            properties["federatedClientId"] = application_client_id
        assigned = {"type": identity_type, "userAssignedIdentities": {identity: {}}}
        await self._administrator.put(set_id, DISKS, {"location": location, "identity": assigned, "properties": properties})
        return set_id

    async def create_confidential_disk(self, name: str, encryption_set: str, *, resource_group: str | None = None) -> str:
        """A disk that a confidential virtual machine encrypts with the key of a set; its ARM id."""
        profile = {"securityType": "ConfidentialVM_DiskEncryptedWithCustomerKey", "secureVMDiskEncryptionSetId": encryption_set}
        return await self.create_disk(name, resource_group=resource_group, security=profile)

    async def disk(self, disk_id: str) -> dict[str, Any]:
        """A disk, or a disk encryption set, as ARM shows it."""
        return await self._administrator.get(disk_id, DISKS)

    async def put_on_set(self, disk_id: str, encryption_set: str | None) -> None:
        """Put a disk on a set; None: back on the platform's key."""
        encryption: dict[str, str] = {"type": "EncryptionAtRestWithPlatformKey"}
        if encryption_set is not None:
            encryption = {"diskEncryptionSetId": encryption_set}
        await self._administrator.patch(disk_id, DISKS, {"properties": {"encryption": encryption}})

    async def protected_by(self, encryption_set: str) -> list[str]:
        """The ids of what the set protects."""
        url = f"{encryption_set}/associatedResources"
        found: list[str] = (await self._administrator.get(url, DISKS))["value"]
        return found

    async def export(self, disk_id: str) -> str:
        """A URL of the disk's content, taken back at once. Raises HttpResponseError when the content cannot be read."""
        arm = self._administrator.arm
        query = f"?api-version={DISKS}"
        body = {"access": "Read", "durationInSeconds": 300}
        url: str = (await arm.json("POST", f"{disk_id}/beginGetAccess{query}", body))["accessSAS"]
        await arm.json("POST", f"{disk_id}/endGetAccess{query}")
        return url

    async def start(self, machine_id: str) -> None:
        """Boot it. Raises HttpResponseError when it does not."""
        await self._act(machine_id, "start")

    async def deallocate(self, machine_id: str) -> None:
        """Stop it and give the hardware back, so that its disks can be changed."""
        await self._act(machine_id, "deallocate")

    async def _act(self, machine_id: str, verb: str) -> None:
        await self._administrator.arm.json("POST", f"{machine_id}/{verb}?api-version={MACHINES}")

    async def power(self, machine_id: str) -> str:
        """Such as `PowerState/running`."""
        view = await self._administrator.get(f"{machine_id}/instanceView", MACHINES)
        (state,) = [one["code"] for one in view["statuses"] if one["code"].startswith("PowerState/")]
        return str(state)
