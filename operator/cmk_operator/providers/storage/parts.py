"""The data of a storage account that a customer's key on the account does not protect.

Sources: Azure Storage, "Customer-managed keys for Azure Storage encryption", queues and tables; "Encryption scopes for Blob storage".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.azure.management import text_of
from cmk_operator.core.encryption.coverage import MICROSOFT_MANAGED, Part
from cmk_operator.core.encryption.protection import named
from cmk_operator.core.identifiers.arm_id import ArmId

if TYPE_CHECKING:
    from azure.mgmt.storage.models import EncryptionScope, StorageAccount

ACCOUNTS: Final = "Microsoft.Storage/storageAccounts"
SCOPES: Final = "encryption scopes"
_WITH_QUEUES: Final = frozenset({"storage", "storagev2"})
"""Kinds of accounts that have queues and tables, unless their performance tier is Premium."""
_UNDER_ACCOUNT_KEY: Final = "account"
_ONLY_AT_CREATION: Final = (
    "Azure sets this only when an account is created: the provider's administrator must create another account with keyType Account for "
    "queue and table and move the data there; nothing is to be done if the account has no {}"
)
_SCOPE: Final = (
    "the provider's administrator must put the scope on the key of the account, or move its blobs out of it: a scope has a key of "
    "its own, and the operator does not change it"
)


def parts_of_account(account: StorageAccount) -> tuple[Part, ...]:
    """Queues and tables, if the account was created so that a key of their service protects them; an absent field says so."""
    sku = text_of(account.sku.name if account.sku is not None else None).lower()
    kind = text_of(account.kind).lower()
    if (kind and kind not in _WITH_QUEUES) or sku.startswith("premium"):
        return ()
    encryption = account.properties.encryption if account.properties is not None else None
    services = encryption.services if encryption is not None else None
    types = {
        "queues": services.queue.key_type if services is not None and services.queue is not None else None,
        "tables": services.table.key_type if services is not None and services.table is not None else None,
    }
    return tuple(
        Part(name, protected_by=MICROSOFT_MANAGED, remedy=_ONLY_AT_CREATION.format(name))
        for name, key_type in types.items()
        if text_of(key_type).lower() != _UNDER_ACCOUNT_KEY
    )


def part_of_scope(scope: EncryptionScope) -> Part:
    """One encryption scope, also a disabled one: its blobs are still there. Enum values are case-insensitive.

    Raises TypeError for one without properties, because that would read as protection by a Microsoft-managed key.
    """
    properties = scope.encryption_scope_properties
    if properties is None:
        raise TypeError("properties")
    name = f"encryption scope {ArmId(text_of(scope.id)).name}"
    if text_of(properties.source).lower() == "microsoft.storage":
        return Part(name, protected_by=MICROSOFT_MANAGED, remedy=_SCOPE)
    key = properties.key_vault_properties
    uri = text_of(key.key_uri if key is not None else None)
    return Part.under(name, named(uri), _SCOPE) if uri else Part(name, remedy=_SCOPE)
