"""What uses a key, as far as a prerequisite depends on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskSet:
    """A disk encryption set on the key: its manifest's name, and its region when that is known."""

    name: str
    location: str | None


@dataclass(frozen=True, slots=True)
class KeyUsers:
    """Manifests that name the key, by what the key must be for them."""

    sql: tuple[str, ...] = ()
    disk_sets: tuple[DiskSet, ...] = ()
