"""How long a service goes on without its key, and how long it needs an old version.

The times themselves are in each kind's folder under `providers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ServiceTiming:
    """The timing of one kind of resource, and what it means for people."""

    service: str
    cut_off_after: timedelta
    """Until data stops after the key was lost, about."""
    loses: str
    """What happens then, as the end of a sentence about the resource."""
    heals: str
    """What brings it back once the key is there again."""
    old_version_needed_for: timedelta = timedelta(0)
    """How long the service may still use an old version after the resource has moved to the new one."""
    own_application: bool = False
    """Whether the service reaches the key by an application of its own, to which the customer grants the key apart."""
    restores: str = ""
    """What of its own still needs an old version afterwards, until it has aged out."""


_NO_MACHINES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Stop:
    """What stops when a key stays lost: resources of one kind, about when, and how they come back."""

    service: str
    resources: tuple[str, ...]
    expected_at: datetime
    effect: str
    recovery: str
    machines: tuple[str, ...] = ()
    """Virtual machines that stop with them."""


def stops(
    users: Iterable[tuple[str, ServiceTiming]], lost_since: datetime, machines: Mapping[str, tuple[str, ...]] = _NO_MACHINES
) -> tuple[Stop, ...]:
    """What stops, the earliest first; `users` are names of resources with their timing, `machines` those that use them."""
    grouped: dict[ServiceTiming, list[str]] = {}
    for name, timing in users:
        grouped.setdefault(timing, []).append(name)
    found = (
        Stop(
            timing.service,
            tuple(sorted(names)),
            lost_since + timing.cut_off_after,
            timing.loses,
            timing.heals,
            tuple(sorted({machine for name in names for machine in machines.get(name, ())})),
        )
        for timing, names in grouped.items()
    )
    return tuple(sorted(found, key=lambda stop: (stop.expected_at, stop.service)))


def longest_use_of_an_old_version(timings: Iterable[ServiceTiming]) -> timedelta:
    """How long the slowest of several resources may still use an old version after it has moved."""
    return max((timing.old_version_needed_for for timing in timings), default=timedelta(0))


def restores_under(timings: Iterable[ServiceTiming]) -> tuple[str, ...]:
    """What of resources with these timings still needs a version that they have left."""
    return tuple(sorted({timing.restores for timing in timings} - {""}))
