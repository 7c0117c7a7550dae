"""What to tell an organization about its vault and key. Nothing is refused for it, and only what is visible is judged."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from cmk_operator.core.identifiers.region import region_of

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.core.access.state import KeyAttributes

EXPIRES_SOON: Final = timedelta(days=30)
WANTED_RETENTION_DAYS: Final = 90


def region_advice(organization_region: str | None, vault_region: str | None) -> str | None:
    """The sentence for a vault elsewhere; None if both are in one region, or one of them is not known.

    Source: the requirements, "we recommend using the same region"; Key Vault answers with its region in x-ms-keyvault-region.
    """
    if organization_region is None or vault_region is None or region_of(organization_region) == region_of(vault_region):
        return None
    return (
        f"the vault is in {region_of(vault_region)}, and the organization's data in {region_of(organization_region)}, so that an outage "
        "of either region stops the data: the customer's administrator should use a vault in the same region"
    )


def key_advice(attributes: KeyAttributes, now: datetime) -> tuple[str, ...]:
    """The sentences for what a read of the key shows: protection against loss, and an end that is near.

    Source: the requirements, best practices; Key Vault REST, DeletionRecoveryLevel.
    """
    return tuple(found for found in (_recovery(attributes), _retention(attributes), _expiry(attributes, now)) if found)


def _recovery(attributes: KeyAttributes) -> str | None:
    level = attributes.recovery_level
    if not level or ("Recoverable" in level and "Purgeable" not in level):
        return None
    if "Recoverable" not in level:
        return (
            "the vault has no soft delete, so a deleted key and the data under it are lost at once: the customer's administrator "
            "should enable soft delete and purge protection"
        )
    return (
        "the vault has no purge protection, so whoever may purge can destroy the key and the data under it: the customer's "
        "administrator should enable purge protection, and give purge rights to top-level administrators alone"
    )


def _retention(attributes: KeyAttributes) -> str | None:
    days = attributes.recoverable_days
    if days is None or days >= WANTED_RETENTION_DAYS or "Recoverable" not in attributes.recovery_level:
        return None
    return (
        f"a deleted key can be recovered for only {days} days: the customer's administrator should keep a backup of the key, or move "
        f"it to a vault with {WANTED_RETENTION_DAYS} days"
    )


def _expiry(attributes: KeyAttributes, now: datetime) -> str | None:
    ends = attributes.expires
    if ends is None or not now < ends < now + EXPIRES_SOON:
        return None
    return (
        f"the key version expires on {ends.astimezone(UTC).date().isoformat()} and wraps no new data keys from then on: the "
        "customer's administrator should create a new version before"
    )
