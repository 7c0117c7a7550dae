"""Imports azure-mgmt-compute when the first disk or disk encryption set is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.azure.management import Sdk

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.mgmt.compute.aio import ComputeManagementClient


def _load() -> Callable[..., ComputeManagementClient]:
    from azure.mgmt.compute.aio import ComputeManagementClient

    return ComputeManagementClient


COMPUTE: Final[Sdk[ComputeManagementClient]] = Sdk("azure.mgmt.compute", _load)
