"""From a row to a data key and back: the internal key ring outside, the organization's key inside.

What is wrapped carries the digest of what the data key is for, so that a row that was changed or exchanged does not unwrap to a
data key.
"""

from __future__ import annotations

import hmac
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import uuid4

from cmk_keyservice.crypto.ciphertext import XAES_256_GCM
from cmk_keyservice.crypto.context import data_key_digest
from cmk_keyservice.crypto.edek import open_edek, seal_edek
from cmk_keyservice.crypto.suites import DataKeyPrimitive, new_material
from cmk_keyservice.crypto.wrapped_payload import pack, unpack
from cmk_keyservice.keys.data_key import DataKey
from cmk_keyservice.keys.problems import wrap_not_confirmed
from cmk_keyservice.keys.uses import needs_material
from cmk_keyservice.store.rows import NewDataKey, Rewrapped
from cmk_keyservice.vaults.accepted import PLATFORM_KEY
from cmk_keyservice.vaults.answers import NotDone
from cmk_operator.azure.key_gate import Purpose

if TYPE_CHECKING:
    from cmk_keyservice.crypto.key_ring import KeyRing
    from cmk_keyservice.store.rows import DataKeyRow
    from cmk_keyservice.vaults.accepted import Accepted, Organization
    from cmk_keyservice.vaults.vaults import Vaults

RowT = TypeVar("RowT", NewDataKey, Rewrapped)


@dataclass(frozen=True, slots=True)
class Opened:
    """The 32 bytes of a data key; `request_id` is Azure's, empty for the platform's key."""

    material: bytes = field(repr=False)
    request_id: str


@dataclass(frozen=True, slots=True)
class Made(Generic[RowT]):
    """What is to be written, and Azure's ids of the requests that it took."""

    row: RowT
    request_ids: str


class Wrapping:
    """Makes, unwraps and re-wraps data keys. Nothing is stored here, and nothing is kept in memory."""

    def __init__(self, internal: KeyRing, vaults: Vaults) -> None:
        self._internal = internal
        self._vaults = vaults

    async def unwrap(
        self, organization: Organization, row: DataKeyRow, *, purpose: str = Purpose.DATA_KEY, background: bool = False
    ) -> Opened | NotDone:
        """The 32 bytes of a row's data key. Raises `ProblemError` if the row does not belong to what it wraps."""
        wrapped = open_edek(self._internal, row.edek, row.organization, row.id, row.kid, row.epoch)
        answer = await self._vaults.unwrap(
            organization, row.kid, row.algorithm, wrapped, purpose=purpose, background=background
        )
        if isinstance(answer, NotDone):
            return answer
        return Opened(unpack(answer.plaintext, _digest_of(row)), answer.request_id or "")

    async def make(
        self, organization: Organization, accepted: Accepted, place: tuple[str, str, str], epoch: int
    ) -> Made[NewDataKey] | NotDone:
        """A new data key under an accepted key version, which has already been unwrapped once."""
        material, data_key_id = new_material(), uuid4()
        of, service, purpose = place
        digest = data_key_digest(of, data_key_id, service, purpose, epoch, XAES_256_GCM)
        wrapped = await self._wrapped(organization, accepted, pack(material, digest), Purpose.NEW_DATA_KEY, background=False)
        if isinstance(wrapped, NotDone):
            return wrapped
        kid, algorithm, ciphertext, request_ids = wrapped
        edek = seal_edek(self._internal, ciphertext, of, data_key_id, kid, epoch)
        row = NewDataKey(data_key_id, of, service, purpose, epoch, XAES_256_GCM, kid, algorithm, edek, digest)
        return Made(row, request_ids)

    async def wrap_again(
        self, organization: Organization, accepted: Accepted, row: DataKeyRow, opened: Opened
    ) -> Made[Rewrapped] | NotDone:
        """The same data key under an accepted key version.

        The new wrap is unwrapped and compared before it is returned: a row is never given what was not seen to work.
        """
        payload = pack(opened.material, _digest_of(row))
        wrapped = await self._wrapped(organization, accepted, payload, Purpose.REWRAP, background=True)
        if isinstance(wrapped, NotDone):
            return wrapped
        kid, algorithm, ciphertext, request_ids = wrapped
        edek = seal_edek(self._internal, ciphertext, row.organization, row.id, kid, row.epoch)
        retires = row.kid == PLATFORM_KEY and kid != PLATFORM_KEY
        new = Rewrapped(row.id, row.row_version, kid, algorithm, edek, retires)
        return Made(new, f"{opened.request_id} {request_ids}".strip())

    @staticmethod
    def data_key(row: DataKeyRow, material: bytes, expires: float) -> DataKey:
        """The data key for use in this process."""
        primitive = DataKeyPrimitive(row.id, row.suite, material, keeps_material=needs_material(row.purpose))
        organization, service = shared(row.organization), shared(row.service)
        return DataKey(row.id, organization, service, row.purpose, row.epoch, primitive, expires)

    async def _wrapped(
        self, organization: Organization, accepted: Accepted, payload: bytes, purpose: str, *, background: bool
    ) -> tuple[str, str, bytes, str] | NotDone:
        """Wrap a payload, and unwrap it again; the kid is the one of the vault's answer."""
        wrapped = await self._vaults.wrap(organization, accepted, payload, purpose=purpose, background=background)
        if isinstance(wrapped, NotDone):
            return wrapped
        if wrapped.kid != accepted.kid:
            return NotDone(
                wrap_not_confirmed(accepted.kid, f"the vault wrapped with {wrapped.kid}"), request_id=wrapped.request_id
            )
        again = await self._vaults.unwrap(
            organization, wrapped.kid, wrapped.algorithm, wrapped.ciphertext, purpose=purpose, background=background
        )
        if isinstance(again, NotDone):
            return again
        if not hmac.compare_digest(again.plaintext, payload):
            return NotDone(wrap_not_confirmed(accepted.kid, "it unwraps to something else"), request_id=again.request_id)
        ids = f"{wrapped.request_id or ''} {again.request_id or ''}".strip()
        return wrapped.kid, wrapped.algorithm, wrapped.ciphertext, ids


def shared(text: str) -> str:
    """The one copy of a text that thousands of data keys in memory have in common, each of them read from a row."""
    return sys.intern(str(text))  # which takes no subclass of str


def _digest_of(row: DataKeyRow) -> bytes:
    """From what the row says it is for, not from the digest that it carries."""
    return data_key_digest(row.organization, row.id, row.service, row.purpose, row.epoch, row.suite)
