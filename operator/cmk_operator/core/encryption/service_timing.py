"""How long each of Azure's services, and Snowflake, go on without their key, and how long they need an old version.

Sources: Azure Storage "Customer-managed keys for account encryption"; Azure SQL "TDE with customer-managed key"; "Server-side
encryption of Azure managed disks"; Snowflake "Tri-Secret Secure".
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


_TEN_MINUTES: Final = timedelta(minutes=10)
STORAGE: Final = ServiceTiming(
    "Azure Storage", _TEN_MINUTES, "reads and writes of its data are refused with 403", "it heals by itself"
)
SQL: Final = ServiceTiming(
    "Azure SQL",
    _TEN_MINUTES,
    "its databases become Inaccessible",
    "it heals by itself when the key was away for less than 30 minutes; else the operator revalidates the key, and failover groups, "
    "restore history and tags may be lost",
    restores="point-in-time restores of its databases to a moment before",
)
DISK: Final = ServiceTiming(
    "managed disks",
    timedelta(hours=1),
    "its reads and writes fail; virtual machines that use it shut down before that, Azure names no time, and do not start",
    "the provider's administrator must start the virtual machines again",
    timedelta(hours=1),
)
SNOWFLAKE: Final = ServiceTiming(
    "Snowflake", _TEN_MINUTES, "all operations on its data stop", "it heals by itself", own_application=True
)

_BY_TYPE: Final[Mapping[str, ServiceTiming]] = MappingProxyType(
    {
        "microsoft.storage/storageaccounts": STORAGE,
        "microsoft.sql/servers": SQL,
        "microsoft.sql/servers/databases": SQL,
        "microsoft.compute/diskencryptionsets": DISK,
        "microsoft.compute/disks": DISK,
        "snowflake": SNOWFLAKE,
    }
)
KNOWN_TYPES: Final = frozenset(_BY_TYPE)
"""The resource types with a timing of their own."""


_NO_MACHINES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


def timing_of(resource_type: str) -> ServiceTiming:
    """The timing of a type in lower case; one that is not known is taken for the fastest to stop."""
    return _BY_TYPE.get(resource_type, STORAGE)


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
    users: Iterable[tuple[str, str]], lost_since: datetime, machines: Mapping[str, tuple[str, ...]] = _NO_MACHINES
) -> tuple[Stop, ...]:
    """What stops, the earliest first; `users` are names of resources with their types, `machines` those that use them."""
    grouped: dict[ServiceTiming, list[str]] = {}
    for name, resource_type in users:
        grouped.setdefault(timing_of(resource_type), []).append(name)
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


def longest_use_of_an_old_version(resource_types: Iterable[str]) -> timedelta:
    """How long the slowest of several resources may still use an old version after it has moved."""
    return max((timing_of(one).old_version_needed_for for one in resource_types), default=timedelta(0))


def restores_under(resource_types: Iterable[str]) -> tuple[str, ...]:
    """What of resources of these types still needs a version that they have left."""
    return tuple(sorted({timing_of(one).restores for one in resource_types} - {""}))
