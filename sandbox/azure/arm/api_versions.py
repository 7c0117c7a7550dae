"""The api-versions that each resource type answers to; any other is refused, as is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.azure.arm.subscriptions import LOCATIONS
from sandbox.azure.errors import ArmRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.azure.exchange import Exchange

_STORAGE = (
    "2017-06-01 2017-10-01 2018-02-01 2018-07-01 2018-11-01 2019-04-01 2019-06-01 2021-01-01 2021-02-01 2021-04-01 2021-05-01 "
    "2021-06-01 2021-08-01 2021-09-01 2022-05-01 2022-09-01 2023-01-01 2023-04-01 2023-05-01 2024-01-01 2025-01-01 2025-06-01 "
    "2025-08-01 2026-04-01 2026-09-01"
)
_VAULTS = "2016-10-01 2018-02-14 2019-09-01 2021-10-01 2022-07-01 2022-11-01 2023-02-01 2023-07-01 2024-11-01 2025-05-01 2026-02-01 2026-05-15"
_RESOURCES = "2018-05-01 2019-10-01 2020-06-01 2020-10-01 2021-01-01 2021-04-01 2022-09-01 2023-07-01 2024-03-01 2024-07-01 2024-11-01 2025-04-01"
_SUBSCRIPTIONS = "2016-06-01 2019-06-01 2019-11-01 2020-01-01 2021-01-01 2022-12-01"
_DISKS = (
    "2019-07-01 2019-11-01 2020-05-01 2020-06-30 2020-09-30 2020-12-01 2021-04-01 2021-08-01 2021-12-01 2022-03-02 2022-07-02 "
    "2023-01-02 2023-04-02 2023-10-02 2024-03-02 2025-01-02 2026-03-02"
)
_MACHINES = (
    "2019-07-01 2019-12-01 2020-06-01 2020-12-01 2021-03-01 2021-04-01 2021-07-01 2021-11-01 2022-03-01 2022-08-01 2022-11-01 "
    "2023-03-01 2023-07-01 2023-09-01 2024-03-01 2024-07-01 2024-11-01 2025-04-01 2025-11-01 2026-04-01"
)
_ROLES = (
    "2014-04-01-preview 2014-07-01-preview 2014-10-01-preview 2015-05-01-preview 2015-06-01 2015-07-01 2016-07-01 2017-05-01 "
    "2017-09-01 2017-10-01-preview 2018-01-01-preview 2018-07-01 2018-09-01-preview 2020-04-01-preview 2020-10-01-preview "
    "2022-04-01 2022-05-01-preview"
)
_SQL = (
    "2015-05-01-preview 2017-03-01-preview 2017-10-01-preview 2018-06-01-preview 2019-06-01-preview 2020-02-02-preview "
    "2020-08-01-preview 2020-11-01-preview 2021-02-01-preview 2021-05-01-preview 2021-08-01-preview 2021-11-01 "
    "2021-11-01-preview 2022-02-01-preview 2022-05-01-preview 2022-08-01-preview 2022-11-01-preview 2023-02-01-preview 2023-05-01-preview 2023-08-01-preview "
    "2023-08-01 2024-05-01-preview 2024-11-01-preview 2025-01-01"
)

API_VERSIONS = {
    "microsoft.sql": _SQL,
    "microsoft.compute": _DISKS + " " + _MACHINES,
    "microsoft.compute/diskencryptionsets": _DISKS,
    "microsoft.compute/disks": _DISKS,
    "microsoft.compute/virtualmachines": _MACHINES,
    "microsoft.storage": _STORAGE,
    "microsoft.keyvault": _VAULTS,
    "microsoft.keyvault/vaults/keys": _VAULTS.partition("2018-02-14 ")[2],
    "microsoft.managedidentity": "2018-11-30 2023-01-31 2024-11-30 2025-01-31-preview 2025-05-31-preview",
    "microsoft.managedidentity/userassignedidentities/federatedidentitycredentials": (
        "2023-01-31 2024-11-30 2025-01-31-preview 2025-05-31-preview"
    ),
    "microsoft.authorization": _ROLES,
    "microsoft.authorization/locks": "2015-01-01 2015-05-01-preview 2015-06-01 2016-09-01 2017-04-01 2020-05-01",
    "microsoft.insights": "2017-05-01-preview 2021-05-01-preview",
    "microsoft.operationalinsights": "2020-08-01 2021-06-01 2022-10-01 2023-09-01 2025-02-01 2025-07-01",
    "microsoft.resources/subscriptions": _SUBSCRIPTIONS,
    "microsoft.subscription": "2020-09-01 2021-10-01",
    "microsoft.resources/tenants": _SUBSCRIPTIONS,
    "microsoft.resources/resources": f"2015-11-01 {_RESOURCES}",
    "microsoft.resources": _RESOURCES,
}

OLDEST_AFTER_THE_END = {"microsoft.keyvault": "2026-02-01"}
"""Namespaces whose api-versions before one end at a moment (https://learn.microsoft.com/azure/key-vault/general/migrate-api-version)."""


def supported_versions(kind: str, *, ended: bool) -> list[str]:
    """The api-versions of a resource type, oldest first: its own, or those of the type or namespace above it.

    `ended`: whether the moment has passed at which the older ones of Key Vault end.
    """
    parts = kind.lower().split("/")
    known = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    versions = next(API_VERSIONS[one] for one in known if one in API_VERSIONS).split()
    oldest = OLDEST_AFTER_THE_END.get(parts[0], "") if ended else ""
    return [one for one in versions if one >= oldest]


def known_type(kind: str) -> bool:
    """Whether the simulated Azure has this resource type's namespace."""
    return kind.lower().split("/")[0] in {one.split("/")[0] for one in API_VERSIONS}


def check_api_version(exchange: Exchange, kind: str, versions: Sequence[str], location: str = "westeurope") -> None:
    """Raises ArmRefusedError 400 or 404 unless the request names one of these api-versions of the resource type.

    Which of the three refusals comes depends on who owns the type: Resource Manager itself, a provider that lies in no region (the
    words are in Azure/acs-engine#4037), or one that lies in regions (Azure/azure-cli#18483).
    """
    wanted = exchange.query.get("api-version")
    if not wanted:
        raise ArmRefusedError(
            400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests."
        )
    namespace, _, kinds = kind.partition("/")
    if wanted.lower() in versions:
        return
    if namespace.lower() in {"microsoft.resources", "microsoft.subscription"}:
        raise ArmRefusedError(
            400,
            "InvalidApiVersionParameter",
            f"The api-version '{wanted}' is invalid. The supported versions are '{','.join(reversed(versions))}'.",
        )
    if namespace.lower() == "microsoft.authorization":
        raise ArmRefusedError(
            404,
            "InvalidResourceType",
            f"The resource type '{kinds}' could not be found in the namespace '{namespace}' for api version '{wanted}'. The supported "
            f"api-versions are '{','.join(versions)}'.",
        )
    raise ArmRefusedError(
        400,
        "NoRegisteredProviderFound",
        f"No registered resource provider found for location '{location}' and API version '{wanted}' for type '{kinds}'. The supported "
        f"api-versions are '{', '.join(versions)}'. The supported locations are '{', '.join(LOCATIONS)}'.",
    )
