"""The constants of disk encryption sets and of disks.

Sources: Azure Virtual Machines, "Server-side encryption of Azure Disk Storage"; Azure role-based access control, "Resource provider
operations".
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from cmk_operator.core.kinds.key_use import KeyUse
from cmk_operator.core.kinds.kind import Kind
from cmk_operator.core.kinds.required_actions import RequiredActions
from cmk_operator.core.kinds.service_timing import ServiceTiming

_TIMING: Final = ServiceTiming(
    "managed disks",
    timedelta(hours=1),
    "its reads and writes fail; virtual machines that use it shut down before that, Azure names no time, and do not start",
    "the provider's administrator must start the virtual machines again",
    timedelta(hours=1),
)
_POLLS: Final = ("Microsoft.Compute/locations/DiskOperations/read",)
_KEY_USE: Final = KeyUse(
    "disks",
    outside="temporary disks, and the guest state of a confidential virtual machine that was not created for it",
)
DISK_ENCRYPTION_SET: Final = Kind(
    resource_type="microsoft.compute/diskencryptionsets",
    shown="DiskEncryptionSet",
    timing=_TIMING,
    rights=RequiredActions(
        ("Microsoft.Compute/diskEncryptionSets/write",),
        reads=("Microsoft.Compute/diskEncryptionSets/read",),
        polls=_POLLS,
        shows=("Microsoft.Compute/disks/read",),
    ),
    key_use=_KEY_USE,
    off_another_key="the provider's administrator must put the set on a key in a Key Vault, or the platform engineer name another set",
    shares_vault_region="disk encryption sets",
    manifest_field="diskEncryptionSet",
    has_platform_key=False,
)
DISK: Final = Kind(
    resource_type="microsoft.compute/disks",
    shown="Disk",
    timing=_TIMING,
    # A disk has no identity; its set has one.
    rights=RequiredActions(
        ("Microsoft.Compute/disks/write",),
        attaches_identity=False,
        reads=("Microsoft.Compute/disks/read", "Microsoft.Compute/diskEncryptionSets/read"),
        polls=_POLLS,
    ),
    key_use=_KEY_USE,
    off_another_key="the provider's administrator must put the disk on a Microsoft-managed key, or its set on a key in a Key Vault",
    manifest_field="disk",
)
KINDS: Final = (DISK_ENCRYPTION_SET, DISK)
