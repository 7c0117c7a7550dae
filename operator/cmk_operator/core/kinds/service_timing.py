"""How long a service keeps working without its key, and how long it needs an old version.

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
    """Approximate time from the loss of the key until data stops."""
    effect: str
    """The effect, as the end of a sentence about the resource."""
    recovery: str
    """What restores the resource once the key is accessible again."""
    old_version_needed_for: timedelta = timedelta(0)
    """How long the service may still use an old version after the resource has moved to the new one."""
    own_application: bool = False
    """Whether the service uses an application of its own, to which the customer grants the key separately."""
    restores: str = ""
    """What the service itself still restores with an old version afterwards, until that data expires."""


_NO_MACHINES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Stop:
    """What stops if a key stays lost: resources of one kind, the approximate time, and how they recover."""

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
    """What stops, earliest first; `users` are resource names with their timing, `machines` the virtual machines by resource name."""
    grouped: dict[ServiceTiming, list[str]] = {}
    for name, timing in users:
        grouped.setdefault(timing, []).append(name)
    found = (
        Stop(
            timing.service,
            tuple(sorted(names)),
            lost_since + timing.cut_off_after,
            timing.effect,
            timing.recovery,
            tuple(sorted({machine for name in names for machine in machines.get(name, ())})),
        )
        for timing, names in grouped.items()
    )
    return tuple(sorted(found, key=lambda stop: (stop.expected_at, stop.service)))


def longest_use_of_an_old_version(timings: Iterable[ServiceTiming]) -> timedelta:
    """The longest time for which any of the services may still use an old version after a move."""
    return max((timing.old_version_needed_for for timing in timings), default=timedelta(0))


def restores_under(timings: Iterable[ServiceTiming]) -> tuple[str, ...]:
    """What services with these timings still restore with a version that they no longer use."""
    return tuple(sorted({timing.restores for timing in timings} - {""}))
