"""A table that drops what was not used for an hour, so that it shrinks with the manifests that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

UNUSED_FOR: Final = 3600.0
"""Seconds after which an unused entry is dropped."""
KeyT = TypeVar("KeyT", bound="Hashable")
ValueT = TypeVar("ValueT")


class Table(Generic[KeyT, ValueT]):
    """A mapping that makes a value on first use; `monotonic` is the clock, in seconds, for the age of its entries."""

    def __init__(self, make: Callable[[KeyT], ValueT], monotonic: Callable[[], float]) -> None:
        self._make = make
        self._monotonic = monotonic
        self._values: dict[KeyT, tuple[float, ValueT]] = {}
        """Each value with the time of its last use; the longest unused first."""

    def __len__(self) -> int:
        """The number of values held."""
        return len(self._values)

    def __getitem__(self, key: KeyT) -> ValueT:
        """The value, which is made if there is none."""
        held = self._values.pop(key, None)
        value = held[1] if held is not None else self._make(key)
        self._values[key] = (self._monotonic(), value)
        return value

    def find(self, key: KeyT) -> ValueT | None:
        """The value if there is one; this does not count as a use."""
        found = self._values.get(key)
        return found[1] if found is not None else None

    def drop_unused(self) -> None:
        """Drop the values that were not used for `UNUSED_FOR` seconds."""
        while self._values:
            key, (used, _) = next(iter(self._values.items()))
            if self._monotonic() - used <= UNUSED_FOR:
                return
            del self._values[key]
