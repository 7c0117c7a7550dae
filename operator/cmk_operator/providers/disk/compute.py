"""Disk encryption sets and disks through azure-mgmt-compute. It lists whole subscriptions and does not wait for operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmk_operator.azure.management import FirstAnswer, entries_of, typed_answer, whole
from cmk_operator.providers.arm import started
from cmk_operator.providers.disk import disk, encryption_set
from cmk_operator.providers.disk.sdk import COMPUTE
from cmk_operator.providers.protocol import Applied, Started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from azure.mgmt.compute.models import Disk, DiskEncryptionSet

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.providers.protocol import Plan


class DiskEncryptionSets:
    """The calls for disk encryption sets; each raises what an Azure call raises."""

    def __init__(self, session: AzureSession) -> None:
        self._session = session

    async def read(self, chain: IdentityChain, target: ArmId) -> encryption_set.Facts:
        """GET one set."""
        client = await self._session.management(COMPUTE, chain, target.subscription_id)
        with typed_answer():
            return encryption_set.read_set(whole(await client.disk_encryption_sets.get(target.resource_group, target.name)))

    async def pages(
        self, chain: IdentityChain, subscription_id: str
    ) -> AsyncIterator[list[tuple[str, encryption_set.Facts | None]]]:
        """GET all sets of the subscription."""
        client = await self._session.management(COMPUTE, chain, subscription_id)
        from azure.mgmt.compute.models import DiskEncryptionSet

        async for page in entries_of(
            client.disk_encryption_sets.list, lambda one: encryption_set.read_set(DiskEncryptionSet(one))
        ):
            yield page

    async def send(
        self, chain: IdentityChain, target: ArmId, plan: Plan[encryption_set.SetRequest]
    ) -> Applied[encryption_set.DiskEncryptionSetDetail] | Started:
        """PUT or PATCH one set; returns its state after the change, or the operation that Azure started."""
        client = await self._session.management(COMPUTE, chain, target.subscription_id)
        from azure.mgmt.compute.models import DiskEncryptionSet, DiskEncryptionSetUpdate

        first: FirstAnswer[DiskEncryptionSet] = FirstAnswer()
        sets, named = client.disk_encryption_sets, (target.resource_group, target.name)
        with typed_answer():
            if isinstance(plan.request, encryption_set.CreateSet):
                await sets.begin_create_or_update(*named, DiskEncryptionSet(plan.request.body), polling=first)
            else:
                await sets.begin_update(*named, DiskEncryptionSetUpdate(plan.request.body), polling=first)
            operation = started(first, plan.purpose)
            return operation or Applied(encryption_set.read_set(first.resource()), first.request_id)


class Disks:
    """The calls for disks; each raises what an Azure call raises."""

    def __init__(self, session: AzureSession) -> None:
        self._session = session

    async def read(self, chain: IdentityChain, target: ArmId) -> disk.Facts:
        """GET one disk."""
        client = await self._session.management(COMPUTE, chain, target.subscription_id)
        with typed_answer():
            return disk.read_disk(whole(await client.disks.get(target.resource_group, target.name)))

    async def pages(self, chain: IdentityChain, subscription_id: str) -> AsyncIterator[list[tuple[str, disk.Facts | None]]]:
        """GET all disks of the subscription."""
        client = await self._session.management(COMPUTE, chain, subscription_id)
        from azure.mgmt.compute.models import Disk

        async for page in entries_of(client.disks.list, lambda one: disk.read_disk(Disk(one))):
            yield page

    async def update(
        self, chain: IdentityChain, target: ArmId, body: Mapping[str, Any], purpose: str
    ) -> Applied[disk.DiskDetail] | Started:
        """PATCH one disk; returns its state after the change, or the operation that Azure started."""
        client = await self._session.management(COMPUTE, chain, target.subscription_id)
        from azure.mgmt.compute.models import DiskUpdate

        first: FirstAnswer[Disk] = FirstAnswer()
        parameters = DiskUpdate(body)
        with typed_answer():
            await client.disks.begin_update(target.resource_group, target.name, parameters, polling=first)
            operation = started(first, purpose)
            return operation or Applied(disk.read_disk(first.resource()), first.request_id)
