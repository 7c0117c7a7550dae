"""Whether a vault answers at all: while it does not, one visit at a time asks it, so that no other customer waits for its silence."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cmk_operator.azure.failures import TIMEOUT
from cmk_operator.core.faults.azure_failure import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cmk_operator.core.access.state import VersionProbe
    from cmk_operator.core.faults.azure_failure import AzureFailure

ASKED_AGAIN_AFTER: Final = 15.0
"""Seconds for which what one visit learnt of a silent vault is told to the others; each would wait for as long as a timeout."""


@dataclass(slots=True)
class VaultAnswers:
    """What the visits to one vault, by whomever and to whichever of its keys, have learnt of it."""

    silence: AzureFailure | None = None
    """The failure of the last visit, if the vault had given no answer in time."""
    silent_at: float = float("-inf")
    answered_at: float = float("-inf")
    asking: int = 0
    """Visits under way."""

    @contextmanager
    def visit(self) -> Iterator[None]:
        """While one asks."""
        self.asking += 1
        try:
            yield
        finally:
            self.asking -= 1

    def told(self, now: float, within: float) -> AzureFailure | None:
        """What a visit would wait for in vain, as was learnt less than `within` seconds ago or is being learnt; None: ask."""
        if self.silence is None or within <= 0:
            return None
        return self.silence if self.asking or now - self.silent_at < within else None

    def heard(self, wanted: VersionProbe, began: float, ended: float) -> None:
        """Take in how a visit ended. A silence that began before the last answer says nothing any more."""
        failure = wanted.failure
        # A vault that let the key be read and hung at an operation with it says nothing about its other keys.
        was_read = wanted.attributes is not None
        if failure is None or was_read or (failure.answered and failure.stage is Stage.SERVICE):
            self.silence, self.answered_at = None, ended
        elif failure.code == TIMEOUT and failure.stage is Stage.SERVICE and began >= self.answered_at:
            self.silence, self.silent_at = failure, ended
