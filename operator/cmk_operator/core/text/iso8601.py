"""Durations in the form of ISO 8601, as Azure SQL writes the retention of backups, such as P1M."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_DURATION: Final = re.compile(
    r"P(?:(?P<years>\d{1,3})Y)?(?:(?P<months>\d{1,4})M)?(?:(?P<weeks>\d{1,4})W)?(?:(?P<days>\d{1,5})D)?"
    r"(?:T(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,6})M)?(?:(?P<seconds>\d{1,8})S)?)?"
)
_LONGEST_YEAR: Final = 366
_LONGEST_MONTH: Final = 31


def longest_of(text: str) -> timedelta:
    """The longest time that a duration can mean: a month has 31 days and a year 366. Raises ValueError for any other text."""
    found = _DURATION.fullmatch(text)
    if found is None or text.endswith(("P", "T")):
        raise ValueError("no duration")
    parts = {name: int(value) for name, value in found.groupdict(default="0").items()}
    days = parts["years"] * _LONGEST_YEAR + parts["months"] * _LONGEST_MONTH + parts["weeks"] * 7 + parts["days"]
    return timedelta(days=days, hours=parts["hours"], minutes=parts["minutes"], seconds=parts["seconds"])
