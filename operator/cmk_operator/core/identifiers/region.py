"""The names of Azure's regions."""

from __future__ import annotations


def region_of(location: str) -> str:
    """The region's name as Azure compares it: `West Europe` and `westeurope` are one."""
    return location.replace(" ", "").lower()
