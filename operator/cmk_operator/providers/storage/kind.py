"""What is particular to storage accounts.

Sources: Azure Storage, "Customer-managed keys for account encryption"; Azure role-based access control, "Resource provider operations".
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from cmk_operator.core.encryption.key_use import KeyUse
from cmk_operator.core.encryption.required_actions import RequiredActions
from cmk_operator.core.encryption.service_timing import ServiceTiming
from cmk_operator.core.kind import Kind

STORAGE_ACCOUNT: Final = Kind(
    resource_type="microsoft.storage/storageaccounts",
    shown="StorageAccount",
    timing=ServiceTiming(
        "Azure Storage", timedelta(minutes=10), "reads and writes of its data are refused with 403", "it heals by itself"
    ),
    rights=RequiredActions(("Microsoft.Storage/storageAccounts/write",)),
    key_use=KeyUse("storage accounts"),
)
KINDS: Final = (STORAGE_ACCOUNT,)
