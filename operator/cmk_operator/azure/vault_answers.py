"""Whether a vault answers. While it does not, only one probe at a time tries it, so that probes of other vaults need not wait."""

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
"""Seconds for which the timeout of one probe counts for other probes of that vault; each of them would wait for a timeout too."""


@dataclass(slots=True)
class VaultAnswers:
    """Whether one vault has answered, from all probes of all its keys."""

    timeout: AzureFailure | None = None
    """The timeout of the last probe; None if the vault answered."""
    timed_out_at: float = float("-inf")
    answered_at: float = float("-inf")
    running: int = 0
    """Probes that run now."""

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Count a probe while it runs."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def known_timeout(self, now: float, within: float) -> AzureFailure | None:
        """The timeout to report without a request: less than `within` seconds old, or another probe runs. None: probe the vault."""
        if self.timeout is None or within <= 0:
            return None
        return self.timeout if self.running or now - self.timed_out_at < within else None

    def record(self, wanted: VersionProbe, began: float, ended: float) -> None:
        """Record the result of a probe. A timeout of a probe that began before the last answer is ignored."""
        failure = wanted.failure
        # If the key was read and only wrapKey or unwrapKey timed out, that says nothing about the vault's other keys.
        was_read = wanted.attributes is not None
        if failure is None or was_read or (failure.answered and failure.stage is Stage.SERVICE):
            self.timeout, self.answered_at = None, ended
        elif failure.code == TIMEOUT and failure.stage is Stage.SERVICE and began >= self.answered_at:
            self.timeout, self.timed_out_at = failure, ended
