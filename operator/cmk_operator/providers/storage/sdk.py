"""Imports azure-mgmt-storage when the first storage account is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.azure.management import Sdk

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.mgmt.storage.aio import StorageManagementClient


def _load() -> Callable[..., StorageManagementClient]:
    from azure.mgmt.storage.aio import StorageManagementClient

    return StorageManagementClient


STORAGE: Final[Sdk[StorageManagementClient]] = Sdk("azure.mgmt.storage", _load)
