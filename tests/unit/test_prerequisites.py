"""What guards a key: what is not visible is Unknown, and what Azure itself refuses is never waived."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from cmk_operator.core.prerequisites import Prerequisite, Result, check_prerequisites, failed
from tests.unit.samples import NOW, attributes, key_probes

if TYPE_CHECKING:
    from cmk_operator.core.access import KeyProbe

PASS, FAIL, UNKNOWN = Result.PASS, Result.FAIL, Result.UNKNOWN


def check(**changes: Any) -> dict[str, Prerequisite]:
    return {entry.name: entry for entry in check_prerequisites(attributes(**changes), NOW)}


@pytest.mark.parametrize(
    ("level", "soft_delete", "purge_protection"),
    [
        ("Purgeable", FAIL, FAIL),
        ("Recoverable+Purgeable", PASS, FAIL),
        ("CustomizedRecoverable+Purgeable", PASS, FAIL),
        ("Recoverable", PASS, PASS),
        ("Recoverable+ProtectedSubscription", PASS, PASS),
        ("CustomizedRecoverable", PASS, PASS),
        ("CustomizedRecoverable+ProtectedSubscription", PASS, PASS),
        ("", UNKNOWN, UNKNOWN),
    ],
)
def test_purge_protection_is_read_from_the_recovery_level(level: str, soft_delete: Result, purge_protection: Result) -> None:
    found = check(recovery_level=level)
    assert (found["SoftDelete"].result, found["PurgeProtection"].result) == (soft_delete, purge_protection)
    assert found["SoftDelete"].hard
    assert found["PurgeProtection"].hard


@pytest.mark.parametrize(
    ("changes", "name", "result", "hard", "words"),
    [
        ({"key_type": "RSA"}, "KeyType", PASS, True, "the key is RSA"),
        ({"key_type": "RSA-HSM"}, "KeyType", PASS, True, "the key is RSA-HSM"),
        ({"key_type": "EC"}, "KeyType", FAIL, True, "the customer's administrator must create an RSA 2048 key"),
        ({"key_type": "EC-HSM"}, "KeyType", FAIL, True, "not RSA"),
        ({"key_type": "oct-HSM"}, "KeyType", FAIL, True, "not RSA"),
        ({"key_size": 2048}, "KeySize", PASS, False, "2048 bits"),
        ({"key_size": 3072}, "KeySize", FAIL, False, "the customer's administrator must create an RSA 2048 key"),
        ({"key_size": 4096}, "KeySize", FAIL, False, "set spec.prerequisites to Warn"),
        ({"key_size": None}, "KeySize", UNKNOWN, False, "not known"),
        ({"operations": ("wrapKey", "unwrapKey")}, "KeyOperations", PASS, True, "permits wrapKey and unwrapKey"),
        ({"operations": ("wrapKey",)}, "KeyOperations", FAIL, True, "bar unwrapKey: the customer's administrator must add"),
        ({"operations": ()}, "KeyOperations", FAIL, True, "bar wrapKey and unwrapKey"),
        ({"expires": None}, "KeyExpiry", PASS, False, "does not expire"),
        ({"expires": NOW}, "KeyExpiry", FAIL, False, "expired on 2026-11-24: the customer's administrator must rotate"),
        ({"expires": NOW + timedelta(days=29)}, "KeyExpiry", PASS, False, "should create a new version before"),
        ({"expires": NOW + timedelta(days=31)}, "KeyExpiry", PASS, False, "the key version expires on 2026-12-25"),
        ({}, "VaultLock", UNKNOWN, False, "grant the application Key Vault Reader"),
        ({}, "TrustedServicesBypass", UNKNOWN, False, "grant the application Key Vault Reader"),
        ({"recoverable_days": 90}, "SoftDelete", PASS, True, "for 90 days"),
    ],
)
def test_each_prerequisite_is_judged_with_its_remedy(
    *, changes: dict[str, Any], name: str, result: Result, hard: bool, words: str
) -> None:
    found = check(**changes)[name]
    assert (found.result, found.hard) == (result, hard)
    assert words in found.message


def test_an_unknown_number_of_days_is_not_printed() -> None:
    assert "None" not in check(recoverable_days=None)["SoftDelete"].message


def test_warn_waives_only_what_azure_itself_would_take() -> None:
    lacking = check_prerequisites(attributes(key_size=4096, recovery_level="Recoverable+Purgeable"), NOW)
    assert [entry.name for entry in failed(lacking, enforce=True)] == ["PurgeProtection", "KeySize"]
    assert [entry.name for entry in failed(lacking, enforce=False)] == ["PurgeProtection"]


@given(key_probes())
def test_what_fails_says_who_must_act_and_what_is_unknown_never_blocks(found: KeyProbe) -> None:
    if found.wanted.attributes is None:
        return
    entries = check_prerequisites(found.wanted.attributes, NOW)
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        if entry.result is FAIL:
            assert " must " in entry.message
    blocking = failed(entries, enforce=True)
    assert all(entry.result is FAIL for entry in blocking)
    assert set(failed(entries, enforce=False)) <= set(blocking)
