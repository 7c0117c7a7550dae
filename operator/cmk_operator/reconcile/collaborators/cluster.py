"""The Kubernetes side of every pass: the API server, what is known of its objects, and the queue that their passes wait in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.kubernetes.status import put_answer

if TYPE_CHECKING:
    from cmk_operator.kubernetes.client import KubernetesClient, ObjectReference
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.kubernetes.status import Wake

WAKE_KEY_AFTER: Final = 2.0
"""Seconds in which many resources that moved wake their key only once."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`wake` puts another object into the queue, in so many seconds."""

    client: KubernetesClient
    inventory: Inventory
    wake: Wake

    def put_answer(self, reference: ObjectReference, body: dict[str, Any]) -> None:
        """Put an answer of the API server into the inventory."""
        put_answer(self.inventory, reference.plural, body, self.wake)
