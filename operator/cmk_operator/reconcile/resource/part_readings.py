"""Reads the parts of resources that no list shows, such as encryption scopes, at a slow pace of their own.

A regular pass costs no call more than before, but for one in `PACE` passes. A resource that needs several calls is read so much
less often that they never add up to more than one call in each drift check interval.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.encryption.coverage import NO_READS_NEEDED, PartsSeen
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.old_claims import INTERVALS, SHORTEST_LIMIT
from cmk_operator.kubernetes.status import reference_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_operator.core.encryption.coverage import Part
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.providers.protocol import ResourceFacts
    from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource

PACE: Final = 12
"""Drift check intervals from one reading of a resource's parts to the next: an hour with the default of five minutes."""
AT_ONCE: Final = 100
"""Most readings in one drift check interval while there are few resources: Azure Storage allows 800 reads in five minutes."""
_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Reading:
    """The last reading of one resource; times are monotonic seconds."""

    began: float
    """When this process first found the resource on its key."""
    due: float
    interval: float
    at: float | None = None
    """When the parts were last read; None: not yet."""
    found: tuple[Part, ...] | None = None

    def seen(self, now: float) -> PartsSeen:
        """The parts, unless they were read too long ago."""
        since = self.began if self.at is None else self.at
        if now - since > max(SHORTEST_LIMIT, INTERVALS * self.interval):
            return PartsSeen(is_old=True)
        return PartsSeen(self.found)


class PartReadings:
    """The readings of all resources of this process; a restart forgets them, and reads each anew at its first regular pass."""

    def __init__(self, drift_check: float, clock: Callable[[], float] | None = None) -> None:
        self._drift_check = drift_check
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._readings: dict[ObjectReference, _Reading] = {}
        self._lately: deque[float] = deque()
        """When parts were read within the last drift check interval."""

    def __len__(self) -> int:
        """The number of resources in memory."""
        return len(self._readings)

    def forget(self, reference: ObjectReference) -> None:
        """Drop a resource whose manifest is gone."""
        self._readings.pop(reference, None)

    async def of(self, admitted: AdmittedResource, facts: ResourceFacts[Any], *, now: bool) -> PartsSeen:
        """The parts of a resource that is on its key, read anew if that is due, or at once (`now`)."""
        if not admitted.provider.has_parts:
            return NO_READS_NEEDED
        reference, moment = reference_of(admitted.resource), self._clock()
        reading = self._readings.get(reference)
        if reading is None:
            # The pass that finds a resource on its key, or puts it there, costs nothing more: the next regular one reads.
            reading = _Reading(moment, moment + self._drift_check / 2, self._drift_check * PACE)
            self._readings[reference] = reading
        if now or (moment >= reading.due and self._has_room(moment)):
            await self._read(admitted, facts, reading)
        return reading.seen(self._clock())

    async def _read(self, admitted: AdmittedResource, facts: ResourceFacts[Any], reading: _Reading) -> None:
        self._lately.append(self._clock())
        parts = await admitted.provider.read_parts(admitted.path.path.chain, admitted.target, facts)
        moment = self._clock()
        if isinstance(parts, AzureFailure):
            _LOG.info(
                "the parts of a resource could not be read",
                extra={"target": admitted.path.target.text, "code": parts.code, "azureRequestId": parts.request_id},
            )
            reading.due = moment + self._drift_check / 2
            return
        reading.interval = self._drift_check * max(PACE, parts.reads)
        # Half an interval early, so that the regular pass that comes up to a tenth before its time finds it due.
        reading.at, reading.found, reading.due = moment, parts.found, moment + reading.interval - self._drift_check / 2

    def _has_room(self, moment: float) -> bool:
        """Whether another reading fits in this interval. All resources fit within `PACE` intervals, however many there are."""
        while self._lately and moment - self._lately[0] > self._drift_check:
            self._lately.popleft()
        return len(self._lately) < max(AT_ONCE, math.ceil(len(self._readings) / PACE))
