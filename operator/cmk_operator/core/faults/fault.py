"""What blocks an object, and who must act."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cmk_operator.core.faults.reason import FaultKind, Reason

__all__ = ["Actor", "Fault", "FaultKind", "blocked", "busy", "invalid"]


class Actor(StrEnum):
    """Who can end a fault; messages use these words."""

    PLATFORM_ENGINEER = "platform engineer"
    PROVIDER_ADMINISTRATOR = "provider's administrator"
    CUSTOMER_ADMINISTRATOR = "customer's administrator"
    AZURE = "Azure"
    MAINTAINER = "maintainers of cmk-operator"


@dataclass(frozen=True, slots=True)
class Fault:
    """What blocks one object: a reason, a deterministic message, and who must act."""

    reason: Reason
    message: str
    actor: Actor
    retry_after: float | None = None
    """Seconds that Azure asked to wait."""
    request_id: str | None = None
    """Azure's request id, for logs and audit record; never in messages, which must be the same for each attempt."""
    cause: FaultKind = FaultKind.BLOCKED
    """How the cause ends; used if the reason is `INHERITED`."""
    awaited: bool = False
    """Whether what is missing may still be on its way, so that nobody must act yet."""

    @property
    def kind(self) -> FaultKind:
        """How the fault ends: by itself while it is awaited, otherwise as its reason says."""
        if self.awaited:
            return FaultKind.BUSY
        kind = self.reason.kind
        return self.cause if kind is None or kind is FaultKind.INHERITED else kind

    @property
    def needs_a_person(self) -> bool:
        """Whether it never ends without somebody acting."""
        return self.kind is not FaultKind.BUSY


def invalid(reason: Reason, message: str) -> Fault:
    """A fault of the manifest; the platform engineer must change it."""
    return Fault(reason, message, Actor.PLATFORM_ENGINEER)


def blocked(reason: Reason, message: str, actor: Actor, request_id: str | None = None) -> Fault:
    """A fault that lasts until `actor` acts outside Kubernetes."""
    return Fault(reason, message, actor, request_id=request_id)


def busy(reason: Reason, message: str, retry_after: float | None = None, request_id: str | None = None) -> Fault:
    """A fault that ends by itself, for which Azure is the actor."""
    return Fault(reason, message, Actor.AZURE, retry_after, request_id)
