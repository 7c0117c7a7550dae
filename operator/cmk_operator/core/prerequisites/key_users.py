"""The users of a key whose needs a prerequisite depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.core.kinds.key_use import KeyUse


@dataclass(frozen=True, slots=True)
class SizedUsers:
    """Manifests of resources that accept only some key sizes."""

    use: KeyUse
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RegionalUser:
    """A resource that needs the vault in its own region: its manifest's name, and its region if known."""

    name: str
    location: str | None
    shown: str
    """The resources in the plural, such as `disk encryption sets`."""


@dataclass(frozen=True, slots=True)
class KeyUsers:
    """Manifests that name the key, grouped by what they require of it."""

    sized: tuple[SizedUsers, ...] = ()
    regional: tuple[RegionalUser, ...] = ()
