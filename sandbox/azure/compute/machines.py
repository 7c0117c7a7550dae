"""Virtual machines (Microsoft.Compute/virtualMachines): their disks and their power, without networks and without an inside."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import parsed
from sandbox.azure.arm.resources import location_of, page, resource_id, serve
from sandbox.azure.arm.subscriptions import normalized_location
from sandbox.azure.compute.bodies import DiskEncryption, MachineBody, MachineUpdate
from sandbox.azure.compute.frame import MACHINE_OPERATIONS
from sandbox.azure.compute.model import Disk, Machine
from sandbox.azure.compute.protection import invalid, missing
from sandbox.azure.compute.views import instance_shown, machine_shown
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.key_vault.crypto import new_data_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from sandbox.azure.arm.gateway import ArmCall
    from sandbox.azure.compute.bodies import DataDisk, MachineDisk, MachineProperties
    from sandbox.azure.compute.disks import DiskEncryptionChanges
    from sandbox.azure.compute.frame import ComputeFrame
    from sandbox.azure.compute.model import Power

KIND = "Microsoft.Compute/virtualMachines"
DISKS = "Microsoft.Compute/disks"
DEFAULT_SIZE = 30


class MachineOperations:
    """The operations on virtual machines."""

    def __init__(self, frame: ComputeFrame, changes: DiskEncryptionChanges) -> None:
        self._frame = frame
        self._changes = changes
        one, add = serve(frame.gateway, KIND, self), frame.gateway.add
        add("GET", f"{one}/instanceView", self.instance_view, kind=KIND, action=f"{KIND}/instanceView/read")
        for verb in ("start", "restart", "powerOff", "deallocate"):
            add("POST", f"{one}/{verb}", self._power(verb), kind=KIND, action=f"{KIND}/{verb}/action")

    def _shown(self, machine: Machine, *, instance: bool = False) -> dict[str, Any]:
        view = instance_shown(machine, self._frame.clock.now()) if instance else None
        return machine_shown(machine, self._frame.fleet, instance=view)

    def _found(self, call: ArmCall) -> Machine:
        return self._frame.found(call, self._frame.fleet.machines, KIND)

    async def list(self, call: ArmCall) -> Answer:
        """Of a subscription or a group, in pages; with `statusOnly=true` also the power states."""
        instance = call.exchange.query.get("statusonly", "").lower() == "true"
        machines = self._frame.fleet.machines.under(call.scope)
        return page(call, machines, lambda one: self._shown(one, instance=instance), self._frame.timings.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """One machine; with `$expand=instanceView` also its power state."""
        instance = call.exchange.query.get("$expand", "").lower() == "instanceview"
        return Answer(json=self._shown(self._found(call), instance=instance))

    async def instance_view(self, call: ArmCall) -> Answer:
        """The state of provisioning and of power."""
        return Answer(json=instance_shown(self._found(call), self._frame.clock.now()))

    async def put(self, call: ArmCall) -> Answer:
        """Create and start a machine, or give one other data disks."""
        body = parsed(MachineBody, call.body())
        place = resource_id(self._frame.gateway, call, KIND)
        existing = self._frame.fleet.machines.find(place)
        location = location_of(call, normalized_location(body.location), existing.location if existing else None)
        if existing is not None:
            return await self._changed(call, existing, body.properties, body.tags or {})
        storage = body.properties.storage_profile
        if storage is None or storage.os_disk is None:
            raise missing("vm.storageProfile.osDisk")
        machine = Machine(
            id=place,
            name=call["name"],
            location=location,
            tenant_id=call.caller.tenant_id,
            created=self._frame.clock.now(),
            tags=body.tags or {},
            power="stopped",
            system="",
            system_settings=_disk_settings(storage.os_disk),
            settings=_settings(body.properties),
            zones=body.zones or [],
            identity=body.identity,
        )
        wanted = [storage.os_disk, *(storage.data_disks or ())]
        for one in wanted:
            self._attachable(machine, one)
        system = await self._disk(call, machine, storage.os_disk, "OsDisk")
        data = [(await self._disk(call, machine, one, "DataDisk"), one) for one in storage.data_disks or ()]
        await self._bootable([system, *(disk for disk, _ in data)])
        machine.system, machine.data = system.id, [(disk.id, _data_settings(one)) for disk, one in data]
        for disk in (system, *(disk for disk, _ in data)):
            self._frame.fleet.disks.put(disk)
            disk.managed_by = machine.id
        machine.state = "Creating"
        self._frame.fleet.machines.put(machine)

        async def effect() -> None:
            machine.state, machine.power = "Succeeded", "running"

        return await self._frame.begun(
            call,
            MACHINE_OPERATIONS,
            machine,
            effect,
            lambda: self._shown(machine),
            accepted=201,
            shown=lambda: self._shown(machine),
        )

    def _attachable(self, machine: Machine, wanted: MachineDisk) -> None:
        """Raises ArmRefusedError: the disk that is to be attached must exist, here, and be nobody else's."""
        if wanted.create_option != "Attach":
            return
        disk_id = wanted.managed_disk.id if wanted.managed_disk else None
        if not disk_id:
            raise missing("disk.managedDisk.id")
        disk = self._frame.fleet.disks.find(disk_id)
        if disk is None:
            raise ArmRefusedError(404, "NotFound", f"Disk {disk_id} was not found.")
        if disk.location != machine.location:
            raise invalid("disk.managedDisk.id", f"Disk {disk.name} is not in region '{machine.location}'.")
        if disk.managed_by and disk.managed_by.lower() != machine.id.lower():
            raise ArmRefusedError(
                409,
                "ConflictingUserInput",
                f"Disk '{disk.id}' cannot be attached as the disk is already owned by VM '{disk.managed_by}'.",
            )
        if disk.access_until > self._frame.clock.now():
            raise ArmRefusedError(
                409,
                "ConflictingUserInput",
                f"Disk '{disk.name}' cannot be attached: it has an active shared access signature.",
            )

    async def _disk(self, call: ArmCall, machine: Machine, wanted: MachineDisk, suffix: str) -> Disk:
        """The disk to attach, or a new one."""
        managed = wanted.managed_disk
        if wanted.create_option == "Attach" and managed and managed.id:
            found = self._frame.fleet.disks.find(managed.id)
            if found is not None:
                return found
        name = wanted.name or f"{machine.name}_{suffix}_1_{uuid.uuid4().hex}"
        disk = Disk(
            id=f"{machine.id.split('/providers/')[0]}/providers/{DISKS}/{name}",
            name=name,
            location=machine.location,
            tenant_id=machine.tenant_id,
            created=self._frame.clock.now(),
            plain=new_data_key(),
            sku=(managed and managed.storage_account_type) or "Standard_LRS",
            size=wanted.disk_size_gb or DEFAULT_SIZE,
            creation={"createOption": wanted.create_option},
        )
        reference = managed.disk_encryption_set if managed else None
        if reference is not None:
            encryption = DiskEncryption.model_validate({"diskEncryptionSetId": reference.id})
            await self._changes.apply(disk, *self._changes.wanted(call, disk, encryption))
        return disk

    async def _bootable(self, disks: Iterable[Disk]) -> None:
        """Raises ArmRefusedError unless the key of every disk can be used now."""
        for disk in disks:
            await self._frame.protection.unwrapped(disk)

    async def patch(self, call: ArmCall) -> Answer:
        """Other tags or data disks."""
        machine, body = self._found(call), parsed(MachineUpdate, call.body())
        return await self._changed(call, machine, body.properties, body.tags)

    async def _changed(
        self, call: ArmCall, machine: Machine, properties: MachineProperties | None, tags: dict[str, str] | None
    ) -> Answer:
        self._frame.free(machine)
        machine.tags = tags if tags is not None else machine.tags
        storage = properties.storage_profile if properties else None
        if storage is not None and storage.data_disks is not None:
            await self._attached(call, machine, [one for one in storage.data_disks if not one.to_be_detached])
        if properties is not None:
            machine.settings |= _settings(properties)
        return Answer(200, self._shown(machine))

    async def _attached(self, call: ArmCall, machine: Machine, wanted: Sequence[DataDisk]) -> None:
        """The list of data disks replaces the old one."""
        for one in wanted:
            self._attachable(machine, one)
        disks = [(await self._disk(call, machine, one, "DataDisk"), one) for one in wanted]
        if machine.power == "running":
            await self._bootable(disk for disk, _ in disks)
        for disk_id, _ in machine.data:
            old = self._frame.fleet.disks.find(disk_id)
            if old is not None:
                old.managed_by = None
        for disk, _ in disks:
            self._frame.fleet.disks.put(disk)
            disk.managed_by = machine.id
        machine.data = [(disk.id, _data_settings(one)) for disk, one in disks]

    async def delete(self, call: ArmCall) -> Answer:
        """Delete it; its disks stay, but those that were to go with it. 204 if it was not there."""
        machine = self._frame.fleet.machines.find(resource_id(self._frame.gateway, call, KIND))
        if machine is None:
            return Answer(204)
        self._frame.free(machine)

        async def effect() -> None:
            options = dict([(machine.system, machine.system_settings), *machine.data])
            for disk_id, settings in options.items():
                disk = self._frame.fleet.disks.find(disk_id)
                if disk is None:
                    continue
                disk.managed_by = None
                if settings.get("deleteOption") == "Delete":
                    self._frame.fleet.disks.remove(disk)
            self._frame.fleet.machines.remove(machine)

        return await self._frame.begun(call, MACHINE_OPERATIONS, machine, effect, lambda: None)

    def _power(self, verb: str) -> Callable[[ArmCall], Awaitable[Answer]]:
        async def act(call: ArmCall) -> Answer:
            machine = self._found(call)
            self._frame.free(machine)

            async def effect() -> None:
                if verb in {"start", "restart"}:
                    disks = [self._frame.fleet.disks.find(one) for one in machine.disks]
                    await self._bootable(one for one in disks if one is not None)
                states: dict[str, Power] = {"powerOff": "stopped", "deallocate": "deallocated"}
                machine.power = states.get(verb, "running")

            return await self._frame.begun(call, MACHINE_OPERATIONS, machine, effect, lambda: None)

        return act


def _settings(properties: MachineProperties) -> dict[str, Any]:
    """What is kept as it was sent."""
    read_only = {"storageProfile", "provisioningState", "vmId", "timeCreated", "instanceView"}
    kept = {name: value for name, value in properties.sent().items() if name not in read_only}
    storage = properties.storage_profile
    if storage is not None and storage.image_reference is not None:
        kept["imageReference"] = storage.image_reference
    return kept


def _disk_settings(disk: MachineDisk) -> dict[str, Any]:
    sent = disk.sent()
    return {name: value for name, value in sent.items() if name not in {"managedDisk", "name", "toBeDetached"}}


def _data_settings(disk: DataDisk) -> dict[str, Any]:
    return {**_disk_settings(disk), "lun": disk.lun}
