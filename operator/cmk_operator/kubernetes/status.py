"""Writes status by server-side apply, and only if it differs from the status before."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.crd import structural_schema
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.api.preflight import Preflight, PreflightStatus
from cmk_operator.api.sizes import cut_to
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.old_claims import withdrawal_message, without_old_claims
from cmk_operator.kubernetes.client import KubernetesError, ObjectReference
from cmk_operator.kubernetes.inventory import MODELS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from cmk_operator.api.customer_managed_key import CustomerManagedKeyStatus
    from cmk_operator.api.customer_tenant import CustomerTenantStatus
    from cmk_operator.api.encrypted_resource import EncryptedResourceStatus
    from cmk_operator.api.federated_identity import FederatedIdentityStatus
    from cmk_operator.api.organization_key import OrganizationKeyStatus
    from cmk_operator.kubernetes.client import KubernetesClient
    from cmk_operator.kubernetes.inventory import CustomResource, Inventory
    from cmk_operator.kubernetes.observations import Observations
    from cmk_operator.telemetry import Telemetry

    Wake = Callable[[ObjectReference, float], None]
    Changed = Callable[[ObjectReference, int], Awaitable[None]]
    """Enqueues an object that an answer shows changed, at that generation, no more often than a watch would."""
    Recorded = Callable[[str], Awaitable[None]]
    Withdrawn = Callable[[CustomResource, str], Awaitable[None]]
    Status = (
        FederatedIdentityStatus
        | CustomerTenantStatus
        | CustomerManagedKeyStatus
        | EncryptedResourceStatus
        | OrganizationKeyStatus
    )

_READ_BACK_SECONDS: Final = 10.0

OWN_CONDITIONS: Final = frozenset(one.value for one in ConditionType)
"""Condition types that this operator owns; those of other field managers are neither compared nor written."""

FOREIGN_FIELDS: Final = frozenset({"dataKeys", "breakGlass"})
"""Fields of a status that another field manager writes: the key service reports the data keys of an OrganizationKey."""


def reference_of(resource: CustomResource) -> ObjectReference:
    """The reference of a parsed object."""
    return ObjectReference(resource.plural, resource.metadata.namespace or "", resource.metadata.name)


class StatusWriter:
    """The only place that writes status.

    It awaits `recorded` with the object's uid before each write: what the new status overwrites is then in the audit record.
    A status that it writes makes no claim that is too old by `observations`. If that withdraws a claim that the reconcile would
    have kept, it reports the message to `withdrawn`, because the reconcile does not know of it.
    """

    def __init__(
        self,
        client: KubernetesClient,
        inventory: Inventory,
        telemetry: Telemetry,
        changed: Changed,
        recorded: Recorded,
        observations: Observations,
        *,
        withdrawn: Withdrawn,
    ) -> None:
        self._client = client
        self._inventory = inventory
        self.observations = observations
        self._telemetry = telemetry
        self._changed = changed
        self._recorded = recorded
        self._withdrawn = withdrawn

    async def write(self, resource: CustomResource, status: Status, observed_at: datetime | None) -> bool:
        """Apply `status` if it differs from the status in the inventory; returns whether it was written.

        `observed_at`: when the reconcile observed what the status says; None if it observed nothing.

        Raises `KubernetesError` if the write failed; the reconcile is then retried. That includes 404, because an API server
        also answers it while it loads a changed definition: only a watch or a list shows that an object was deleted.
        """
        reference = reference_of(resource)
        basis = self.observations.basis(reference, observed_at)
        if status == resource.status and not basis.has_old:
            # Nothing changes and nothing is old: most passes end here, without a comparison of what goes over the wire.
            self._note(reference, observed_at)
            return False
        before, claimed = _wire(resource.status), _wire(status)
        wanted = without_old_claims(claimed, before, basis, self.observations.now())
        if wanted == before:
            self._note(reference, observed_at)
            return False
        await self._recorded(resource.metadata.uid)
        version = None
        if isinstance(resource, OrganizationKey):
            # An API server does not compare the uid of a status: settings in force must not land on a new object of the name.
            if self._inventory.uid_of(reference) != resource.metadata.uid:
                return False
            version = str(self._inventory.version(reference))
        try:
            answer = await self._client.apply_status(
                reference, type(resource).__name__, resource.metadata.uid, wanted, resource_version=version
            )
        except KubernetesError as error:
            self._telemetry.status_write_failures.labels(reference.plural).inc()
            if error.outcome_unknown:
                await self._read_back(reference)
            raise
        await put_answer(self._inventory, reference.plural, answer, self._changed)
        self._telemetry.status_writes.labels(reference.plural).inc()
        self._note(reference, observed_at)
        message = withdrawal_message(wanted)
        if message and not withdrawal_message(before) and not withdrawal_message(claimed):
            await self._withdrawn(resource, message)
        return True

    async def _read_back(self, reference: ObjectReference) -> None:
        """Put the object as it is into the inventory, if the API server tells it soon.

        The write may have landed. The retry must start from it: if it started from the status before, it would write the same
        status again with later transition times.
        """
        try:
            async with asyncio.timeout(_READ_BACK_SECONDS):
                body = await self._client.get(reference)
        except (KubernetesError, TimeoutError):
            return
        if body is not None:
            await put_answer(self._inventory, reference.plural, body, self._changed)

    def _note(self, reference: ObjectReference, observed_at: datetime | None) -> None:
        """Record the observation, only after the write: one that is not in status must not renew an older claim."""
        if observed_at is not None:
            self.observations.saw(reference, observed_at)

    def old_claims(self, reference: ObjectReference) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The object in the inventory, and its status without old claims; None if it makes no old claim."""
        body, basis = self._inventory.body(reference), self.observations.basis(reference)
        if body is None or not basis.has_old:
            return None
        before = _owned(body["status"])
        wanted = without_old_claims(before, before, basis, self.observations.now())
        return (body, wanted) if wanted != before else None

    async def withdraw(self, reference: ObjectReference, kind: str, body: dict[str, Any], status: dict[str, Any]) -> None:
        """Apply a status that only withdraws claims, unless another status was written in the meantime.

        It does not wait for a reconcile of the object, which may hang, nor for the audit record. Raises `KubernetesError` if
        the write failed.
        """
        metadata = body["metadata"]
        try:
            answer = await self._client.apply_status(
                reference, kind, metadata["uid"], status, resource_version=metadata["resourceVersion"]
            )
        except KubernetesError:
            self._telemetry.status_write_failures.labels(reference.plural).inc()
            raise
        await put_answer(self._inventory, reference.plural, answer, self._changed)
        self._telemetry.status_writes.labels(reference.plural).inc()


async def put_answer(inventory: Inventory, plural: str, body: dict[str, Any], changed: Changed) -> None:
    """Put an answer into the inventory. If it shows a change, enqueue the object: its watch event will show nothing new."""
    reference, is_due = inventory.put(plural, body, answered=True)
    if is_due:
        await changed(reference, body["metadata"].get("generation", 0))


def _wire(status: Status) -> dict[str, Any]:
    return _owned(cut_status(status))


def cut_status(status: Status | PreflightStatus) -> dict[str, Any]:
    """The status in JSON, no larger than its definition allows."""
    return cut_to(_schema_of(type(status)), status.model_dump(mode="json", by_alias=True, exclude_none=True))


@lru_cache
def _schema_of(status: type[Status | PreflightStatus]) -> dict[str, Any]:
    model = next(model for model in (*MODELS.values(), Preflight) if model.model_fields["status"].annotation is status)
    schema: dict[str, Any] = structural_schema(model)["properties"]["status"]
    return schema


def _owned(status: dict[str, Any]) -> dict[str, Any]:
    wire = {"conditions": [], **status}
    wire["conditions"] = [condition for condition in wire["conditions"] if condition["type"] in OWN_CONDITIONS]
    return {name: value for name, value in wire.items() if value not in ([], {}) and name not in FOREIGN_FIELDS}
