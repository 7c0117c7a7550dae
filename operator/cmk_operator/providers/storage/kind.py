"""The constants of storage accounts.

Sources: Azure Storage, "Customer-managed keys for account encryption"; Azure role-based access control, "Resource provider operations".
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from cmk_operator.core.kinds.call_rates import Rate, ServiceRates
from cmk_operator.core.kinds.key_use import KeyUse
from cmk_operator.core.kinds.kind import Kind
from cmk_operator.core.kinds.required_actions import RequiredActions
from cmk_operator.core.kinds.service_timing import ServiceTiming

STORAGE_RATES: Final = ServiceRates(
    namespace="microsoft.storage",
    listed="storageaccounts",
    reads=Rate(700, 300),
    lists=Rate(80, 300),
    writes=Rate(1100, 3600),
    writes_at_once=Rate(1, 1 / 9.5),
)
"""Source: "Storage resource provider limits" (800 reads and 100 lists per 5 minutes, 1,200 writes per hour, 10 per second)."""
STORAGE_ACCOUNT: Final = Kind(
    resource_type="microsoft.storage/storageaccounts",
    shown="StorageAccount",
    timing=ServiceTiming(
        "Azure Storage", timedelta(minutes=10), "reads and writes of its data are refused with 403", "it heals by itself"
    ),
    rights=RequiredActions(
        ("Microsoft.Storage/storageAccounts/write",),
        reads=("Microsoft.Storage/storageAccounts/read",),
        shows=("Microsoft.Storage/storageAccounts/encryptionScopes/read",),
    ),
    key_use=KeyUse(
        "storage accounts",
        outside="queues and tables of an account that was not created for it, and blobs in encryption scopes with a key of their own",
    ),
    off_another_key="the provider's administrator must put the account on Microsoft-managed keys, or on a key in a Key Vault",
    rates=STORAGE_RATES,
)
KINDS: Final = (STORAGE_ACCOUNT,)
