"""What a vault's answer means for a caller: the bytes, or a problem and whether it is a refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cmk_keyservice.problem import Kind, Problem
from cmk_operator.core.organization.verdict import VerdictKind

if TYPE_CHECKING:
    from cmk_operator.core.organization.verdict import Verdict

_KINDS: Final = {
    VerdictKind.DENIED: Kind.DENIED,
    VerdictKind.LOST: Kind.LOST,
    VerdictKind.THROTTLED: Kind.THROTTLED,
    VerdictKind.UNAVAILABLE: Kind.UNAVAILABLE,
    VerdictKind.INVALID: Kind.UNAVAILABLE,
}
"""A request that does not fit the key is this service's or the settings' fault, not the caller's."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A wrapped value; `kid` is the key version that the vault says it used."""

    kid: str
    algorithm: str
    ciphertext: bytes = field(repr=False)
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """An unwrapped value."""

    plaintext: bytes = field(repr=False)
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class NotDone:
    """The vault did not do it. `refuses`: the organization refuses, if a second try confirms it."""

    problem: Problem
    refuses: bool = False
    request_id: str | None = None


def not_done(verdict: Verdict) -> NotDone:
    """The answer behind a verdict, for a caller."""
    kind = _KINDS[verdict.kind]
    what, _, who = verdict.message.partition(": ")
    problem = Problem(
        kind,
        verdict.reason,
        what,
        f"{who[:1].upper()}{who[1:]}." if who else "Retry later.",
        retryable=verdict.retryable,
        retry_after=verdict.retry_after,
    )
    return NotDone(problem, verdict.refuses, verdict.request_id)
