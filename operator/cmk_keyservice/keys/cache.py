"""The data keys in memory, by id: at most a number of them, the longest unused leaves first."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING

from msgspec import Struct

from cmk_keyservice.keys.data_key import DataKey  # noqa: TC001 - msgspec reads the annotations at run time

if TYPE_CHECKING:
    from uuid import UUID


class Held(Struct, gc=False):
    """One data key in memory. Times are in seconds of the service's clock; no use of it moves any of them."""

    data_key: DataKey
    kid: str
    """The key version that unwrapped it."""
    unwrapped_at: float
    """When the unwrap was sent."""
    serves_until: float
    """Beyond it the data key is not used, whatever else is true."""
    renew_at: float
    """From then on it is unwrapped again before its next use; while nobody can be asked, it goes on until `serves_until`."""
    of_its_own: bool = False
    """Whether the key version is not the one in force, so that the looks at that one say nothing of it."""

    def leave_the_key_in_force(self, interval: float, ceiling: float) -> None:
        """From now on only its own unwraps prove access: at most `interval` seconds apart, good for `ceiling` seconds."""
        self.of_its_own = True
        self.renew_at = min(self.renew_at, self.unwrapped_at + interval)
        self.serves_until = min(self.serves_until, self.unwrapped_at + ceiling)


class Cache:
    """Data keys by id, the longest unused first; `capacity` is their number."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[UUID, Held] = OrderedDict()
        self._of: defaultdict[str, set[UUID]] = defaultdict(set)

    def __len__(self) -> int:
        """The number of data keys held."""
        return len(self._held)

    def get(self, data_key_id: UUID) -> Held | None:
        """The data key, which is now the one used last; None if it is not held."""
        held = self._held.get(data_key_id)
        if held is not None:
            self._held.move_to_end(data_key_id)
        return held

    def put(self, held: Held) -> None:
        """Hold a data key; the longest unused one leaves if there are too many."""
        data_key_id = held.data_key.id
        self.drop(data_key_id)
        self._held[data_key_id] = held
        self._of[held.data_key.organization].add(data_key_id)
        while len(self._held) > self._capacity:
            self.drop(next(iter(self._held)))

    def drop(self, data_key_id: UUID) -> None:
        """Hold a data key no more."""
        held = self._held.pop(data_key_id, None)
        if held is None:
            return
        organization = held.data_key.organization
        self._of[organization].discard(data_key_id)
        if not self._of[organization]:
            del self._of[organization]

    def evict(self, organization: str) -> int:
        """Hold no data key of an organization any more; returns how many there were."""
        gone = self._of.pop(organization, set())
        for data_key_id in gone:
            del self._held[data_key_id]
        return len(gone)
