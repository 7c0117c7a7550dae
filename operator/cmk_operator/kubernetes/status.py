"""Writes status by server-side apply, and only if it differs from the status before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.conditions import ConditionType
from cmk_operator.kubernetes.client import KubernetesError, ObjectReference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cmk_operator.api.customer_managed_key import CustomerManagedKeyStatus
    from cmk_operator.api.customer_tenant import CustomerTenantStatus
    from cmk_operator.api.encrypted_resource import EncryptedResourceStatus
    from cmk_operator.api.federated_identity import FederatedIdentityStatus
    from cmk_operator.kubernetes.client import KubernetesClient
    from cmk_operator.kubernetes.inventory import CustomResource, Inventory
    from cmk_operator.telemetry import Telemetry

    Wake = Callable[[ObjectReference, float], None]
    Recorded = Callable[[str], Awaitable[None]]
    Status = FederatedIdentityStatus | CustomerTenantStatus | CustomerManagedKeyStatus | EncryptedResourceStatus

OWN_CONDITIONS: Final = frozenset(one.value for one in ConditionType)
"""Condition types that this operator owns; those of other field managers are neither compared nor written."""


def reference_of(resource: CustomResource) -> ObjectReference:
    """The reference of a parsed object."""
    return ObjectReference(resource.plural, resource.metadata.namespace or "", resource.metadata.name)


class StatusWriter:
    """The only place that writes status.

    It awaits `recorded` with the object's uid before each write: what the new status overwrites is then in the audit record.
    """

    def __init__(
        self, client: KubernetesClient, inventory: Inventory, telemetry: Telemetry, wake: Wake, recorded: Recorded
    ) -> None:
        self._client = client
        self._inventory = inventory
        self._telemetry = telemetry
        self._wake = wake
        self._recorded = recorded

    async def write(self, resource: CustomResource, status: Status) -> bool:
        """Apply `status` if it differs from the status in the inventory; returns whether it was written.

        Raises `KubernetesError` if the write failed; the reconcile is then retried. That includes 404, because an API server
        also answers it while it loads a changed definition: only a watch or a list shows that an object was deleted.
        """
        wanted = _wire(status)
        if wanted == _wire(resource.status):
            return False
        reference = reference_of(resource)
        await self._recorded(resource.metadata.uid)
        try:
            answer = await self._client.apply_status(reference, type(resource).__name__, resource.metadata.uid, wanted)
        except KubernetesError:
            self._telemetry.status_write_failures.labels(reference.plural).inc()
            raise
        put_answer(self._inventory, reference.plural, answer, self._wake)
        self._telemetry.status_writes.labels(reference.plural).inc()
        return True


def put_answer(inventory: Inventory, plural: str, body: dict[str, Any], wake: Wake) -> None:
    """Put an answer into the inventory. If it shows a change, enqueue the object: its watch event will show nothing new."""
    reference, is_due = inventory.put(plural, body, answered=True)
    if is_due:
        wake(reference, 0.0)


def _wire(status: Status) -> dict[str, Any]:
    wire = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    wire["conditions"] = [condition for condition in wire["conditions"] if condition["type"] in OWN_CONDITIONS]
    return {name: value for name, value in wire.items() if value not in ([], {})}
