"""What the operations on sets, disks and machines share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sandbox.azure.arm.identities import not_found
from sandbox.azure.arm.operations import OperationKind
from sandbox.azure.arm.resources import resource_id
from sandbox.azure.clock import with_offset
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.azure.arm.assigned_identities import AssignedIdentities
    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.arm.operations import Operations
    from sandbox.azure.clock import Clock
    from sandbox.azure.compute.model import Fleet, Resource, Shelf
    from sandbox.azure.compute.protection import SetProtection
    from sandbox.azure.timings import Timings

DISK_OPERATIONS = OperationKind("Microsoft.Compute", "DiskOperations", "DiskOperations", with_offset)
MACHINE_OPERATIONS = OperationKind("Microsoft.Compute", "operations", "operations", with_offset)
KindT = TypeVar("KindT", bound="Resource")


@dataclass(frozen=True)
class ComputeFrame:
    """Everything that the three groups of operations need."""

    gateway: Gateway
    operations: Operations
    fleet: Fleet
    protection: SetProtection
    identities: AssignedIdentities
    clock: Clock
    timings: Timings

    def found(self, call: ArmCall, shelf: Shelf[KindT], kind: str) -> KindT:
        """The resource that the path names. Raises ArmRefusedError 404."""
        resource = shelf.find(resource_id(self.gateway, call, kind))
        if resource is None:
            raise not_found(kind, call["name"], call["group"])
        return resource

    def free(self, resource: Resource) -> None:
        """Raises ArmRefusedError 409 while another operation works on the resource."""
        if self.operations.under_way(resource.id) is not None:
            raise ArmRefusedError(
                409,
                "Conflict",
                "The request failed due to conflict with a concurrent request. To resolve it, please refer to "
                "https://aka.ms/activitylog to get more details on the conflicting requests.",
            )

    async def begun(
        self,
        call: ArmCall,
        kind: OperationKind,
        resource: Resource,
        effect: Callable[[], Awaitable[None]],
        result: Callable[[], dict[str, Any] | None],
        *,
        accepted: int = 202,
        shown: Callable[[], dict[str, Any]] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> Answer:
        """The effect takes place at the operation's end; at once, with 200, if operations take no time at all.

        Some operations are accepted with another status than 202, and with the resource in the body (`shown`).
        """
        if self.timings.compute_operation_seconds <= 0:
            await effect()
            body = result()
            return Answer(200) if body is None else Answer(200, body)
        answer = self.operations.started(
            call,
            kind,
            resource.location,
            seconds=self.timings.compute_operation_seconds,
            result=result,
            effect=effect,
            resource_id=resource.id,
            failed=failed,
        )
        return Answer(accepted, shown() if shown else None, headers=answer.headers)
