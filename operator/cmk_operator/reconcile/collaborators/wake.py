"""Whom a change concerns, and whether a person asks for a pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.model import RECONCILE_REQUESTED_AT

if TYPE_CHECKING:
    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.reconcile.collaborators.cluster import Cluster


def wake_below(cluster: Cluster, reference: ObjectReference, *, to_the_leaves: bool) -> None:
    """Wake what refers to an object, and with `to_the_leaves` everything that refers to that in turn.

    A changed spec of an identity or tenant can change what every resource below it may or must be.
    """
    for referrer in cluster.inventory.referring_to(reference):
        cluster.wake(referrer, 0.0)
        if to_the_leaves:
            wake_below(cluster, referrer, to_the_leaves=True)


def is_asked_for(resource: CustomerManagedKey | EncryptedResource) -> bool:
    """Whether the manifest changed or its annotation asks for a pass since the last one: then Azure is asked anew."""
    requested = resource.metadata.annotations.get(RECONCILE_REQUESTED_AT)
    status = resource.status
    return status.observed_generation != resource.metadata.generation or requested != status.last_handled_reconcile_at
