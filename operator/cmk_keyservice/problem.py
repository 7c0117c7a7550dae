"""Why the key service does not do what a caller asks: one shape for all rooms, which `http` turns into problem+json."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_RETRYABLE: Final = frozenset({"Unavailable", "Throttled"})


class Kind(StrEnum):
    """The class of a problem, which decides what a caller does next."""

    DENIED = "Denied"
    """The organization's key refuses: only the organization can end that."""
    UNAVAILABLE = "Unavailable"
    """A part is down, or was not asked yet: the same request may succeed later."""
    THROTTLED = "Throttled"
    """A vault or the key service itself limits the rate."""
    INVALID = "Invalid"
    """The request, the ciphertext or its context is wrong: the same request never succeeds."""
    FROZEN = "Frozen"
    """The organization's licence does not allow it now."""
    LOST = "Lost"
    """The key no longer exists, so nothing can read what it protects."""
    FORBIDDEN = "Forbidden"
    """The caller has no right to do this."""
    UNAUTHENTICATED = "Unauthenticated"
    """The caller's token is missing or not accepted."""
    NOT_FOUND = "NotFound"
    """There is no such organization or data key."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal: `detail` says what happened, `remedy` who must do what; neither holds plaintext, keys or tokens."""

    kind: Kind
    code: str
    """One CamelCase word that does not change between releases."""
    detail: str
    remedy: str
    retryable: bool
    retry_after: float | None = None
    """Seconds until a retry makes sense; None if nobody knows."""


class ProblemError(Exception):
    """Ends a request with a problem; the only exception that crosses rooms."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.kind}/{problem.code}: {problem.detail}")
        self.problem: Final = problem


def problem_error(kind: Kind, code: str, detail: str, remedy: str, *, retry_after: float | None = None) -> ProblemError:
    """The exception of a new problem; it is retryable if its kind is Unavailable or Throttled."""
    return ProblemError(Problem(kind, code, detail, remedy, kind.value in _RETRYABLE, retry_after))
