"""What an organization is told about its vault and key, beside what is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cmk_operator.core.access.state import KeyAttributes
from cmk_operator.core.organization.advice import key_advice, region_advice
from tests.unit.samples import NOW, V1

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("organization", "vault", "said"),
    [
        ("westeurope", "westeurope", False),
        ("West Europe", "westeurope", False),
        (None, "westeurope", False),
        ("westeurope", None, False),
        ("westeurope", "eastus", True),
    ],
)
def test_a_vault_in_another_region_is_only_advised_against(organization: str | None, vault: str | None, *, said: bool) -> None:
    advice = region_advice(organization, vault)
    assert (advice is not None) is said
    assert advice is None or "should use a vault in the same region" in advice


@pytest.mark.parametrize(
    ("level", "days", "words"),
    [
        ("Recoverable", 90, []),
        ("Recoverable+ProtectedSubscription", 90, []),
        ("CustomizedRecoverable", 90, []),
        ("", None, []),
        ("CustomizedRecoverable", 7, ["recovered for only 7 days"]),
        ("Recoverable+Purgeable", 90, ["no purge protection"]),
        ("CustomizedRecoverable+Purgeable", 7, ["no purge protection", "recovered for only 7 days"]),
        ("Purgeable", None, ["no soft delete"]),
    ],
)
def test_a_vault_that_does_not_protect_the_key_is_advised_against(level: str, days: int | None, words: list[str]) -> None:
    found = key_advice(
        KeyAttributes(
            V1, enabled=True, key_type="RSA", key_size=3072, operations=(), recovery_level=level, recoverable_days=days
        ),
        NOW,
    )
    assert len(found) == len(words)
    assert all(part in sentence and "should" in sentence for part, sentence in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("left", "said"), [(31 * DAY, False), (30 * DAY, False), (29 * DAY, True), (DAY, True), (-DAY, False), (None, False)]
)
def test_an_end_that_is_near_is_told(left: timedelta | None, *, said: bool) -> None:
    ends = NOW + left if left is not None else None
    found = key_advice(
        KeyAttributes(
            V1, enabled=True, key_type="RSA", key_size=2048, operations=(), expires=ends, recovery_level="Recoverable"
        ),
        NOW,
    )
    assert bool(found) is said
    assert all("wraps no new data keys" in one for one in found)
