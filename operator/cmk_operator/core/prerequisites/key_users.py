"""What uses a key, as far as a prerequisite depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.core.kinds.key_use import KeyUse


@dataclass(frozen=True, slots=True)
class SizedUsers:
    """Manifests of resources that take keys of some sizes only."""

    use: KeyUse
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RegionalUser:
    """A resource that needs the vault in its own region: its manifest's name, and that region when it is known."""

    name: str
    location: str | None
    shown: str
    """Such resources in the plural, such as `disk encryption sets`."""


@dataclass(frozen=True, slots=True)
class KeyUsers:
    """Manifests that name the key, by what the key must be for them."""

    sized: tuple[SizedUsers, ...] = ()
    regional: tuple[RegionalUser, ...] = ()
