"""The compute resource provider, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.azure.compute.disks import DiskEncryptionChanges, DiskOperations
from sandbox.azure.compute.frame import DISK_OPERATIONS, MACHINE_OPERATIONS
from sandbox.azure.compute.machines import MachineOperations
from sandbox.azure.compute.sets import SetOperations

if TYPE_CHECKING:
    from sandbox.azure.compute.frame import ComputeFrame


def serve(frame: ComputeFrame) -> None:
    """Answer for everything of Microsoft.Compute that there is."""
    frame.operations.serve(DISK_OPERATIONS)
    frame.operations.serve(MACHINE_OPERATIONS)
    changes = DiskEncryptionChanges(frame)
    SetOperations(frame)
    DiskOperations(frame, changes)
    MachineOperations(frame, changes)
