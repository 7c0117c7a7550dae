"""The description of a kind of resource, without how it is read and written; each folder of `providers` declares its own."""

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
    """The identifier of a resource outside Resource Manager."""

    entry: str
    """The entry of the kind's field in a manifest's spec that names the resource."""
    allowed_in: str
    """The field of a CustomerTenant's spec that lists the resources which are allowed."""
    read: Callable[[str], ResourceId]
    judge: Callable[[TenantGrant, ResourceId], Fault | None]
    """Why the tenant does not allow a resource, and who must act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Everything that the engine must know about a kind; a field has a default only if the default is safe."""

    resource_type: str
    """`namespace/type` in lower case."""
    shown: str
    """The kind for people, such as `StorageAccount`."""
    timing: ServiceTiming
    """How long the service keeps working without its key."""
    rights: RequiredActions | RightsNotVisible
    """The actions that the operator needs."""
    key_use: KeyUse
    """What the kind uses its key for; kinds of one service share it."""
    off_another_key: str
    """Who must do what before a resource of the kind can leave a key that the operator cannot read; a part of a sentence."""
    shares_vault_region: str | None = None
    """The resources in the plural, if they accept only a key from a vault in their own region; None: any vault."""
    rates: ServiceRates | None = None
    """The limits of its resource provider; None: it publishes none in addition to Resource Manager's."""
    manifest_field: str | None = None
    """The field of a manifest's spec for this kind only; None: the kind needs no field of its own."""
    identifier: OwnIdentifier | None = None
    """The identifier of the resource, if it has one of its own; None: `resourceId` names it."""
    reported_by: str = "Azure"
    """The service that reports the key of the resource, for messages."""
    platform_key: str = "a Microsoft-managed key"
    """What protects the resource while no customer's key does, for messages."""
    has_platform_key: bool = True
    """Whether a resource of the kind can be without a customer's key."""
    never_covered: str = ""
    """Data of the resource that no customer's key ever protects, for messages; empty if there is none."""
