"""The options of disk encryption sets and of disks in a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmk_operator.core.identifiers.arm_id import ArmId

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class DiskEncryptionSetCreation:
    """How to create a disk encryption set that does not exist."""

    location: str
    encryption_type: str


@dataclass(frozen=True, slots=True)
class DiskPlacement:
    """The disk encryption set that a disk must use."""

    disk_encryption_set: ArmId


def read_creation(part: Mapping[str, Any]) -> DiskEncryptionSetCreation | None:
    """Read `spec.diskEncryptionSet`; None when it is absent."""
    return DiskEncryptionSetCreation(part["location"], part["encryptionType"]) if part else None


def read_placement(part: Mapping[str, Any]) -> DiskPlacement | None:
    """Read `spec.disk`; None when it is absent."""
    return DiskPlacement(ArmId(part["diskEncryptionSetId"])) if part else None
