"""The order in which the ready objects of one kind get a worker: fair between owners first, then between objects.

An owner is a namespace, or, for deliveries, a receiver. One owner with thousands of ready objects, or with passes that hang,
delays no other owner for longer than one pass. The ready objects of one owner take turns by what limits them, such as the
subscription: while the writes to one subscription wait for each other, those to another go on.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

ItemT = TypeVar("ItemT", bound="Hashable")


@dataclass(slots=True)
class _ByLimit(Generic[ItemT]):
    """Items in turns between what limits them; those with the same limit in the order in which they came."""

    count: int = 0
    by_limit: OrderedDict[str, deque[ItemT]] = field(default_factory=OrderedDict)
    """The limit that has waited longest for its turn is first."""

    def __len__(self) -> int:
        return self.count

    def append(self, item: ItemT, limit: str) -> None:
        self.count += 1
        self.by_limit.setdefault(limit, deque()).append(item)

    def popleft(self) -> ItemT:
        limit, items = next(iter(self.by_limit.items()))
        item = items.popleft()
        self.count -= 1
        if items:
            self.by_limit.move_to_end(limit)
        else:
            del self.by_limit[limit]
        return item


@dataclass(slots=True)
class _Owned(Generic[ItemT]):
    """The ready items of one owner. Regular passes and others take turns, so that neither kind starves the other."""

    regular: _ByLimit[ItemT] = field(default_factory=_ByLimit)
    others: _ByLimit[ItemT] = field(default_factory=_ByLimit)
    regular_next: bool = True

    def __len__(self) -> int:
        return len(self.regular) + len(self.others)

    def pop(self) -> ItemT:
        first, second = (self.regular, self.others) if self.regular_next else (self.others, self.regular)
        self.regular_next = not self.regular_next
        return (first or second).popleft()


@dataclass(slots=True)
class FairLane(Generic[ItemT]):
    """The ready items of one kind; `workers` is the number of passes that run at once.

    `most_of` says how many workers one owner may have at most; by default three quarters, so that there is one for an owner that
    comes later, however long the passes of the others take.
    """

    workers: int
    most_of: Callable[[str], int] | None = None
    _ready: OrderedDict[str, _Owned[ItemT]] = field(default_factory=OrderedDict)
    """By owner; the one that has waited longest for its turn is first."""
    _running: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(owned) for owned in self._ready.values())

    def put(self, item: ItemT, owner: str, *, regular: bool, limit: str = "") -> None:
        """Add a ready item. `regular`: its pass was due, so a flood of other passes of the owner must not delay it.

        `limit` names what its pass may have to wait for; items of the owner with another limit do not wait behind it.
        """
        owned = self._ready.setdefault(owner, _Owned())
        (owned.regular if regular else owned.others).append(item, limit)

    def take(self) -> tuple[ItemT, str] | None:
        """The next item, with its owner, for a worker that is free; None if no item may run now.

        The owner with the fewest running passes is next; among equals, the one whose last turn is longest ago. Call `done` after
        the pass.
        """
        owner = min(self._allowed(), key=lambda one: self._running.get(one, 0), default=None)
        if owner is None:
            return None
        owned = self._ready[owner]
        item = owned.pop()
        if owned:
            self._ready.move_to_end(owner)
        else:
            del self._ready[owner]
        self._running[owner] = self._running.get(owner, 0) + 1
        return item, owner

    def done(self, owner: str) -> None:
        """A pass of the owner has ended."""
        left = self._running[owner] - 1
        if left:
            self._running[owner] = left
        else:
            del self._running[owner]

    def _allowed(self) -> list[str]:
        return [owner for owner in self._ready if self._running.get(owner, 0) < self._most(owner)]

    def _most(self, owner: str) -> int:
        return self.most_of(owner) if self.most_of is not None else max(1, self.workers - max(1, self.workers // 4))
