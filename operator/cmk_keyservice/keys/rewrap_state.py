"""How far the re-wrap of an organization is, as `status.dataKeys.rewrap`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RewrapState:
    """Data keys that are still to be wrapped by the key version in force, and those of them that a try did not move."""

    pending: int = 0
    failed: int = 0
    message: str = ""
    retry_after: float | None = None
    """Seconds until the next pass makes sense, if the vault said so."""
