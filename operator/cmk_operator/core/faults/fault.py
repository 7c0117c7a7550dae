"""What stands in the way, and whose move it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cmk_operator.core.faults.reason import FaultKind, Reason

__all__ = ["Actor", "Fault", "FaultKind", "blocked", "busy", "invalid"]


class Actor(StrEnum):
    """Who can change what is wrong; the words are used in messages."""

    PLATFORM_ENGINEER = "platform engineer"
    PROVIDER_ADMINISTRATOR = "provider's administrator"
    CUSTOMER_ADMINISTRATOR = "customer's administrator"
    AZURE = "Azure"
    MAINTAINER = "maintainers of cmk-operator"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing in the way of one object: a reason, a deterministic message, and who must act."""

    reason: Reason
    message: str
    actor: Actor
    retry_after: float | None = None
    """Seconds that Azure asked to wait."""
    request_id: str | None = None
    """Azure's request id: for logs and audit, never for messages, which must not change from try to try."""
    cause: FaultKind = FaultKind.BLOCKED
    """How the cause ends, for a reason that ends as its cause does."""

    @property
    def kind(self) -> FaultKind:
        """How it ends; the reason says so."""
        kind = self.reason.kind
        return self.cause if kind is None or kind is FaultKind.INHERITED else kind

    @property
    def needs_a_person(self) -> bool:
        """Whether waiting alone will never end it."""
        return self.kind is not FaultKind.BUSY


def invalid(reason: Reason, message: str) -> Fault:
    """Refuse what a manifest says; the platform engineer must change it."""
    return Fault(reason, message, Actor.PLATFORM_ENGINEER)


def blocked(reason: Reason, message: str, actor: Actor, request_id: str | None = None) -> Fault:
    """Wait for a person outside Kubernetes."""
    return Fault(reason, message, actor, request_id=request_id)


def busy(reason: Reason, message: str, retry_after: float | None = None, request_id: str | None = None) -> Fault:
    """Wait for Azure."""
    return Fault(reason, message, Actor.AZURE, retry_after, request_id)
