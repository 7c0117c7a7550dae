"""Makes the inventory equal to a list from the API server: at start, and regularly to find deletions that no watch reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError, ObjectReference

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cmk_operator.kubernetes.inventory import Inventory


@dataclass(slots=True)
class RelistResult:
    """The result of a list: objects to reconcile soon, objects that are settled, and objects that do not exist any more."""

    unsettled: set[ObjectReference] = field(default_factory=set)
    settled: set[ObjectReference] = field(default_factory=set)
    gone: set[ObjectReference] = field(default_factory=set)
    served: bool = True
    """Whether the API server serves the kind."""


async def relist(client: KubernetesClient, inventory: Inventory, plural: str) -> RelistResult:
    """List one kind into the inventory. The caller must remove the objects that are in `gone`.

    A kind that the API server does not serve (404) has no objects. Raises `KubernetesError` for every other failure.
    """
    listing = RelistResult()
    listed: set[ObjectReference] = set()
    version = 0
    try:
        async for page in client.pages(plural):
            version = version or page.resource_version
            for body in page.items:
                reference, is_due = inventory.put(plural, body)
                listed.add(reference)
                if is_due:
                    (listing.settled if _is_settled(body) else listing.unsettled).add(reference)
    except KubernetesError as error:
        if error.status != 404:
            raise
        return RelistResult(gone=inventory.absent(plural, set(), 2**63), served=False)
    listing.gone = inventory.absent(plural, listed, version)
    return listing


def _is_settled(body: Mapping[str, Any]) -> bool:
    """Whether the object's generation was reconciled and nothing is pending, so that its next reconcile may be delayed."""
    metadata, status = body["metadata"], body.get("status") or {}
    if "deletionTimestamp" in metadata or "operation" in status or (status.get("notifications") or {}).get("pending"):
        return False
    observed = status.get("observedGeneration", -1)
    return bool(observed == metadata.get("generation", 0))
