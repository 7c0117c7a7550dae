"""The operator's one finalizer: on what must revert when it is deleted, and on everything that the revert needs.

A revert needs the key, the tenant and the identity: the service must unwrap once more. Manifests are often deleted together
(`kubectl delete -f`, a namespace, a GitOps tool), in any order; so each object that a reverting resource refers to waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.core.faults.reason import EventReason
from cmk_operator.core.text.names import names_shown
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.status import reference_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cmk_operator.kubernetes.inventory import CustomResource, Inventory
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.collaborators.reporting import Reporting

FINALIZER: Final = "cmk-operator.dev/revert-to-platform-key"
_SHOWN: Final = 5
Needed = CustomerManagedKey | CustomerTenant | FederatedIdentity


async def set_finalizer(
    cluster: Cluster, resource: CustomResource, *, present: bool, finalizer: str = FINALIZER
) -> tuple[str, ...]:
    """Add or remove a finalizer of this operator; returns the object's finalizers. Raises `KubernetesError`."""
    reference = reference_of(resource)
    answer = await cluster.client.apply_finalizers(
        reference, type(resource).__name__, resource.metadata.uid, (finalizer,) if present else ()
    )
    if "deletionTimestamp" in answer["metadata"] and not answer["metadata"].get("finalizers"):
        # If removing the finalizer ended the object, the API server returns its last state.
        cluster.inventory.remove(reference, resource.metadata.uid)
        cluster.wake(reference, 0.0)
    elif cluster.inventory.put(reference.plural, answer, answered=True)[1]:
        # Our own change, so it takes nothing from what the author of the manifest may change at once.
        cluster.wake(reference, 0.0)
    return tuple(answer["metadata"].get("finalizers", ()))


async def hold(cluster: Cluster, *needed: Needed) -> None:
    """Give the finalizer to what a reverting resource needs. One that is being deleted already cannot get it any more."""
    for one in needed:
        if FINALIZER not in one.metadata.finalizers and one.metadata.deletion_timestamp is None:
            await set_finalizer(cluster, one, present=True)


async def release_if_not_needed(cluster: Cluster, reporting: Reporting, one: Needed) -> bool:
    """Take the finalizer away if nothing below must revert; returns whether the object is deleted with that.

    If a deletion waits, an event says for what.
    """
    if FINALIZER not in one.metadata.finalizers:
        return False
    if next(_reverting(cluster.inventory, reference_of(one)), None) is None:
        left = await set_finalizer(cluster, one, present=False)
        for above in _above(one):
            cluster.wake(above, 0.0)
        return one.metadata.deletion_timestamp is not None and not left
    if one.metadata.deletion_timestamp is not None and one.status.observed_generation != one.metadata.generation:
        waits = _waits_for(cluster.inventory, reference_of(one))
        await reporting.events.record(one, "Warning", EventReason.DELETION_WAITS, waits, "Delete")
    return False


def _waits_for(inventory: Inventory, reference: ObjectReference) -> str:
    shown = names_shown(sorted(str(resource) for resource in _resources(inventory, reference)), _SHOWN)
    return (
        f"the deletion waits, because EncryptedResource {shown} must revert to the platform key first, which needs this object: the "
        "platform engineer must delete these manifests too, or set their spec.deletionPolicy to Orphan"
    )


def _reverting(inventory: Inventory, reference: ObjectReference) -> Iterator[ObjectReference]:
    """The objects that refer to this one and hold the finalizer."""
    return (below for below in inventory.referring_to(reference) if FINALIZER in inventory.finalizers_of(below))


def _resources(inventory: Inventory, reference: ObjectReference) -> Iterator[ObjectReference]:
    """The resources below an object that hold the finalizer."""
    for below in _reverting(inventory, reference):
        if below.plural == EncryptedResource.plural:
            yield below
        else:
            yield from _resources(inventory, below)


def _above(one: Needed) -> tuple[ObjectReference, ...]:
    """What the object refers to, which may be free to go now."""
    match one:
        case CustomerManagedKey():
            return (ObjectReference(CustomerTenant.plural, "", one.spec.tenant_ref.name),)
        case CustomerTenant():
            return (ObjectReference(FederatedIdentity.plural, "", one.spec.identity_ref.name),)
        case FederatedIdentity():
            return ()
