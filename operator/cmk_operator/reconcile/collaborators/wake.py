"""Enqueues the dependents of an object, and recognises a requested pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.api.model import RECONCILE_REQUESTED_AT

if TYPE_CHECKING:
    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.reconcile.collaborators.cluster import Cluster

KEYS_FIRST: Final = 5.0
"""Seconds by which a resource is delayed if its key was never reconciled: that reconcile enqueues all resources of the key.

They then run one after the other and share the reads of their key.
"""


def delay_behind_key(inventory: Inventory, reference: ObjectReference) -> float:
    """Seconds until an object is enqueued: none, except for a resource whose key was never reconciled."""
    return KEYS_FIRST if inventory.waits_for_key(reference) else 0.0


def wake_below(cluster: Cluster, reference: ObjectReference, *, recursive: bool) -> None:
    """Enqueue the objects that refer to an object, and with `recursive` everything that refers to those in turn.

    A changed spec of an identity or tenant can change what every resource below it may or must do.
    """
    for referrer in cluster.inventory.referring_to(reference):
        cluster.wake(referrer, delay_behind_key(cluster.inventory, referrer))
        if recursive:
            wake_below(cluster, referrer, recursive=True)


def is_requested(resource: CustomerManagedKey | EncryptedResource) -> bool:
    """Whether the manifest changed, or its annotation requests a pass, since the last pass; the pass must then read from Azure."""
    requested = resource.metadata.annotations.get(RECONCILE_REQUESTED_AT)
    status = resource.status
    return status.observed_generation != resource.metadata.generation or requested != status.last_handled_reconcile_at
