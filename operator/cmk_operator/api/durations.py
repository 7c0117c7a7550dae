"""Durations as Kubernetes and CEL write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_DURATION: Final = re.compile(r"(?:(?P<hours>[0-9]+)h)?(?:(?P<minutes>[0-9]+)m)?(?:(?P<seconds>[0-9]+)s)?")


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `36h30m`; raises ValueError for any other form."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration such as 24h or 90m")
    return timedelta(**{unit: int(amount) for unit, amount in match.groupdict(default="0").items()})


def parse_retention(text: str) -> timedelta:
    """Read how long backups are kept, in days such as `35d` or as a duration; raises ValueError for any other form."""
    days = text.removesuffix("d")
    return timedelta(days=int(days)) if days != text and days.isdecimal() and days.isascii() else parse_duration(text)
