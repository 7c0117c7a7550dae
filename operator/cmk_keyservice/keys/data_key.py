"""A data key as `http` uses it, and a lease of one for a caller that encrypts by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from cmk_keyservice.crypto.suites import DataKeyPrimitive


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key in the clear. Its text form shows no key.

    `expires`: until when it may be used, in seconds of the service's own clock.
    """

    id: UUID
    organization: str
    service: str
    purpose: str
    epoch: int
    primitive: DataKeyPrimitive = field(repr=False, compare=False)
    """Encrypts and decrypts; its `material` is for a lease."""
    expires: float


@dataclass(frozen=True, slots=True)
class Lease:
    """A data key that a caller may hold for `seconds` from when it asked; nothing extends that, only a new lease."""

    data_key: DataKey
    seconds: float
