"""Since when no whole round of reconciles has ended, also over restarts.

A process that is restarted again and again, each time before every object has been observed, would count the age of claims anew
each time and withdraw none. The time is an annotation of the Lease, whose renewals are written anyway.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.text.rfc3339 import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

ANNOTATION: Final = "cmk-operator.dev/no-whole-round-since"


class WholeRound:
    """The time in memory and in the Lease; None once a round has ended in which every object was observed or its claims withdrawn."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._leading = False

    def read(self, metadata: Mapping[str, Any]) -> None:
        """Take over what an earlier process left in the Lease; a leader keeps its own time."""
        if not self._leading:
            self._since = _time_in((metadata.get("annotations") or {}).get(ANNOTATION))

    def begin(self, now: datetime) -> datetime | None:
        """This process leads now. Returns since when earlier processes have ended no whole round; None if the last one has."""
        carried = min(self._since, now) if self._since is not None else None
        self._leading, self._since = True, carried or now
        return carried

    @property
    def ended(self) -> bool:
        """Whether a whole round has ended since this process began to lead."""
        return self._leading and self._since is None

    def end(self) -> None:
        """A whole round has ended."""
        self._since = None

    def write(self, metadata: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """The metadata of the Lease with the annotation; a process that takes the Lease has ended no round yet."""
        if not self._leading and self._since is None:
            self._since = now
        annotations = {name: value for name, value in (metadata.get("annotations") or {}).items() if name != ANNOTATION}
        if self._since is not None:
            annotations[ANNOTATION] = to_rfc3339(self._since)
        return {**metadata, "annotations": annotations}


def _time_in(text: object) -> datetime | None:
    """The time; None for anything else, which somebody else may have written."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None
