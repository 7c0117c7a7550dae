"""Collects the facts about a key's prerequisites from the probe, the inventory and the last read of the vault."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.core.prerequisites.check import PrerequisiteFacts
from cmk_operator.core.prerequisites.key_users import KeyUsers, RegionalUser, SizedUsers
from cmk_operator.providers.registry import KINDS

if TYPE_CHECKING:
    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.core.access.state import KeyProbe
    from cmk_operator.core.kinds.key_use import KeyUse
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.reconcile.key.reading import KeyReading
    from cmk_operator.reconcile.references import KeyPath


def prerequisite_facts_of(
    inventory: Inventory, reading: KeyReading, key: CustomerManagedKey, path: KeyPath, probe: KeyProbe
) -> PrerequisiteFacts:
    """The facts as known now; makes no request."""
    return PrerequisiteFacts(
        probe=probe,
        key=path.key_uri,
        application_client_id=path.chain.application_client_id,
        vault=reading.vaults.last(path.vault),
        users=key_users(inventory, key),
        known_region=key.status.vault_region if key.status.observed_generation == key.metadata.generation else None,
        requires_failover=key.spec.region_failover == "Require",
    )


def key_users(inventory: Inventory, key: CustomerManagedKey) -> KeyUsers:
    """The manifests that name the key, grouped by what they require of it."""
    namespace = key.metadata.namespace or ""
    sized: defaultdict[KeyUse, list[str]] = defaultdict(list)
    regional: list[RegionalUser] = []
    for name, resource_type in inventory.types_on(namespace, key.metadata.name):
        kind = KINDS.get(resource_type)
        if kind is None:
            continue
        if kind.key_use.sizes is not None:
            sized[kind.key_use].append(name)
        if kind.shares_vault_region is not None:
            resource = inventory.get(EncryptedResource, name, namespace)
            location = resource.spec.region if resource is not None else None
            regional.append(RegionalUser(name, location, kind.shares_vault_region))
    return KeyUsers(tuple(SizedUsers(use, tuple(names)) for use, names in sized.items()), tuple(regional))
