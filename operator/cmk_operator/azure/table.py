"""A table that forgets what nothing has asked for in an hour, so that it shrinks with the manifests that it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

UNUSED_FOR: Final = 3600.0
"""Seconds after which what nothing asked for is dropped."""
KeyT = TypeVar("KeyT", bound="Hashable")
ValueT = TypeVar("ValueT")


class Table(Generic[KeyT, ValueT]):
    """Makes the value of a key when that is first asked for; `monotonic` is the clock in seconds by which it grows old."""

    def __init__(self, make: Callable[[KeyT], ValueT], monotonic: Callable[[], float]) -> None:
        self._make = make
        self._monotonic = monotonic
        self._values: dict[KeyT, tuple[float, ValueT]] = {}
        """Each with the time when it was last asked for, the longest unused first."""

    def __len__(self) -> int:
        """How many values are held."""
        return len(self._values)

    def __getitem__(self, key: KeyT) -> ValueT:
        """The value, made if there is none."""
        held = self._values.pop(key, None)
        value = held[1] if held is not None else self._make(key)
        self._values[key] = (self._monotonic(), value)
        return value

    def find(self, key: KeyT) -> ValueT | None:
        """The value if there is one; to look at it keeps it no longer."""
        found = self._values.get(key)
        return found[1] if found is not None else None

    def drop_unused(self) -> None:
        """Forget what nothing has asked for in an hour."""
        while self._values:
            key, (used, _) = next(iter(self._values.items()))
            if self._monotonic() - used <= UNUSED_FOR:
                return
            del self._values[key]
