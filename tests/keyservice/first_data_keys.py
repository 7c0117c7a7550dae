"""A replica that mints first data keys: 25 at once when told to, then prints for each the id and what a ciphertext opens to.

Arguments: the database's URL, the file of the internal key ring. A line on standard input starts it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from uuid import uuid4

from cmk_keyservice.crypto import context, wrapped_payload
from cmk_keyservice.crypto.edek import open_edek, seal_edek
from cmk_keyservice.crypto.key_ring import KeyRing, RingName
from cmk_keyservice.crypto.suites import DataKeyPrimitive, new_material, seal
from cmk_keyservice.store.rows import DataKeyRow, NewDataKey
from cmk_keyservice.store.store import Store
from tests.keyservice.rows import FENCE, OLD


async def mint(store: Store, ring: KeyRing) -> DataKeyPrimitive:
    """The first data key of one purpose, whoever made it; the vault is left out: the payload is only sealed."""
    id_ = uuid4()
    digest = context.data_key_digest("acme", id_, "shop/orders", "orders", 1, 1)
    edek = seal_edek(ring, wrapped_payload.pack(new_material(), digest), "acme", id_, OLD, 1)
    new = NewDataKey(id_, "acme", "shop/orders", "orders", 1, 1, OLD, "RSA-OAEP-256", edek, digest)
    row = await store.first_or_existing(new, FENCE)
    assert isinstance(row, DataKeyRow)
    return opened(row, ring)


def opened(row: DataKeyRow, ring: KeyRing) -> DataKeyPrimitive:
    """The data key of a row."""
    payload = open_edek(ring, row.edek, row.organization, row.id, row.kid, row.epoch)
    digest = context.data_key_digest(row.organization, row.id, row.service, row.purpose, row.epoch, row.suite)
    return DataKeyPrimitive(row.id, row.suite, wrapped_payload.unpack(payload, digest))


async def _main(url: str, ring_file: str) -> None:
    ring = KeyRing.parse(RingName.INTERNAL, Path(ring_file).read_bytes())  # noqa: ASYNC240 - before anything else runs
    store = await Store.open(url, pool_size=25)
    await store.ping()
    print("ready", flush=True)  # noqa: T201 - it talks to the test
    sys.stdin.readline()
    for key in await asyncio.gather(*(mint(store, ring) for _ in range(25))):
        print(key.id, seal(key, b"first", b"").hex(), flush=True)  # noqa: T201
    await store.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
