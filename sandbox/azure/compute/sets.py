"""Disk encryption sets (Microsoft.Compute/diskEncryptionSets)."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.assigned_identities import IdentitySettings
from sandbox.azure.arm.bodies import parsed
from sandbox.azure.arm.resources import authorize_assignment, location_of, page, resource_id, serve
from sandbox.azure.arm.subscriptions import normalized_location
from sandbox.azure.compute.bodies import SetBody, SetUpdate
from sandbox.azure.compute.frame import DISK_OPERATIONS
from sandbox.azure.compute.model import CONFIDENTIAL, EncryptionSet, KeyUrl, SetSettings
from sandbox.azure.compute.protection import invalid, missing
from sandbox.azure.compute.views import set_shown
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer

if TYPE_CHECKING:
    from sandbox.azure.arm.bodies import IdentityBlock
    from sandbox.azure.arm.gateway import ArmCall
    from sandbox.azure.compute.bodies import ActiveKey, SetProperties, SetUpdateProperties
    from sandbox.azure.compute.frame import ComputeFrame

KIND = "Microsoft.Compute/diskEncryptionSets"
CLEARED = "None"  # the value that takes a federatedClientId away


class SetOperations:
    """The operations on disk encryption sets."""

    def __init__(self, frame: ComputeFrame) -> None:
        self._frame = frame
        one = serve(frame.gateway, KIND, self)
        frame.gateway.add("GET", f"{one}/associatedResources", self.associated, kind=KIND, action=f"{KIND}/read")

    def _shown(self, encryption_set: EncryptionSet) -> dict[str, Any]:
        return set_shown(encryption_set, self._frame.identities)

    def _found(self, call: ArmCall) -> EncryptionSet:
        return self._frame.found(call, self._frame.fleet.sets, KIND)

    async def list(self, call: ArmCall) -> Answer:
        """Of a subscription or a group, in pages."""
        return page(call, self._frame.fleet.sets.under(call.scope), self._shown, self._frame.timings.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """One set: 200 with its fields whether the key can be reached or not."""
        return Answer(json=self._shown(self._found(call)))

    async def associated(self, call: ArmCall) -> Answer:
        """The ids of the resources that the set protects."""
        disks = self._frame.fleet.disks_of(self._found(call))
        return page(call, disks, lambda one: one.id, self._frame.timings.list_page_size)

    async def put(self, call: ArmCall) -> Answer:
        """Create a set, or replace what it is made of."""
        body = parsed(SetBody, call.body())
        place = resource_id(self._frame.gateway, call, KIND)
        existing = self._frame.fleet.sets.find(place)
        location = location_of(call, normalized_location(body.location), existing.location if existing else None)
        authorize_assignment(self._frame.gateway, call, body.identity, KIND)
        if existing is not None:
            return await self._changed(call, existing, body.identity, body.properties, body.tags or {}, whole=True)
        if body.identity is None:
            raise missing("encryptionSet.identity")
        kind = body.properties.encryption_type or "EncryptionAtRestWithCustomerKey"
        nothing = SetSettings(None, auto=False, federated_client_id=None, identity=IdentitySettings())
        created = EncryptionSet(
            id=place,
            name=call["name"],
            location=location,
            tenant_id=call.caller.tenant_id,
            created=self._frame.clock.now(),
            tags=body.tags or {},
            encryption_type=kind,
            settings=nothing,
        )
        settings = self._settings(created, body.identity, body.properties, whole=True)
        if settings.key is None:
            raise missing("encryptionSet.activeKey")
        await self._frame.protection.proven(created, settings)
        created.settings, created.source_vault = settings, _source_vault(body.properties.active_key)
        created.state = "Creating"
        self._frame.fleet.sets.put(created)
        self._frame.protection.watch(created)

        async def effect() -> None:
            await self._ended(created, settings)

        return await self._frame.begun(
            call,
            DISK_OPERATIONS,
            created,
            effect,
            lambda: self._shown(created),
            shown=lambda: self._shown(created),
            failed=lambda: _fail(created),
        )

    async def patch(self, call: ArmCall) -> Answer:
        """Change what was sent."""
        encryption_set, body = self._found(call), parsed(SetUpdate, call.body())
        authorize_assignment(self._frame.gateway, call, body.identity, KIND)
        return await self._changed(call, encryption_set, body.identity, body.properties, body.tags, whole=False)

    async def _changed(
        self,
        call: ArmCall,
        encryption_set: EncryptionSet,
        identity: IdentityBlock | None,
        properties: SetProperties | SetUpdateProperties | None,
        tags: dict[str, str] | None,
        *,
        whole: bool,
    ) -> Answer:
        self._frame.free(encryption_set)
        if properties and properties.encryption_type not in {None, encryption_set.encryption_type}:
            raise ArmRefusedError(409, "PropertyChangeNotAllowed", "Changing property 'encryptionType' is not allowed.")
        settings = self._settings(encryption_set, identity, properties, whole=whole)
        await self._frame.protection.proven(encryption_set, settings)
        if settings.key != encryption_set.settings.key:
            self._all_stopped(encryption_set)
            for disk in self._frame.fleet.disks_of(encryption_set):
                await self._frame.protection.unwrapped(disk)
        encryption_set.state = "Updating"

        async def effect() -> None:
            await self._ended(encryption_set, settings)
            encryption_set.tags = tags if tags is not None else encryption_set.tags
            if properties is not None and properties.active_key is not None:
                encryption_set.source_vault = _source_vault(properties.active_key)

        def shown() -> dict[str, Any]:
            return self._shown(encryption_set)

        return await self._frame.begun(
            call, DISK_OPERATIONS, encryption_set, effect, shown, shown=shown, failed=lambda: _fail(encryption_set)
        )

    async def _ended(self, encryption_set: EncryptionSet, settings: SetSettings) -> None:
        """The key is asked once more: it may have been lost since the operation began."""
        try:
            await self._frame.protection.proven(encryption_set, settings)
        except ArmRefusedError:
            encryption_set.state = "Failed"
            raise
        encryption_set.state = "Succeeded"
        self._frame.protection.rotate(encryption_set, settings, self._frame.clock.now())

    def _all_stopped(self, encryption_set: EncryptionSet) -> None:
        """Confidential machines take a new key only while all of the set are stopped; none takes it otherwise."""
        if encryption_set.encryption_type != CONFIDENTIAL:
            return
        machines = [self._frame.fleet.machine_of(disk) for disk in self._frame.fleet.disks_of(encryption_set)]
        running = sorted({one.name for one in machines if one is not None and one.power != "deallocated"})
        if running:
            raise ArmRefusedError(
                409,
                "OperationNotAllowed",
                f"The key of disk encryption set '{encryption_set.name}' cannot be changed while confidential virtual machines use it. It "
                f"requires the virtual machine to be deallocated: {', '.join(running)}.",
            )

    def _settings(
        self,
        encryption_set: EncryptionSet,
        identity: IdentityBlock | None,
        properties: SetProperties | SetUpdateProperties | None,
        *,
        whole: bool,
    ) -> SetSettings:
        """What the set becomes; a PUT (`whole`) takes away what is not sent, a PATCH does not."""
        settings = encryption_set.settings
        if identity is not None:
            settings = replace(settings, identity=self._identity(encryption_set, identity, whole=whole))
        if properties is None:
            return settings
        if properties.active_key is not None:
            settings = replace(settings, key=self._key(encryption_set, properties.active_key))
        auto, client = properties.rotation_to_latest_key_version_enabled, properties.federated_client_id
        if auto is not None or whole:
            settings = replace(settings, auto=bool(auto))
        if client is not None or whole:
            settings = replace(settings, federated_client_id=_client(client))
        if settings.federated_client_id and not settings.identity.user_assigned:
            raise invalid("encryptionSet.federatedClientId", "It requires a user-assigned identity.")
        return settings

    def _identity(self, encryption_set: EncryptionSet, block: IdentityBlock, *, whole: bool) -> IdentitySettings:
        """Compute spells the pair with a space, and takes no other spelling."""
        if "SystemAssigned,UserAssigned".lower() == block.type.lower():
            raise ArmRefusedError(
                400,
                "InvalidIdentityValues",
                "The identity values are invalid. Allowed types are 'None', 'SystemAssigned', 'UserAssigned' and "
                "'SystemAssigned, UserAssigned'.",
            )
        before = encryption_set.settings.identity
        return self._frame.identities.changed(encryption_set.id, encryption_set.tenant_id, before, block, whole=whole)

    @staticmethod
    def _key(encryption_set: EncryptionSet, sent: ActiveKey) -> KeyUrl:
        key = KeyUrl.parsed(sent.key_url)
        if key is None:
            raise invalid("encryptionSet.activeKey.keyUrl", f"'{sent.key_url}' is not the URL of a key with its version.")
        if sent.source_vault is not None:
            parts = sent.source_vault.id.lower().split("/")
            if parts[2:3] != encryption_set.id.lower().split("/")[2:3]:
                raise invalid(
                    "encryptionSet.activeKey.sourceVault",
                    "It cannot be used if the key vault is not in the subscription of the disk encryption set.",
                )
            if parts[-1] != key.vault:
                raise invalid("encryptionSet.activeKey.sourceVault", "It is not the vault of the key.")
        return key

    async def delete(self, call: ArmCall) -> Answer:
        """Delete it, unless it is in use; 204 if it was not there."""
        encryption_set = self._frame.fleet.sets.find(resource_id(self._frame.gateway, call, KIND))
        if encryption_set is None:
            return Answer(204)
        self._frame.free(encryption_set)
        disks = self._frame.fleet.disks_of(encryption_set)
        if disks:
            raise ArmRefusedError(
                409,
                "OperationNotAllowed",
                f"Disk encryption set '{encryption_set.name}' cannot be deleted because it is in use by {len(disks)} resource(s), such "
                f"as '{disks[0].id}'.",
            )

        async def effect() -> None:
            self._frame.fleet.sets.remove(encryption_set)

        return await self._frame.begun(call, DISK_OPERATIONS, encryption_set, effect, lambda: None)


def _source_vault(key: ActiveKey | None) -> str | None:
    return key.source_vault.id if key is not None and key.source_vault is not None else None


def _client(sent: str | None) -> str | None:
    """The application, or None when the word `None` (or a PUT without it) takes it away."""
    if sent is None or sent == CLEARED:
        return None
    try:
        uuid.UUID(sent)
    except ValueError as error:
        raise invalid("encryptionSet.federatedClientId", f"'{sent}' is not the id of an application.") from error
    return sent


def _fail(encryption_set: EncryptionSet) -> None:
    """Its last operation has failed, and another may be tried."""
    encryption_set.state = "Failed"
