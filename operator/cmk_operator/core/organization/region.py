"""What to say of a vault in another region than the organization's data. It is advice: nothing is refused for it."""

from __future__ import annotations

from cmk_operator.core.identifiers.region import region_of


def region_advice(organization_region: str | None, vault_region: str | None) -> str | None:
    """The sentence for a vault elsewhere; None if both are in one region, or one of them is not known.

    Source: the requirements, "we recommend using the same region"; Key Vault answers with its region in x-ms-keyvault-region.
    """
    if organization_region is None or vault_region is None or region_of(organization_region) == region_of(vault_region):
        return None
    return (
        f"the vault is in {region_of(vault_region)}, and the organization's data in {region_of(organization_region)}: each region's "
        "outage alone stops the data, and each unwrap crosses regions; a vault in the same region is recommended"
    )
