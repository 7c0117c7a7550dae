"""How much of a service's published limits the operator takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `burst` calls at once, refilled over `period` seconds."""

    burst: float
    period: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRates:
    """A resource provider's limits per subscription, beyond those of Resource Manager; below what Azure publishes, because others call too."""

    namespace: str
    """The resource provider in lower case, such as `microsoft.storage`."""
    listed: str
    """Last segment of the path of a list, in lower case: it counts as a list, and not as a read."""
    reads: Rate
    lists: Rate
    writes: Rate

    @property
    def name(self) -> str:
        """The service in metrics and flags, such as `storage`."""
        return self.namespace.removeprefix("microsoft.")
