"""How late the dependents of an object are enqueued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.collaborators.cluster import Cluster
from cmk_operator.reconcile.collaborators.wake import KEYS_FIRST, wake_below
from tests.unit.samples import ACCOUNT, identity_body, key_body, resource_body, tenant_body

if TYPE_CHECKING:
    from collections.abc import Mapping

IDENTITY = ObjectReference(FederatedIdentity.plural, "", "provider")
REPORTED: Mapping[str, Any] = {"status": {"observedGeneration": 1}}


def enqueued(above: ObjectReference, *, recursive: bool) -> dict[str, float]:
    """The delay of each object below `above`: one key that was reconciled, one that never was, and a resource of each."""
    inventory = Inventory()
    inventory.put(FederatedIdentity.plural, identity_body())
    inventory.put(CustomerTenant.plural, tenant_body())
    inventory.put(CustomerManagedKey.plural, {**key_body("known"), **REPORTED})
    inventory.put(CustomerManagedKey.plural, key_body("new"))
    for number, key in enumerate(("known", "new")):
        resource = resource_body(f"on-{key}", keyRef={"name": key}, resourceId=f"{ACCOUNT}{number}")
        inventory.put(EncryptedResource.plural, resource)
    delays: dict[str, float] = {}

    def wake(reference: ObjectReference, after: float) -> None:
        delays[reference.name] = after

    nothing: Any = None
    wake_below(Cluster(nothing, inventory, wake, nothing), above, recursive=recursive)
    return delays


def test_a_changed_identity_enqueues_the_resources_of_a_new_key_behind_that_key() -> None:
    """Else a thousand new resources run in no order and each reads its key again."""
    delays = enqueued(IDENTITY, recursive=True)
    assert delays == {"contoso": 0.0, "known": 0.0, "new": 0.0, "on-known": 0.0, "on-new": KEYS_FIRST}


def test_a_key_that_was_reconciled_enqueues_its_resources_at_once() -> None:
    assert enqueued(ObjectReference(CustomerManagedKey.plural, "team-a", "known"), recursive=False) == {"on-known": 0.0}
