"""The EDEK column: what a vault wrapped, sealed once more by the internal key ring and bound to its row.

Neither the internal key nor the organization's key alone opens it, and it opens in no other row, nor with another `kid`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_keyservice.crypto.context import edek_context

if TYPE_CHECKING:
    from uuid import UUID

    from cmk_keyservice.crypto.key_ring import KeyRing


def seal_edek(ring: KeyRing, wrapped: bytes, organization: str, data_key: UUID, kid: str, epoch: int) -> bytes:
    """The column's value for what the vault returned as wrapped by `kid`."""
    return ring.encrypt(wrapped, edek_context(organization, data_key, kid, epoch))


def open_edek(ring: KeyRing, edek: bytes, organization: str, data_key: UUID, kid: str, epoch: int) -> bytes:
    """What the vault is to unwrap by `kid`. Raises ProblemError if row and value do not belong together, or the key is missing."""
    return ring.decrypt(edek, edek_context(organization, data_key, kid, epoch))
