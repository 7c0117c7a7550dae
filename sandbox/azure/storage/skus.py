"""Which kind of account has which sku, and which of both may change.

https://learn.microsoft.com/azure/storage/common/storage-account-overview#types-of-storage-accounts
https://learn.microsoft.com/azure/storage/common/storage-account-upgrade
Azure/azure-rest-api-specs, StorageAccountUpdateParameters: "the SKU name cannot be updated to Standard_ZRS, Premium_LRS or
Premium_ZRS, nor can accounts of those SKU names be updated to any other value"; of `kind`: "only StorageV2 value supported".
Words: hashicorp/terraform-provider-azurerm#8089, microsoft/CromwellOnAzure#159, MicrosoftDocs/azure-docs#96815.
"""

from __future__ import annotations

from sandbox.azure.errors import ArmRefusedError

_LOCAL_AND_GEO = frozenset({"Standard_LRS", "Standard_GRS", "Standard_RAGRS"})
_ZONES_AND_GEO = frozenset({"Standard_GZRS", "Standard_RAGZRS"})
_PREMIUM = frozenset({"Premium_LRS", "Premium_ZRS"})
_PROVISIONED = frozenset(
    {"StandardV2_LRS", "StandardV2_GRS", "StandardV2_ZRS", "StandardV2_GZRS", "PremiumV2_LRS", "PremiumV2_ZRS"}
)
SKUS = {
    "Storage": _LOCAL_AND_GEO | {"Premium_LRS"},
    "BlobStorage": _LOCAL_AND_GEO,
    "StorageV2": _LOCAL_AND_GEO | _ZONES_AND_GEO | {"Standard_ZRS", "Premium_LRS"},
    "FileStorage": _PREMIUM | _PROVISIONED,
    "BlockBlobStorage": _PREMIUM,
}
"""The skus of each kind."""
UPGRADED = "StorageV2"
"""What accounts of the two older kinds can become, and never go back."""
OLDER = frozenset({"Storage", "BlobStorage"})


def invalid(parameters: str) -> ArmRefusedError:
    """The storage resource provider's 400 for values it does not take."""
    return ArmRefusedError(
        400, "InvalidValuesForRequestParameters", f"Values for request parameters are invalid: {parameters}."
    )


def check_new(kind: str, sku: str) -> None:
    """Raises ArmRefusedError 400 where no account of this kind has this sku."""
    if sku not in SKUS[kind]:
        raise invalid("kind, sku")


def kind_after(present: str, wanted: str | None) -> str:
    """The kind that an account has after a change. Raises ArmRefusedError 400."""
    if wanted is None or wanted == present:
        return present
    if wanted != UPGRADED or present not in OLDER:
        raise invalid("kind")
    return wanted


def sku_after(kind: str, present: str, wanted: str | None) -> str:
    """The sku that an account has after a change; zones come and go by a conversion only. Raises ArmRefusedError 400."""
    if wanted is None or wanted == present:
        return present
    if wanted not in SKUS[kind] or not any({present, wanted} <= one for one in (_LOCAL_AND_GEO, _ZONES_AND_GEO)):
        raise invalid("sku")
    return wanted
