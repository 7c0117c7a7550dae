"""The names of Azure's regions."""

from __future__ import annotations

from typing import Final

LONGEST_REGION: Final = 60


def reported_region(text: str) -> str | None:
    """The region in a header of an answer; None if the text is not a region's name."""
    name = region_of(text)
    return name if name.isascii() and name.isalnum() and len(name) <= LONGEST_REGION else None


def region_of(location: str) -> str:
    """The canonical name of a region: `westeurope` for both `West Europe` and `westeurope`."""
    return location.replace(" ", "").lower()
