"""Operations that a service carries out by itself after it has accepted a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.core.faults.azure_failure import AzureFailure


@dataclass(frozen=True, slots=True)
class Operation:
    """What was started, as far as a process that did not start it must know."""

    token: str
    """By what its provider asks after it; written and read by the provider alone, and kept in status as it is."""
    purpose: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """Not ended yet; ask again in `retry_after` seconds."""

    retry_after: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more to wait for. Whether it did what it was for, the next reading of the resource tells."""

    version: str | None = None
    """The key version that is in force since, where the service itself will not tell."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The service gave up; `failure` is its word."""

    failure: AzureFailure
