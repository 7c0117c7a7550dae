"""What stands in the way, and whose move it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Actor(StrEnum):
    """Who can change what is wrong; the words are used in messages."""

    PLATFORM_ENGINEER = "platform engineer"
    PROVIDER_ADMINISTRATOR = "provider's administrator"
    CUSTOMER_ADMINISTRATOR = "customer's administrator"
    AZURE = "Azure"
    MAINTAINER = "maintainers of cmk-operator"


class FaultKind(StrEnum):
    """How a fault ends."""

    INVALID = "Invalid"
    """The manifest must change; nothing is tried until it does."""
    BLOCKED = "Blocked"
    """A person must act outside Kubernetes; it is retried slowly, for ever, and heals by itself."""
    BUSY = "Busy"
    """Azure asks to wait, or a grant has not reached every replica yet; it is retried as told."""
    BUG = "Bug"
    """This program is wrong; it is retried slowly and logged in full."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing in the way of one object: a CamelCase reason, a deterministic message, and who must act."""

    kind: FaultKind
    reason: str
    message: str
    actor: Actor
    retry_after: float | None = None
    """Seconds that Azure asked to wait."""
    request_id: str | None = None
    """Azure's request id: for logs and audit, never for messages, which must not change from try to try."""

    @property
    def needs_a_person(self) -> bool:
        """Whether waiting alone will never end it."""
        return self.kind in {FaultKind.INVALID, FaultKind.BLOCKED}


def invalid(reason: str, message: str) -> Fault:
    """Refuse what a manifest says; the platform engineer must change it."""
    return Fault(FaultKind.INVALID, reason, message, Actor.PLATFORM_ENGINEER)


def blocked(reason: str, message: str, actor: Actor, request_id: str | None = None) -> Fault:
    """Wait for a person outside Kubernetes."""
    return Fault(FaultKind.BLOCKED, reason, message, actor, request_id=request_id)


def busy(reason: str, message: str, retry_after: float | None = None, request_id: str | None = None) -> Fault:
    """Wait for Azure."""
    return Fault(FaultKind.BUSY, reason, message, Actor.AZURE, retry_after, request_id)
