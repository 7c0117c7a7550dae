"""Subscriptions, their resource groups, and the regions."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from sandbox.azure.errors import ArmRefusedError

LOCATIONS = {
    "westeurope": "West Europe",
    "northeurope": "North Europe",
    "eastus": "East US",
    "westus2": "West US 2",
    "westus3": "West US 3",
    "germanywestcentral": "Germany West Central",
    "swedencentral": "Sweden Central",
    "uksouth": "UK South",
}


@dataclass
class ResourceGroup:
    """A resource group."""

    name: str
    location: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Subscription:
    """A subscription of one tenant."""

    id: str
    name: str
    tenant_id: str
    alias: str = ""
    """By which it was asked for; in lower case."""
    groups: dict[str, ResourceGroup] = field(default_factory=dict)

    def group(self, name: str) -> ResourceGroup:
        """By name in any case. Raises ArmRefusedError: ResourceGroupNotFound."""
        found = self.groups.get(name.lower())
        if found is None:
            raise ArmRefusedError(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")
        return found


class Subscriptions:
    """All subscriptions of all tenants."""

    def __init__(self) -> None:
        self._all: dict[str, Subscription] = {}

    def add(self, name: str, tenant_id: str, alias: str = "") -> Subscription:
        """A new subscription."""
        subscription = Subscription(str(uuid.uuid4()), name, tenant_id, alias.lower())
        self._all[subscription.id] = subscription
        return subscription

    def find(self, subscription_id: str) -> Subscription | None:
        """By id."""
        return self._all.get(subscription_id.lower())

    def __getitem__(self, subscription_id: str) -> Subscription:
        """By id; the gateway has checked that it exists."""
        return self._all[subscription_id.lower()]

    def of_tenant(self, tenant_id: str) -> list[Subscription]:
        """The subscriptions of a tenant."""
        return [one for one in self._all.values() if one.tenant_id == tenant_id]


def normalized_location(location: str) -> str:
    """`West Europe` and `westeurope` are one. Raises ArmRefusedError: LocationNotAvailableForResourceType."""
    name = location.replace(" ", "").lower()
    if name not in LOCATIONS:
        raise ArmRefusedError(
            400,
            "LocationNotAvailableForResourceType",
            f"The provided location '{location}' is not available for resource type. List of available regions for the resource type is "
            f"'{','.join(LOCATIONS)}'.",
        )
    return name
