"""Durations as Kubernetes and CEL write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_DURATION: Final = re.compile(
    r"(?:(?P<days>[0-9]+)d)?(?:(?P<hours>[0-9]+)h)?(?:(?P<minutes>[0-9]+)m)?(?:(?P<seconds>[0-9]+)s)?"
)


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `36h30m` or `35d`; raises ValueError for any other form."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration such as 35d, 24h or 90m")
    return timedelta(**{unit: int(amount) for unit, amount in match.groupdict(default="0").items()})
