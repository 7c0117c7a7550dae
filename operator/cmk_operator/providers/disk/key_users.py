"""What uses keys among the disk encryption sets of a subscription.

Disks, snapshots and images use a key only through a set, which is always in their own subscription, and follow it. A set that is
just being rotated still uses its previous keys. Source: azure-mgmt-compute, `EncryptionSetProperties`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.providers.user_lists import Details, Found, Requests, UserList, fields, text, user_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.rotation.azure_use import AzureUser, FoundUse

API_VERSION: Final = "2026-03-02"


@dataclass(frozen=True, slots=True)
class DiskEncryptionSetUsers:
    """The list of disk encryption sets: one request for each page."""

    session: AzureSession
    shown: str = "disk encryption sets"
    action: str = "Microsoft.Compute/diskEncryptionSets/read"

    async def read(
        self,
        chain: IdentityChain,
        subscription_id: str,
        listed: frozenset[str],  # noqa: ARG002 - a set uses only its own keys
        details: Details,  # noqa: ARG002 - the list shows everything
    ) -> FoundUse:
        """See `UserList.read`."""
        requests, found = Requests(self.session, chain, API_VERSION), Found()
        async for entry in requests.entries(f"/subscriptions/{subscription_id}/providers/Microsoft.Compute/diskEncryptionSets"):
            found.read(entry, f"the disk encryption sets of subscription {subscription_id}", _users_in)
        return found.use


def _users_in(encryption_set: ArmId, properties: Mapping[str, Any]) -> Iterator[AzureUser]:
    previous = properties.get("previousKeys") or []
    if not isinstance(previous, list):
        raise TypeError("previousKeys")
    for key in [properties.get("activeKey"), *previous]:
        used = user_of(encryption_set, text(fields(key).get("keyUrl")))
        if used is not None:
            yield used


def make_user_lists(session: AzureSession) -> tuple[UserList, ...]:
    """The list of disk encryption sets."""
    return (DiskEncryptionSetUsers(session),)
