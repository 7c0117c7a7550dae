"""Long-running operations, which a service carries out after it has accepted a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.core.faults.azure_failure import AzureFailure


@dataclass(frozen=True, slots=True)
class Operation:
    """A started operation, with what another process needs to poll it."""

    token: str
    """How the provider polls the operation; opaque to all others, and stored in status unchanged."""
    purpose: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """Not ended yet; poll again in `retry_after` seconds."""

    retry_after: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The operation has ended; the next read of the resource shows whether it succeeded."""

    version: str | None = None
    """The key version in force since then, for a service that does not report it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The operation failed; `failure` is the service's error."""

    failure: AzureFailure
