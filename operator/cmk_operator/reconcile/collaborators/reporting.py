"""Where a pass reports: status, events and the audit record."""

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
    """The writers of status, events and audit record, and the clock that dates what they write."""

    writer: StatusWriter
    events: EventRecorder
    journal: Journal
    clock: Callable[[], datetime]

    def now(self) -> datetime:
        """The current time in whole seconds, the precision of Kubernetes' times."""
        return self.clock().replace(microsecond=0)
