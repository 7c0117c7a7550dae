"""The Kubernetes side of every pass: the API server, the inventory of its objects, and the work queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.kubernetes.status import put_answer

if TYPE_CHECKING:
    from cmk_operator.kubernetes.client import KubernetesClient, ObjectReference
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.kubernetes.status import Changed, Wake

WAKE_KEY_AFTER: Final = 2.0
"""Seconds within which many resources that change enqueue their key only once."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The API client and the inventory.

    `wake` enqueues an object after a delay in seconds, `changed` one that somebody changed, at a generation, after its pause.
    """

    client: KubernetesClient
    inventory: Inventory
    wake: Wake
    changed: Changed
    operator_class: str = ""
    """The class of this operator; empty for the default."""
    licences_used: bool = False
    """Whether an organization needs a licence for a key of its own."""
    support_used: bool = False
    """Whether SupportRequests make administrators of organizations."""

    def serves(self, reference: ObjectReference) -> bool:
        """Whether this operator serves an object. An object that rests on no identity yet belongs to the default class."""
        return self.inventory.class_of(reference) == self.operator_class

    def served(self) -> list[ObjectReference]:
        """All objects that this operator serves."""
        references = self.inventory.references()
        if not self.operator_class and not self.inventory.has_classes:
            return references
        return [reference for reference in references if self.serves(reference)]

    async def put_answer(self, reference: ObjectReference, body: dict[str, Any]) -> None:
        """Put an object that the API server returned into the inventory."""
        await put_answer(self.inventory, reference.plural, body, self.changed)
