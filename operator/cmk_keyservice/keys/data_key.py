"""A data key as `http` uses it, and a lease of one for a caller that encrypts by itself."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations at run time

from msgspec import Struct

from cmk_keyservice.crypto.suites import DataKeyPrimitive  # noqa: TC001 - as above


class DataKey(Struct, frozen=True, gc=False):
    """A data key in the clear. Its text form shows no key. There are tens of thousands, and none is part of a cycle.

    `expires`: until when it may be used, in seconds of the service's own clock.
    """

    id: UUID
    organization: str
    service: str
    purpose: str
    epoch: int
    primitive: DataKeyPrimitive
    """Encrypts and decrypts; its `material` is for a lease."""
    expires: float


@dataclass(frozen=True, slots=True)
class Lease:
    """A data key that a caller may hold for `seconds` from when it asked; nothing extends that, only a new lease."""

    data_key: DataKey
    seconds: float
