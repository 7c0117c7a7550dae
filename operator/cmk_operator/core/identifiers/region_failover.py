"""Regions from which Key Vault fails over to another region, as Microsoft documents them on the day of `READ_ON`.

Sources: Microsoft Learn, "Reliability in Azure Key Vault" (2025-08-22: a vault is replicated to the paired region of the same
geography; Brazil South, Brazil Southeast, West US 3 and regions without a pair are not); "List of Azure regions" (2025-09-23);
"Azure region pairs and nonpaired regions", which names the pairs of Azure Government; Azure in China, "Azure Key Vault
availability and redundancy" (China North and Qatar Central are not).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.identifiers.region import region_of

if TYPE_CHECKING:
    from collections.abc import Mapping

READ_ON: Final = "2026-11-30"
"""When the table was last compared with its sources."""
SOURCE: Final = "https://learn.microsoft.com/azure/reliability/reliability-key-vault"
DURING: Final = (
    "Microsoft alone starts such a failover, hours after the loss or later. Until the region is back, the vault is then read-only: "
    "wrapping and unwrapping work, but no key can be created, rotated, changed or deleted; a private endpoint may need 20 minutes more"
)


@dataclass(frozen=True, slots=True)
class RegionFailover:
    """The documented failover of one region: the region that takes over, or why none does."""

    pair: str | None
    why: str = ""
    """Why no region takes over; the end of a sentence."""


_SYMMETRIC: Final = (
    "australiacentral australiacentral2",
    "australiaeast australiasoutheast",
    "canadacentral canadaeast",
    "centralindia southindia",
    "centralus eastus2",
    "eastasia southeastasia",
    "eastus westus",
    "francecentral francesouth",
    "germanynorth germanywestcentral",
    "japaneast japanwest",
    "koreacentral koreasouth",
    "northcentralus southcentralus",
    "northeurope westeurope",
    "norwayeast norwaywest",
    "southafricanorth southafricawest",
    "swedencentral swedensouth",
    "switzerlandnorth switzerlandwest",
    "uaecentral uaenorth",
    "uksouth ukwest",
    "westcentralus westus2",
    "usgovtexas usgovvirginia",
)
_ONE_WAY: Final = MappingProxyType({"westindia": "southindia", "usgovarizona": "usgovtexas"})
_EXCLUDED: Final = MappingProxyType(
    {
        "brazilsouth": "its pair is in another geography, so Key Vault does not replicate it",
        "brazilsoutheast": "Key Vault does not replicate it to its pair",
        "westus3": "Key Vault does not replicate it to its pair",
    }
)
_UNPAIRED: Final = (
    "austriaeast belgiumcentral chilecentral denmarkeast indonesiacentral israelcentral italynorth malaysiawest mexicocentral "
    "newzealandnorth polandcentral qatarcentral spaincentral"
)
_CHINA: Final = "chinaeast chinaeast2 chinaeast3 chinanorth chinanorth2 chinanorth3"


def _table() -> Mapping[str, RegionFailover]:
    table = {region: RegionFailover(pair) for region, pair in _ONE_WAY.items()}
    for one, other in map(str.split, _SYMMETRIC):
        table |= {one: RegionFailover(other), other: RegionFailover(one)}
    table |= {region: RegionFailover(None, why) for region, why in _EXCLUDED.items()}
    table |= {region: RegionFailover(None, "it has no paired region") for region in _UNPAIRED.split()}
    china = "a failover of Key Vault is not assured in China's regions, whose documentation excludes China North"
    table |= {region: RegionFailover(None, china) for region in _CHINA.split()}
    return MappingProxyType(table)


REGIONS: Final[Mapping[str, RegionFailover]] = _table()
"""By region. A region that is missing is unknown, such as those of the Department of Defense, for which no source names a pair."""


def without_failover() -> tuple[str, ...]:
    """The regions without a failover, in alphabetical order."""
    return tuple(sorted(region for region, found in REGIONS.items() if found.pair is None))


def failover_of(region: str) -> RegionFailover | None:
    """The documented failover of a region; None if the table does not list the region."""
    return REGIONS.get(region_of(region))


def warning_of(region: str) -> str | None:
    """A warning for whoever creates a vault in the region; None if another region takes over."""
    found = failover_of(region)
    if found is None:
        return (
            f"Whether Key Vault fails over from {region_of(region)} to another region is not known (table of {READ_ON}): check "
            f"{SOURCE} before you create the vault."
        )
    if found.pair is not None:
        return None
    return (
        f"Key Vault does not fail over from {region_of(region)} to another region: {found.why}. While that region is down, "
        f"everything on the key is down. Choose a paired region, see {SOURCE}."
    )
