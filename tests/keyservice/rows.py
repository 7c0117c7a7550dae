"""Rows that tests write."""

from __future__ import annotations

import secrets
from uuid import uuid4

from cmk_keyservice.store.rows import Fence, NewDataKey

FENCE = Fence("uid-1", 1)
OLD = "https://v.vault.azure.net/keys/k/00000000000000000000000000000001"
NEW = "https://v.vault.azure.net/keys/k/00000000000000000000000000000002"


def new_data_key(epoch: int = 1, *, organization: str = "acme", service: str = "shop/orders", kid: str = OLD) -> NewDataKey:
    """A row whose EDEK is random bytes: the store does not look into it."""
    return NewDataKey(
        id=uuid4(),
        organization=organization,
        service=service,
        purpose="orders",
        epoch=epoch,
        suite=1,
        kid=kid,
        algorithm="RSA-OAEP-256",
        edek=secrets.token_bytes(300),
        context_digest=secrets.token_bytes(32),
    )
