"""The model of the customer's side: what was done to vault and keys, and so what must be true of every version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Version:
    """One version of a key; when it was made in virtual seconds; `enabled` and `expired` as the customer set them."""

    id: str
    made: float = float("-inf")
    enabled: bool = True
    expired: bool = False


@dataclass
class Key:
    """A key; the last of its versions is the latest."""

    name: str
    versions: list[Version] = field(default_factory=list)
    deleted: bool = False

    @property
    def latest(self) -> Version:
        return self.versions[-1]

    def find(self, version: str) -> Version | None:
        return next((one for one in self.versions if one.id == version), None)


@dataclass
class Vault:
    """The vault, with consent, grants and network rules."""

    name: str
    now: Callable[[], float]
    propagation: float
    """Seconds until a role assignment, and its end, is in force."""
    keys: dict[str, Key] = field(default_factory=dict)
    deleted: bool = False
    consent: bool = True
    granted: bool = True
    open: bool = True
    locked: str | None = None
    failed_over: bool = False
    """Whether the paired region serves it, read-only."""
    lag: float = 0.0
    """Seconds until a deletion, a recovery and a change of the firewall can be seen."""
    _settled_at: float = float("-inf")

    def grant_changed(self, *, granted: bool) -> None:
        self.granted = granted
        self._settled_at = max(self._settled_at, self.now() + self.propagation)

    def begin_lag(self) -> None:
        """Something was changed that shows only after the lag."""
        if self.lag:
            self._settled_at = max(self._settled_at, self.now() + self.lag)

    @property
    def in_flux(self) -> bool:
        """Whether a change is not in force everywhere yet: then either answer is right."""
        return self.now() < self._settled_at + 1.0

    def accessible(self, key: str, version: str, *, to_services: bool = False) -> bool | None:
        """Whether a version can wrap and unwrap; None while a change of a grant takes effect. The firewall blocks only the operator."""
        if self.in_flux:
            return None
        known = self.keys.get(key)
        found = known.find(version) if known is not None else None
        if known is None or found is None or known.deleted or self.deleted or not self.consent or not self.granted:
            return False
        return found.enabled and not found.expired and (self.open or to_services)

    def uri(self, key: str, version: str = "") -> str:
        return f"https://{self.name}.vault.azure.net/keys/{key}" + (f"/{version}" if version else "")

    @property
    def whole(self) -> bool:
        """Whether nothing blocks any version."""
        if self.in_flux:
            return False
        return all(self.accessible(key.name, version.id) for key in self.keys.values() for version in key.versions)
