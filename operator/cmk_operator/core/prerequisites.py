"""What guards a key against loss, as far as the present grants show it; what they do not show is Unknown, never Pass."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cmk_operator.core.access import KeyAttributes

EXPIRY_WARNING: Final = timedelta(days=30)
_NEEDED_OPERATIONS: Final = ("wrapKey", "unwrapKey")
_READER: Final = "grant the application Key Vault Reader on the vault to let the operator see it"


class Result(StrEnum):
    """Verdict on one prerequisite."""

    PASS = "Pass"  # noqa: S105 - a verdict, not a password
    FAIL = "Fail"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """One prerequisite: its verdict and remedy; `hard` ones are refused by Azure itself and never waived."""

    name: str
    result: Result
    message: str
    hard: bool = False


def check_prerequisites(attributes: KeyAttributes, now: datetime) -> tuple[Prerequisite, ...]:
    """Judge one key version by what its GET tells.

    Sources: Key Vault DeletionRecoveryLevel (purge protection); Azure Storage "Customer-managed keys for account
    encryption"; the user's requirements (RSA 2048, locks, trusted services).
    """
    return (
        *_check_recovery(attributes),
        _check_type(attributes),
        _check_size(attributes),
        _check_operations(attributes),
        _check_expiry(attributes, now),
        Prerequisite("VaultLock", Result.UNKNOWN, f"locks are not visible: {_READER}"),
        Prerequisite("TrustedServicesBypass", Result.UNKNOWN, f"the vault's firewall is not visible: {_READER}"),
    )


def failed(prerequisites: Iterable[Prerequisite], *, enforce: bool) -> tuple[Prerequisite, ...]:
    """Those that forbid new writes: all failures when enforced, else only what Azure refuses itself."""
    return tuple(entry for entry in prerequisites if entry.result is Result.FAIL and (enforce or entry.hard))


def _check_recovery(attributes: KeyAttributes) -> tuple[Prerequisite, ...]:
    level = attributes.recovery_level
    if not level:
        unknown = "the vault does not tell its recovery level"
        return (
            Prerequisite("SoftDelete", Result.UNKNOWN, unknown, hard=True),
            Prerequisite("PurgeProtection", Result.UNKNOWN, unknown, hard=True),
        )
    soft_delete = "Recoverable" in level
    purge_protection = soft_delete and "Purgeable" not in level
    span = f" for {attributes.recoverable_days} days" if attributes.recoverable_days is not None else ""
    return (
        Prerequisite(
            "SoftDelete",
            Result.PASS if soft_delete else Result.FAIL,
            f"deleted keys can be recovered{span}"
            if soft_delete
            else "the vault has no soft delete: the customer's administrator must enable it",
            hard=True,
        ),
        Prerequisite(
            "PurgeProtection",
            Result.PASS if purge_protection else Result.FAIL,
            "nobody can purge a deleted key before its retention ends"
            if purge_protection
            else "the vault has no purge protection: the customer's administrator must enable it",
            hard=True,
        ),
    )


def _check_type(attributes: KeyAttributes) -> Prerequisite:
    rsa = attributes.key_type in {"RSA", "RSA-HSM"}
    message = (
        f"the key is {attributes.key_type}"
        if rsa
        else f"the key is {attributes.key_type}, not RSA: the customer's administrator must create an RSA 2048 key"
    )
    return Prerequisite("KeyType", Result.PASS if rsa else Result.FAIL, message, hard=True)


def _check_size(attributes: KeyAttributes) -> Prerequisite:
    size = attributes.key_size
    if size is None:
        return Prerequisite("KeySize", Result.UNKNOWN, "the size is not known for this type of key")
    right = size == 2048
    message = (
        "the key has 2048 bits"
        if right
        else f"the key has {size} bits, not 2048: the customer's administrator must create an RSA 2048 key, or the platform "
        "engineer set spec.prerequisites to Warn where every service accepts this size"
    )
    return Prerequisite("KeySize", Result.PASS if right else Result.FAIL, message)


def _check_operations(attributes: KeyAttributes) -> Prerequisite:
    missing = [operation for operation in _NEEDED_OPERATIONS if operation not in attributes.operations]
    message = (
        "the key permits wrapKey and unwrapKey"
        if not missing
        else f"the key's own operations bar {' and '.join(missing)}: the customer's administrator must add them"
    )
    return Prerequisite("KeyOperations", Result.FAIL if missing else Result.PASS, message, hard=True)


def _check_expiry(attributes: KeyAttributes, now: datetime) -> Prerequisite:
    expires = attributes.expires
    if expires is None:
        return Prerequisite("KeyExpiry", Result.PASS, "the key version does not expire")
    day = expires.astimezone(UTC).strftime("%Y-%m-%d")
    if expires <= now:
        return Prerequisite(
            "KeyExpiry", Result.FAIL, f"the key version expired on {day}: the customer's administrator must rotate"
        )
    if expires - now < EXPIRY_WARNING:
        message = f"the key version expires on {day}: the customer's administrator should create a new version before"
        return Prerequisite("KeyExpiry", Result.PASS, message)
    return Prerequisite("KeyExpiry", Result.PASS, f"the key version expires on {day}")
