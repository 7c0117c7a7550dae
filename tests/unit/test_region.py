"""Regions are compared by one spelling."""

from __future__ import annotations

import pytest

from cmk_operator.core.identifiers.region import region_of


@pytest.mark.parametrize("location", ["westeurope", "West Europe", "WESTEUROPE", "westEurope"])
def test_the_name_and_the_display_name_of_a_region_are_one(location: str) -> None:
    assert region_of(location) == "westeurope"


def test_no_region_stays_no_region() -> None:
    assert not region_of("")
