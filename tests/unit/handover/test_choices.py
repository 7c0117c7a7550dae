"""What the provider's engineer may not choose is refused before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cmk_operator.core.handover.request import Choices, WantedVault, judge, warnings
from cmk_operator.providers.disk.kind import DISK
from tests.unit.handover.variants import ALL_CHOICES, BITING, EVERYTHING, PLAIN, key


def test_good_choices_are_not_complained_about() -> None:
    assert judge(PLAIN, Choices()) == ()
    assert judge(EVERYTHING, ALL_CHOICES) == ()
    assert judge(PLAIN, Choices(key_size=4096)) == ()


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"location": "West Europe"}, "name of a region"),
        ({"location": "$(reboot)"}, "name of a region"),
        ({"resource_group": BITING}, "name of a resource group"),
        ({"resource_group": "-n"}, "name of a resource group"),
        ({"resource_group": "ends."}, "name of a resource group"),
        ({"subscription": "mine"}, "id of a subscription"),
        ({"retention_days": 6}, "7 to 90 days"),
        ({"retention_days": 91}, "7 to 90 days"),
        ({"key_size": 1024}, "2048, 3072, 4096 bits"),
        ({"key_size": 4096}, "SQL servers take keys of 2048 or 3072 bits only"),
        ({"rotate_after_days": 6}, "7 days at the earliest"),
        ({"rotate_after_days": 7, "expire_after_days": 27}, "28 days at the earliest"),
        ({"expire_after_days": 365}, "must be rotated at least 7 days before"),
        ({"rotate_after_days": 360, "expire_after_days": 365}, "must be rotated at least 7 days before"),
        ({"addresses": ("fd00::1",)}, "not an IPv4 address"),
        ({"addresses": ("10.1.2.3",)}, "public addresses only"),
        ({"addresses": ("172.16.0.0/12",)}, "public addresses only"),
        ({"workspace": "logs"}, "id of a Log Analytics workspace"),
        ({"location": "northeurope"}, "must be in westeurope"),
    ],
)
def test_a_choice_that_azure_or_the_shell_would_not_bear_is_refused(choice: dict[str, Any], words: str) -> None:
    complaints = judge(EVERYTHING, Choices(**choice))
    assert len(complaints) == 1
    assert words in complaints[0]


def test_disks_of_two_regions_cannot_share_a_vault() -> None:
    both = tuple(
        key(f"https://fabrikam-kv.vault.azure.net/keys/{region}", DISK.key_use, regions=(region,))
        for region in ("eastus", "westus2")
    )
    handover = replace(PLAIN, vaults=(WantedVault("fabrikam-kv.vault.azure.net", both),))
    assert judge(handover, Choices()) == (
        "keys of vault fabrikam-kv protect disks in eastus and westus2: each region needs its own vault",
    )


def test_a_region_without_failover_is_warned_of_and_not_refused() -> None:
    assert warnings(PLAIN, Choices()) == ()
    assert warnings(PLAIN, Choices(location="westeurope")) == ()
    chosen = Choices(location="westus3")
    assert judge(PLAIN, chosen) == ()
    (told,) = warnings(PLAIN, chosen)
    assert "does not fail over from westus3" in told
    disks = (key("https://fabrikam-kv.vault.azure.net/keys/d", DISK.key_use, regions=("qatarcentral",)),)
    handover = replace(PLAIN, vaults=(WantedVault("fabrikam-kv.vault.azure.net", disks),))
    assert "it has no paired region" in warnings(handover, Choices())[0]
