"""Imports azure-mgmt-sql when the first SQL server or database is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.azure.management import Sdk

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.mgmt.sql.aio import SqlManagementClient


def _load() -> Callable[..., SqlManagementClient]:
    from azure.mgmt.sql.aio import SqlManagementClient

    return SqlManagementClient


SQL: Final[Sdk[SqlManagementClient]] = Sdk("azure.mgmt.sql", _load)
