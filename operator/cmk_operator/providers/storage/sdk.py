"""Imports azure-mgmt-storage when the first storage account is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.azure.management import Fields, Sdk

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.mgmt.storage.aio import StorageManagementClient


def _load() -> Callable[..., StorageManagementClient]:
    from azure.mgmt.storage.aio import StorageManagementClient

    return StorageManagementClient


_FIELDS: Final[Fields] = {
    "id": None,
    "identity": None,
    "kind": None,
    "sku": {"name": None},
    "properties": {
        "encryption": {
            "keySource": None,
            # Without the time of the last rotation, which is another for each account: accounts that are alike are read once.
            "keyvaultproperties": {
                "keyvaulturi": None,
                "keyname": None,
                "keyversion": None,
                "currentVersionedKeyIdentifier": None,
            },
            "identity": None,
            "services": {"queue": {"keyType": None}, "table": {"keyType": None}},
        },
        # Those of an encryption scope.
        "source": None,
        "state": None,
        "keyVaultProperties": {"keyUri": None},
    },
}
STORAGE: Final[Sdk[StorageManagementClient]] = Sdk("azure.mgmt.storage", _load, _FIELDS)
