"""What the verdicts on a key's prerequisites rest on, from the inventory and the last read of the vault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.region import region_of
from cmk_operator.core.prerequisites.check import PrerequisiteFacts
from cmk_operator.core.prerequisites.key_users import DiskSet, KeyUsers

if TYPE_CHECKING:
    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.core.access.state import KeyProbe
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.reconcile.context import Context
    from cmk_operator.reconcile.references import KeyPath

_SQL: Final = frozenset({"microsoft.sql/servers", "microsoft.sql/servers/databases"})
_DISK_SET: Final = "microsoft.compute/diskencryptionsets"


def guard_of(context: Context, key: CustomerManagedKey, path: KeyPath, probe: KeyProbe) -> PrerequisiteFacts:
    """The facts as they are known now; nothing is asked."""
    return PrerequisiteFacts(
        probe=probe,
        key=path.key_uri,
        application_client_id=path.chain.application_client_id,
        vault=context.vaults.last(path.vault),
        users=key_users(context.inventory, key),
    )


def key_users(inventory: Inventory, key: CustomerManagedKey) -> KeyUsers:
    """The manifests that name the key, sorted by what they need of it."""
    namespace = key.metadata.namespace or ""
    typed = [(name, ArmId(target).resource_type) for name, target in inventory.targets_on(namespace, key.metadata.name)]
    return KeyUsers(
        sql=tuple(name for name, kind in typed if kind in _SQL),
        disk_sets=tuple(_disk_set(inventory, namespace, name) for name, kind in typed if kind == _DISK_SET),
    )


def _disk_set(inventory: Inventory, namespace: str, name: str) -> DiskSet:
    resource = inventory.get(EncryptedResource, name, namespace)
    creation = resource.spec.disk_encryption_set if resource is not None else None
    return DiskSet(name, region_of(creation.location) if creation is not None else None)
