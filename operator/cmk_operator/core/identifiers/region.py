"""The names of Azure's regions."""

from __future__ import annotations


def region_of(location: str) -> str:
    """The canonical name of a region: `westeurope` for both `West Europe` and `westeurope`."""
    return location.replace(" ", "").lower()
