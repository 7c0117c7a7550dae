"""One clock for the operator and the simulated Azure: the wall clock plus the time that was skipped."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.administrators import SandboxControl


class VirtualTime:
    """Seconds and moments in virtual time."""

    def __init__(self, control: SandboxControl) -> None:
        self._control = control
        self._leapt = 0.0

    def now(self) -> float:
        """Seconds, for distances."""
        return time.monotonic() + self._leapt

    def moment(self) -> datetime:
        """The date and time."""
        return datetime.now(UTC) + timedelta(seconds=self._leapt)

    async def leap(self, seconds: float) -> None:
        """Skip time, for the operator and Azure together."""
        if seconds > 0:
            await self._control.advance(seconds)
            self._leapt += seconds
