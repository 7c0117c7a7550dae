"""Rows that tests write."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import text

from cmk_keyservice.store.rows import DataKeyRow, Fence, NewDataKey

if TYPE_CHECKING:
    from cmk_keyservice.store.store import Store

FENCE = Fence("uid-1", 1)
OLD = "https://v.vault.azure.net/keys/k/00000000000000000000000000000001"
NEW = "https://v.vault.azure.net/keys/k/00000000000000000000000000000002"

WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
"""How many connections to the database wait for a lock."""


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


async def stored(store: Store, *, fence: Fence = FENCE, **values: object) -> DataKeyRow:
    """Observe `fence` and store a row."""
    await store.observe("acme", fence, "shop")
    row = await store.first_or_existing(new_data_key(**values), fence)  # type: ignore[arg-type]  # what the caller names
    assert isinstance(row, DataKeyRow)
    return row
