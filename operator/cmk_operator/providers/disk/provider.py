"""The providers of disk encryption sets and of disks, which share one list of each for each subscription."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.faults.azure_failure import Stage
from cmk_operator.providers.arm import ArmProvider
from cmk_operator.providers.disk import disk, encryption_set
from cmk_operator.providers.disk.compute import DiskEncryptionSets, Disks
from cmk_operator.providers.disk.kind import DISK, DISK_ENCRYPTION_SET
from cmk_operator.providers.disk.options import DiskPlacement, read_creation, read_placement
from cmk_operator.providers.listing import Listing
from cmk_operator.providers.protocol import Applied, Plan, Started, Target, is_readable

if TYPE_CHECKING:
    from azure.mgmt.compute.types import DiskUpdate

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.encryption.protection import KeyChoice
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.providers.protocol import Provider

_ABSENT: Final = "resourcenotfound"
_ROLE: Final = (
    "Disk Encryption Set Operator for Managed Disks, and for disks one with Microsoft.Compute/disks/read and write, such as Virtual "
    "Machine Contributor"
)


@dataclass(frozen=True, slots=True)
class ComputeLists:
    """The lists that both providers read."""

    session: AzureSession
    sets: Listing[encryption_set.Facts]
    disks: Listing[disk.Facts]
    max_age: float

    async def set_or_none(self, chain: IdentityChain, set_id: ArmId, max_age: float) -> encryption_set.Facts | None:
        """The set; None if it does not exist. Raises what an Azure call raises."""
        try:
            return await self.sets.get(chain, set_id, max_age)
        except EXPECTED_FAILURES as error:
            if failure_of(error).code.lower() == _ABSENT:
                return None
            raise

    async def disks_of(self, chain: IdentityChain, set_id: ArmId) -> encryption_set.DisksOfSet | AzureFailure:
        """The disks that use the set, from the subscription's list, or why the list cannot be read."""
        try:
            found = await self.disks.all(chain, set_id.subscription_id, self.max_age)
            unread = await self.disks.unread(chain, set_id.subscription_id, self.max_age)
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        on_it = (
            disk.protected_disk(one) for one in found.values() if set_id in {one.detail.encryption_set, one.detail.secure_set}
        )
        odd = (one.detail.id.text for one in found.values() if not is_readable(one))
        return encryption_set.DisksOfSet(tuple(on_it), (*odd, *unread))


def judge_compute_failure(failure: AzureFailure, name: str) -> Fault:
    """As `judge_arm_failure`. An error of Entra that the disk service passes on explains more than the service's own code."""
    by_entra = failure.stage is Stage.SERVICE and bool(failure.entra_codes)
    return judge_arm_failure(replace(failure, code="") if by_entra else failure, name, _ROLE)


class DiskEncryptionSetProvider(ArmProvider):
    """Creates disk encryption sets on a customer's key, or puts existing ones on it."""

    kind = DISK_ENCRYPTION_SET
    read_options = staticmethod(read_creation)

    def __init__(self, lists: ComputeLists) -> None:
        super().__init__(lists.session)
        self._lists = lists
        self._requests = DiskEncryptionSets(lists.session)

    async def observe(self, chain: IdentityChain, target: Target, *, max_age: float) -> encryption_set.Facts | AzureFailure:
        """The set with the disks that use it. A set that does not exist is a fact (`ABSENT`), not a failure."""
        try:
            found = await self._lists.set_or_none(chain, target.id, max_age)
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        if found is None:
            return encryption_set.ABSENT
        return encryption_set.with_disks(found, target.id, await self._lists.disks_of(chain, target.id))

    def plan(
        self, target: Target, want: KeyChoice, seen: encryption_set.Facts
    ) -> Plan[encryption_set.SetRequest] | Fault | None:
        """See `encryption_set.plan_set`."""
        return encryption_set.plan_set(target, want, seen)

    def plan_revert(self, target: Target, seen: encryption_set.Facts) -> Plan[encryption_set.SetRequest] | Fault | None:
        """See `encryption_set.plan_set_revert`."""
        return encryption_set.plan_set_revert(target, seen)

    async def apply(
        self, chain: IdentityChain, target: Target, plan: Plan[encryption_set.SetRequest]
    ) -> Applied[encryption_set.DiskEncryptionSetDetail] | Started | AzureFailure:
        """PUT or PATCH the set."""
        try:
            sent = await self._requests.send(chain, target.id, plan)
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        if isinstance(sent, Started):
            return sent
        facts = self._lists.sets.remember(chain, target.id, sent.facts)
        disks = await self._lists.disks_of(chain, target.id)
        return Applied(encryption_set.with_disks(facts, target.id, disks), sent.request_id)

    def judge(self, failure: AzureFailure, name: str) -> Fault:
        """See `judge_compute_failure`."""
        return judge_compute_failure(failure, name)


class DiskProvider(ArmProvider):
    """Puts disks on a disk encryption set that is on the customer's key, and back on a Microsoft-managed key."""

    kind = DISK
    read_options = staticmethod(read_placement)

    def __init__(self, lists: ComputeLists) -> None:
        super().__init__(lists.session)
        self._lists = lists
        self._requests = Disks(lists.session)

    async def observe(self, chain: IdentityChain, target: Target, *, max_age: float) -> disk.Facts | AzureFailure:
        """The disk with the key of the set that it uses, and with the set that its manifest names, if the tenant allows that."""
        try:
            found = await self._lists.disks.get(chain, target.id, max_age)
            return await self._with_sets(chain, target, found, max_age)
        except EXPECTED_FAILURES as error:
            return failure_of(error)

    async def _with_sets(self, chain: IdentityChain, target: Target, found: disk.Facts, max_age: float) -> disk.Facts:
        placement, on_set = target.options, found.detail.encryption_set or found.detail.secure_set
        present = await self._lists.set_or_none(chain, on_set, max_age) if on_set is not None else None
        if not isinstance(placement, DiskPlacement) or not target.in_scope(placement.disk_encryption_set):
            return disk.with_sets(found, present, None)
        wanted = placement.disk_encryption_set
        same = on_set == wanted
        return disk.with_sets(found, present, present if same else await self._lists.set_or_none(chain, wanted, max_age))

    def plan(self, target: Target, want: KeyChoice, seen: disk.Facts) -> Plan[DiskUpdate] | Fault | None:
        """See `disk.plan_disk`."""
        return disk.plan_disk(target, want, seen)

    def plan_revert(self, target: Target, seen: disk.Facts) -> Plan[DiskUpdate] | Fault | None:
        """See `disk.plan_disk_revert`."""
        return disk.plan_disk_revert(target, seen)

    async def apply(
        self, chain: IdentityChain, target: Target, plan: Plan[DiskUpdate]
    ) -> Applied[disk.DiskDetail] | Started | AzureFailure:
        """PATCH the disk."""
        try:
            sent = await self._requests.update(chain, target.id, plan.body, plan.purpose)
            if isinstance(sent, Started):
                return sent
            found = self._lists.disks.remember(chain, target.id, sent.facts)
            return Applied(await self._with_sets(chain, target, found, self._lists.max_age), sent.request_id)
        except EXPECTED_FAILURES as error:
            return failure_of(error)

    def judge(self, failure: AzureFailure, name: str) -> Fault:
        """See `judge_compute_failure`."""
        return judge_compute_failure(failure, name)


def make_providers(session: AzureSession, list_max_age: float) -> tuple[Provider[Any, Any], ...]:
    """Both providers, on the same lists."""
    lists = ComputeLists(
        session,
        Listing(session, DiskEncryptionSets(session), list_max_age, is_readable),
        Listing(session, Disks(session), list_max_age, is_readable),
        list_max_age,
    )
    return DiskEncryptionSetProvider(lists), DiskProvider(lists)
