"""What a kind of resource uses a key for, and what it requires of the key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NEEDED_OPERATIONS: Final = ("wrapKey", "unwrapKey")
"""The operations that every kind needs."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How the letter to the customer names the resources that a key protects, and what they require of the key."""

    protects: str
    """The resources in the plural, such as `storage accounts`."""
    sizes: frozenset[int] | None = None
    """Bits of the RSA keys that the service accepts; None: any size that Key Vault offers."""
    more_operations: tuple[str, ...] = ()
    """Operations that the service needs in addition to `NEEDED_OPERATIONS`."""
    outside: str = ""
    """Data of these resources that such a key may not protect, for the letter."""

    def takes(self, size: int) -> bool:
        """Whether the service accepts an RSA key of `size` bits."""
        return self.sizes is None or size in self.sizes

    @property
    def shown_sizes(self) -> str:
        """The sizes for people, such as `2048 or 3072 bits only`."""
        return f"{' or '.join(map(str, sorted(self.sizes or ())))} bits only"
