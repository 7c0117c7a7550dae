"""What a kind of resource uses a key for, and what the key must be for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NEEDED_OPERATIONS: Final = ("wrapKey", "unwrapKey")
"""What every kind does with its key."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How the letter to the customer names the resources that a key protects, and what they ask of the key."""

    protects: str
    """Such resources in the plural, such as `storage accounts`."""
    sizes: frozenset[int] | None = None
    """Bits of the RSA keys that the service takes; None: all that Key Vault has."""
    more_operations: tuple[str, ...] = ()
    """What the service does with the key beyond `NEEDED_OPERATIONS`."""

    def takes(self, size: int) -> bool:
        """Whether the service takes an RSA key of so many bits."""
        return self.sizes is None or size in self.sizes

    @property
    def shown_sizes(self) -> str:
        """The sizes for people, such as `2048 or 3072 bits only`."""
        return f"{' or '.join(map(str, sorted(self.sizes or ())))} bits only"
