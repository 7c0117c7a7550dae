"""The data of a storage account that a customer's key on the account does not protect.

Sources: Azure Storage, "Customer-managed keys for Azure Storage encryption", queues and tables; "Encryption scopes for Blob storage".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.azure.management import text_of
from cmk_operator.core.encryption.coverage import MICROSOFT_MANAGED, Part
from cmk_operator.core.encryption.protection import MicrosoftManaged, OnAnotherKey, named
from cmk_operator.core.encryption.reported import Reported, ShapeError, protection_of
from cmk_operator.core.identifiers.arm_id import ArmId

if TYPE_CHECKING:
    from azure.mgmt.storage.models import EncryptionScope, StorageAccount

    from cmk_operator.core.encryption.protection import Protection

ACCOUNTS: Final = "Microsoft.Storage/storageAccounts"
SCOPES: Final = "encryption scopes"
_WITH_QUEUES: Final = frozenset({"storage", "storagev2"})
"""Kinds of accounts that have queues and tables, unless their performance tier is Premium."""
_UNDER_ACCOUNT_KEY: Final = "account"
_ONLY_AT_CREATION: Final = (
    "Azure sets this only when an account is created: the provider's administrator must create another account with keyType Account for "
    "queue and table and move the data there; nothing is to be done if the account has no {}"
)
_UNREADABLE: Final = "Azure's answer about them cannot be read: the provider's administrator must check the account in Azure"
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
    try:
        types = _key_types(Reported(account))
    except ShapeError:
        return (Part("queues and tables", remedy=_UNREADABLE),)
    return tuple(
        Part(name, protected_by=MICROSOFT_MANAGED, remedy=_ONLY_AT_CREATION.format(name))
        for name, key_type in types.items()
        if key_type.lower() != _UNDER_ACCOUNT_KEY
    )


def _key_types(account: Reported) -> dict[str, str]:
    """`keyType` of queues and tables; empty where the answer does not have it. Raises `ShapeError`."""
    encryption = account.inner("properties").inner("encryption")
    services = encryption.optional("services")
    queue, table = (services.optional(one) if services is not None else None for one in ("queue", "table"))
    return {
        "queues": queue.text("keyType") if queue is not None else "",
        "tables": table.text("keyType") if table is not None else "",
    }


def part_of_scope(scope: EncryptionScope) -> Part:
    """One encryption scope, also a disabled one: its blobs are still there. Raises `ShapeError` for one without an id."""
    name = f"encryption scope {ArmId(Reported(scope).required('id')).name}"
    return Part.under(name, protection_of(scope, _scope_protection), _SCOPE)


def _scope_protection(scope: Reported) -> Protection:
    """What protects a scope; enum values are case-insensitive."""
    properties = scope.inner("properties")
    source = properties.required("source")
    if source.lower() == "microsoft.storage":
        return MicrosoftManaged()
    if source.lower() != "microsoft.keyvault":
        return OnAnotherKey(f"source {source}")
    return named(properties.inner("keyVaultProperties").required("keyUri"))
