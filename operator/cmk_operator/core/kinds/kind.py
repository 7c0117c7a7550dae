"""What a kind of resource is, apart from how it is read and written; each folder of `providers` describes its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_operator.core.authority import TenantGrant
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.identifiers.resource_id import ResourceId
    from cmk_operator.core.kinds.call_rates import ServiceRates
    from cmk_operator.core.kinds.key_use import KeyUse
    from cmk_operator.core.kinds.required_actions import RequiredActions, RightsNotVisible
    from cmk_operator.core.kinds.service_timing import ServiceTiming


@dataclass(frozen=True, slots=True)
class OwnIdentifier:
    """How a resource is named that Resource Manager does not know."""

    entry: str
    """The entry of the kind's field in a manifest's spec that names the resource."""
    allowed_in: str
    """The field of a CustomerTenant's spec that lists the resources which are allowed."""
    read: Callable[[str], ResourceId]
    judge: Callable[[TenantGrant, ResourceId], Fault | None]
    """Why the tenant does not allow a resource, and who must act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """All that the engine must know of a kind. Nothing that a wrong default could hide has one."""

    resource_type: str
    """`namespace/type` in lower case."""
    shown: str
    """The kind for people, such as `StorageAccount`."""
    timing: ServiceTiming
    """How long it goes on without its key."""
    rights: RequiredActions | RightsNotVisible
    """What the operator must be allowed to do."""
    key_use: KeyUse
    """What the kind uses its key for; kinds of one service share it."""
    shares_vault_region: str | None = None
    """For a kind that takes only a key from a vault in its own region: such resources in the plural; None: any vault will do."""
    rates: ServiceRates | None = None
    """Limits of its resource provider; None: it publishes none beyond those of Resource Manager."""
    manifest_field: str | None = None
    """Field of a manifest's spec that is for this kind alone; None: there is nothing to say beyond the rest."""
    identifier: OwnIdentifier | None = None
    """Of a resource that its own field names; None: `resourceId` does."""
    keeper: str = "Azure"
    """Who keeps the resource, and reports what it is encrypted with."""
    platform_key: str = "a key of Microsoft"
    """What protects it while no customer's key does."""
