"""The share of a service's published limits that the operator uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `burst` calls at once, refilled over `period` seconds."""

    burst: float
    period: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRates:
    """A resource provider's limits for each subscription, in addition to Resource Manager's.

    They are below the limits that Azure publishes, because other clients share those.
    """

    namespace: str
    """The resource provider in lower case, such as `microsoft.storage`."""
    listed: str
    """The last path segment of a list request, in lower case; such a request counts as a list, not as a read."""
    reads: Rate
    lists: Rate
    writes: Rate
    writes_at_once: Rate | None = None
    """A second limit on writes, over a short time; None: the service publishes none."""

    @property
    def name(self) -> str:
        """The service's name in metrics and flags, such as `storage`."""
        return self.namespace.removeprefix("microsoft.")
