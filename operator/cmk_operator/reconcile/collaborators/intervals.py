"""How often each kind of object is reconciled without a change."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between regular passes."""

    key_check: float
    drift_check: float
    identity_check: float


def jittered(interval: float) -> float:
    """`interval` plus or minus up to ten percent, so that objects spread out."""
    return interval * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, not cryptography
