"""What a provider may set of data keys in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, except for `capacity` and `epoch_days`."""

    capacity: int = 20_000
    """Data keys in memory."""
    confirm: float = 10.0
    """Between a refusal and the second try that confirms it."""
    lease: float = 60.0
    """The longest lease of a data key that a caller holds itself."""
    held_for: float = 3600.0
    """After which a data key in memory is unwrapped again, at the latest; each has its own, so that they do not come together."""
    epoch_days: float = 90.0
    """Days after which new data gets a new data key."""
    report_every: float = 60.0
    """Between two reports to an object that say the same."""
    tick: float = 1.0
    """Between two looks at what is due."""
