"""Managed disks (Microsoft.Compute/disks)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import parsed
from sandbox.azure.arm.resources import location_of, page, resource_id, serve
from sandbox.azure.arm.subscriptions import normalized_location
from sandbox.azure.compute.bodies import READ_ONLY, DiskBody, DiskEncryption, DiskUpdate, GrantAccess
from sandbox.azure.compute.frame import DISK_OPERATIONS
from sandbox.azure.compute.model import CONFIDENTIAL, CONFIDENTIAL_DISK, PLATFORM_KEY, Disk
from sandbox.azure.compute.protection import invalid, missing
from sandbox.azure.compute.views import disk_shown
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.key_vault.crypto import new_data_key

if TYPE_CHECKING:
    from sandbox.azure.arm.gateway import ArmCall
    from sandbox.azure.compute.bodies import CreationData, DiskProperties, DiskUpdateProperties
    from sandbox.azure.compute.frame import ComputeFrame
    from sandbox.azure.compute.model import EncryptionSet

KIND = "Microsoft.Compute/disks"
SETS = "Microsoft.Compute/diskEncryptionSets"


class DiskEncryptionChanges:
    """Puts disks on sets and takes them off, by the rules of the disk service."""

    def __init__(self, frame: ComputeFrame) -> None:
        self._frame = frame

    def wanted(self, call: ArmCall, disk: Disk, sent: DiskEncryption | None) -> tuple[str, EncryptionSet | None]:
        """The type and the set that the disk is to have. Raises ArmRefusedError."""
        if sent is None:
            return disk.encryption_type, self._frame.fleet.sets.find(disk.set_id or "")
        if disk.secure_set_id and sent.disk_encryption_set_id:
            raise invalid("disk.encryption", "The encryption of a confidential virtual machine's disk cannot be changed.")
        if not sent.disk_encryption_set_id:
            kind = sent.type or PLATFORM_KEY
            if kind != PLATFORM_KEY:
                raise missing("disk.encryption.diskEncryptionSetId")
            return kind, None
        if sent.type == PLATFORM_KEY:
            raise invalid("disk.encryption.diskEncryptionSetId", "A disk under the platform's key has no disk encryption set.")
        found = self._set(call, disk, sent.disk_encryption_set_id)
        kind = sent.type or found.encryption_type
        if kind != found.encryption_type or kind == CONFIDENTIAL:
            raise invalid(
                "disk.encryption.type",
                f"The type of the Disk Encryption Set in the request is '{found.encryption_type}', but the disk's is '{kind}'.",
            )
        return kind, found

    def _set(self, call: ArmCall, disk: Disk, set_id: str) -> EncryptionSet:
        gateway = self._frame.gateway
        gateway.authorize_linked(call.caller, f"{SETS}/read", set_id, f"{KIND}/write", call.scope)
        if set_id.lower().split("/")[2:3] != disk.id.lower().split("/")[2:3]:
            raise invalid("disk.encryption.diskEncryptionSetId", "The set must be in the subscription of the disk.")
        found = self._frame.fleet.sets.find(set_id)
        if found is None:
            raise ArmRefusedError(404, "NotFound", f"Disk encryption set '{set_id}' was not found.")
        if found.location != disk.location:
            raise invalid(
                "disk.encryption.diskEncryptionSetId",
                f"The set is in region '{found.location}', the disk in '{disk.location}': they must be in the same region.",
            )
        return found

    def allowed(self, disk: Disk, kind: str, encryption_set: EncryptionSet | None) -> None:
        """Raises ArmRefusedError 409 for a change on a disk that is in use."""
        if not self.differs(disk, kind, encryption_set):
            return
        machine = self._frame.fleet.machine_of(disk)
        if machine is not None and machine.power != "deallocated":
            raise ArmRefusedError(
                409,
                "OperationNotAllowed",
                f"Cannot change Encryption Setting of disk {disk.name} while it is attached to running VM {machine.id}. It requires the "
                "virtual machine to be deallocated. Please stop your VM and retry the operation.",
            )
        if disk.access_until > self._frame.clock.now():
            raise ArmRefusedError(
                409,
                "OperationNotAllowed",
                f"Cannot change Encryption Setting of disk {disk.name} while an active shared access signature exists. Call "
                "EndGetAccess first.",
            )

    @staticmethod
    def encrypted_inside(disk: Disk, sent: DiskUpdateProperties | None, encryption_set: EncryptionSet | None) -> bool:
        """Whether the disk is or was once under Azure Disk Encryption, which never goes together with a customer's key.

        https://learn.microsoft.com/azure/virtual-machines/disk-encryption#restrictions; the code: azure-sdk-for-python#30287; the text
        is ours, as no public source shows Azure's. Raises ArmRefusedError 409.
        """
        collection = sent.encryption_settings_collection if sent is not None else None
        inside = disk.encrypted_inside or (collection is not None and collection.enabled)
        if inside and encryption_set is not None:
            raise ArmRefusedError(
                409,
                "OperationNotAllowed",
                f"Disk {disk.name} has encryptionSettingsCollection: a disk that is or was encrypted with Azure Disk Encryption cannot be "
                "encrypted with a customer-managed key.",
            )
        return inside

    @staticmethod
    def differs(disk: Disk, kind: str, encryption_set: EncryptionSet | None) -> bool:
        """Whether the disk is not there yet."""
        wanted = encryption_set.id.lower() if encryption_set else ""
        return (disk.encryption_type, (disk.set_id or "").lower()) != (kind, wanted)

    def secure_set(self, call: ArmCall, disk: Disk, sent: DiskProperties) -> EncryptionSet | None:
        """The set of a confidential virtual machine's disk; None for any other disk. Raises ArmRefusedError."""
        profile, parameter = sent.security_profile, "disk.securityProfile.secureVMDiskEncryptionSetId"
        if profile is None:
            return None
        set_id = profile.secure_vm_disk_encryption_set_id
        if profile.security_type != CONFIDENTIAL_DISK:
            if set_id is not None:
                raise invalid(parameter, f"It is only for the security type '{CONFIDENTIAL_DISK}'.")
            return None
        if set_id is None:
            raise missing(parameter)
        if sent.encryption is not None and sent.encryption.disk_encryption_set_id:
            raise invalid(parameter, "A disk has either this set or 'encryption.diskEncryptionSetId'.")
        if sent.os_type is None or sent.creation_data.create_option == "Empty":
            raise invalid(
                "disk.securityProfile", "Only a disk with an operating system can be encrypted by a confidential machine."
            )
        if sent.hyper_v_generation == "V1":
            raise invalid("disk.hyperVGeneration", "A confidential virtual machine needs generation V2.")
        found = self._set(call, disk, set_id)
        if found.encryption_type != CONFIDENTIAL:
            raise invalid(parameter, f"The type of the set is '{found.encryption_type}', and must be '{CONFIDENTIAL}'.")
        return found

    async def secure(self, disk: Disk, encryption_set: EncryptionSet) -> None:
        """Wrap the key with which the confidential machine encrypts the disk. Raises ArmRefusedError."""
        disk.key = await self._frame.protection.wrapped(encryption_set, encryption_set.settings, disk.plain)
        disk.secure_set_id, disk.plain = encryption_set.id, b""

    async def apply(self, disk: Disk, kind: str, encryption_set: EncryptionSet | None) -> None:
        """Wrap the disk's data key anew. Raises ArmRefusedError if the old or the new key cannot be used."""
        if not self.differs(disk, kind, encryption_set):
            return
        plain = await self._frame.protection.unwrapped(disk)
        if encryption_set is None:
            disk.key, disk.plain = None, plain
        else:
            disk.key = await self._frame.protection.wrapped(encryption_set, encryption_set.settings, plain)
            disk.plain = b""
        disk.encryption_type, disk.set_id = kind, encryption_set.id if encryption_set else None


class DiskOperations:
    """The operations on disks."""

    def __init__(self, frame: ComputeFrame, changes: DiskEncryptionChanges) -> None:
        self._frame = frame
        self._changes = changes
        one, add = serve(frame.gateway, KIND, self), frame.gateway.add
        add("POST", f"{one}/beginGetAccess", self.begin_access, kind=KIND, action=f"{KIND}/beginGetAccess/action")
        add("POST", f"{one}/endGetAccess", self.end_access, kind=KIND, action=f"{KIND}/endGetAccess/action")

    def _shown(self, disk: Disk) -> dict[str, Any]:
        return disk_shown(disk, self._frame.fleet, self._frame.clock.now())

    def _found(self, call: ArmCall) -> Disk:
        return self._frame.found(call, self._frame.fleet.disks, KIND)

    async def list(self, call: ArmCall) -> Answer:
        """Of a subscription or a group, in pages."""
        return page(call, self._frame.fleet.disks.under(call.scope), self._shown, self._frame.timings.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """One disk: 200 with its fields whether the key can be reached or not."""
        return Answer(json=self._shown(self._found(call)))

    async def put(self, call: ArmCall) -> Answer:
        """Create a disk, or change one by sending it whole."""
        body = parsed(DiskBody, call.body())
        place = resource_id(self._frame.gateway, call, KIND)
        existing = self._frame.fleet.disks.find(place)
        location = location_of(call, normalized_location(body.location), existing.location if existing else None)
        if existing is not None:
            self._profile_kept(existing, body.properties)
            return await self._changed(call, existing, body.properties, body.tags or {}, body.sku.name if body.sku else None)
        source = self._copied(body.properties.creation_data)
        size, creation = self._content(body, source)
        disk = Disk(
            id=place,
            name=call["name"],
            location=location,
            tenant_id=call.caller.tenant_id,
            created=self._frame.clock.now(),
            tags=body.tags or {},
            plain=new_data_key(),
            sku=body.sku.name if body.sku else "Standard_LRS",
            size=size,
            creation=creation,
            zones=body.zones or [],
            settings=_settings(body.properties),
            encrypted_inside=source is not None and source.encrypted_inside,
        )
        kind, encryption_set = self._changes.wanted(call, disk, body.properties.encryption)
        disk.encrypted_inside = self._changes.encrypted_inside(disk, body.properties, encryption_set)
        await self._changes.apply(disk, kind, encryption_set)
        secure = self._changes.secure_set(call, disk, body.properties)
        if secure is not None:
            await self._changes.secure(disk, secure)
        disk.state = "Creating"
        self._frame.fleet.disks.put(disk)

        async def effect() -> None:
            disk.state = "Succeeded"

        return await self._frame.begun(
            call, DISK_OPERATIONS, disk, effect, lambda: self._shown(disk), shown=lambda: self._shown(disk)
        )

    @staticmethod
    def _profile_kept(disk: Disk, sent: DiskProperties) -> None:
        """Raises ArmRefusedError for another security profile than that with which the disk was created."""
        now, wanted = disk.settings.get("securityProfile"), sent.security_profile
        if wanted is not None and wanted.sent() != now:
            raise ArmRefusedError(409, "PropertyChangeNotAllowed", "Changing property 'securityProfile' is not allowed.")

    def _copied(self, creation: CreationData) -> Disk | None:
        """The disk of which the new one is a copy. Raises ArmRefusedError 400."""
        if creation.create_option != "Copy":
            return None
        source = self._frame.fleet.disks.find(creation.source_resource_id or "")
        if source is None:
            raise invalid("disk.creationData.sourceResourceId", "There is no such disk.")
        return source

    @staticmethod
    def _content(body: DiskBody, source: Disk | None) -> tuple[int, dict[str, Any]]:
        creation, size = body.properties.creation_data, body.properties.disk_size_gb
        size = size or (source.size if source is not None else None)
        if size is None and creation.create_option != "FromImage":
            raise missing("disk.diskSizeGB")
        return size or 30, creation.sent()

    async def patch(self, call: ArmCall) -> Answer:
        """Change what was sent."""
        disk, body = self._found(call), parsed(DiskUpdate, call.body())
        return await self._changed(call, disk, body.properties, body.tags, body.sku.name if body.sku else None)

    async def _changed(
        self,
        call: ArmCall,
        disk: Disk,
        properties: DiskUpdateProperties | None,
        tags: dict[str, str] | None,
        sku: str | None,
    ) -> Answer:
        self._frame.free(disk)
        kind, encryption_set = self._changes.wanted(call, disk, properties.encryption if properties else None)
        self._changes.allowed(disk, kind, encryption_set)
        inside = self._changes.encrypted_inside(disk, properties, encryption_set)
        if self._changes.differs(disk, kind, encryption_set):
            await self._frame.protection.unwrapped(disk)
            if encryption_set is not None:
                await self._frame.protection.wrapped(encryption_set, encryption_set.settings, new_data_key())
        if properties and properties.disk_size_gb and properties.disk_size_gb < disk.size:
            raise ArmRefusedError(400, "OperationNotAllowed", "Disk size reduction is not supported.")
        disk.state = "Updating"

        async def effect() -> None:
            try:
                self._changes.allowed(disk, kind, encryption_set)
                await self._changes.apply(disk, kind, encryption_set)
            except ArmRefusedError:
                disk.state = "Failed"
                raise
            disk.state, disk.sku, disk.encrypted_inside = "Succeeded", sku or disk.sku, inside
            disk.tags = tags if tags is not None else disk.tags
            if properties is not None:
                disk.size = properties.disk_size_gb or disk.size
                disk.settings |= _settings(properties)

        return await self._frame.begun(
            call, DISK_OPERATIONS, disk, effect, lambda: self._shown(disk), shown=lambda: self._shown(disk)
        )

    async def delete(self, call: ArmCall) -> Answer:
        """Delete it, unless it is attached; 204 if it was not there."""
        disk = self._frame.fleet.disks.find(resource_id(self._frame.gateway, call, KIND))
        if disk is None:
            return Answer(204)
        self._frame.free(disk)
        if disk.managed_by:
            raise ArmRefusedError(409, "OperationNotAllowed", f"Disk {disk.name} is attached to VM {disk.managed_by}.")

        async def effect() -> None:
            self._frame.fleet.disks.remove(disk)

        return await self._frame.begun(call, DISK_OPERATIONS, disk, effect, lambda: None)

    async def begin_access(self, call: ArmCall) -> Answer:
        """A URL of the disk's content for a while; refused once the key has been lost for an hour."""
        disk, body = self._found(call), parsed(GrantAccess, call.body())
        self._frame.free(disk)
        if self._frame.fleet.state_of(disk, self._frame.clock.now()) == "Attached":
            raise ArmRefusedError(
                409,
                "OperationNotAllowed",
                f"Cannot grant access to disk {disk.name} since it is attached to running VM {disk.managed_by}.",
            )
        await self._frame.protection.readable(disk)
        url = (
            f"https://md-{uuid.uuid4().hex[:12]}.z1.blob.storage.azure.net/{uuid.uuid4().hex[:12]}/abcd?sv=2018-03-28&sr=b&si=x"
        )

        async def effect() -> None:
            disk.access_until = self._frame.clock.now() + body.duration_in_seconds

        return await self._frame.begun(call, DISK_OPERATIONS, disk, effect, lambda: {"accessSAS": url})

    async def end_access(self, call: ArmCall) -> Answer:
        """Take the URL back."""
        disk = self._found(call)

        async def effect() -> None:
            disk.access_until = 0.0

        return await self._frame.begun(call, DISK_OPERATIONS, disk, effect, lambda: None)


def _settings(properties: DiskUpdateProperties) -> dict[str, Any]:
    kept = READ_ONLY | {"encryption", "diskSizeGB"}
    return {name: value for name, value in properties.sent().items() if name not in kept and value is not None}
