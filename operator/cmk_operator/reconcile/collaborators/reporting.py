"""Where a pass reports: the status, the events and the audit record of its object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cmk_operator.audit.journal import Journal
    from cmk_operator.kubernetes.events import EventRecorder
    from cmk_operator.kubernetes.status import StatusWriter


@dataclass(frozen=True, slots=True)
class Reporting:
    """What a report is written to, and the clock that dates it."""

    writer: StatusWriter
    events: EventRecorder
    journal: Journal
    clock: Callable[[], datetime]

    def now(self) -> datetime:
        """The present, to the second: what Kubernetes' times hold."""
        return self.clock().replace(microsecond=0)
