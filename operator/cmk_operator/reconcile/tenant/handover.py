"""Builds the hand-over steps in status: the same that `kubectl cmk handoff` writes without options."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant, HandoverStep
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.handover import handover_of
from cmk_operator.core.handover.request import Choices, Handover
from cmk_operator.core.handover.steps import steps
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.providers.registry import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cmk_operator.api.federated_identity import FederatedIdentity
    from cmk_operator.kubernetes.inventory import Inventory

MOST_KEYS: Final = 8
"""Most keys whose steps a status holds; the steps for one key take about two kilobytes."""
_LISTED_ONE_BY_ONE: Final = frozenset(
    name for name, kind in KINDS.items() if kind.shares_vault_region is not None or kind.timing.own_application
)
"""Kinds of which each resource matters to the customer: for its region, or for an application of its own."""


def handover_steps(inventory: Inventory, tenant: CustomerTenant, identity: FederatedIdentity) -> tuple[HandoverStep, ...]:
    """The steps for this tenant's keys."""
    references = inventory.referring_to(ObjectReference(CustomerTenant.plural, "", tenant.metadata.name))
    found = (
        inventory.get(CustomerManagedKey, one.name, one.namespace)
        for one in sorted(references, key=str)
        if one.plural == CustomerManagedKey.plural
    )
    keys = [key for key in found if key is not None]
    handover = handover_of(tenant, identity, keys, _representatives(inventory, keys))
    if handover is None:
        return ()
    shortened, left_out = _shortened(handover)
    shown = [
        HandoverStep(title=step.title, who=step.who, why=step.why, command=step.command or None)
        for step in steps(shortened, Choices())
    ]
    if left_out:
        shown.append(
            HandoverStep(
                title=f"Repeat these steps for {left_out} more keys",
                who="the provider's platform engineer",
                why=f"This status has no room for all keys. kubectl cmk handoff {tenant.metadata.name} writes the steps for every key.",
            )
        )
    return tuple(shown)


def _representatives(inventory: Inventory, keys: list[CustomerManagedKey]) -> Iterator[EncryptedResource]:
    """One resource of each kind on each key, because the steps depend on the kinds and not on the number of resources."""
    for key in keys:
        namespace, found = key.metadata.namespace or "", set[str]()
        for name, kind in inventory.types_on(namespace, key.metadata.name):
            if kind not in _LISTED_ONE_BY_ONE and kind in found:
                continue
            found.add(kind)
            resource = inventory.get(EncryptedResource, name, namespace)
            if resource is not None:
                yield resource


def _shortened(handover: Handover) -> tuple[Handover, int]:
    vaults, room, left_out = [], MOST_KEYS, 0
    for vault in handover.vaults:
        kept = vault.keys[: max(room, 0)]
        room -= len(kept)
        left_out += len(vault.keys) - len(kept)
        if kept:
            vaults.append(replace(vault, keys=kept))
    return replace(handover, vaults=tuple(vaults)), left_out
