"""Checks what protects a key against loss; what the current grants do not show is Unknown, never Pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.core.prerequisites.control_plane import check_vault
from cmk_operator.core.prerequisites.data_plane import check_key, check_permissions, check_recovery, check_region
from cmk_operator.core.prerequisites.failover import check_failover
from cmk_operator.core.prerequisites.prerequisite import Prerequisite, PrerequisiteFacts, PrerequisiteName, Result, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ALL_PREREQUISITES", "Prerequisite", "PrerequisiteFacts", "Result", "Weight", "check_prerequisites", "failed"]

ALL_PREREQUISITES: Final = tuple(PrerequisiteName)
"""In the order in which they are shown."""


def check_prerequisites(facts: PrerequisiteFacts) -> tuple[Prerequisite, ...]:
    """Judge one key version and its vault; the checks of the key itself are left out while it cannot be read.

    Sources: Key Vault DeletionRecoveryLevel (purge protection); Azure Storage "Customer-managed keys for account
    encryption"; Key Vault "Network security" and "Lock your resources"; the user's requirements (RSA 2048, locks, 90 days,
    trusted services).
    """
    attributes = facts.probe.wanted.attributes
    of_the_key = check_key(facts, attributes) if attributes is not None else ()
    return (
        *check_recovery(facts, attributes),
        *of_the_key,
        check_permissions(facts),
        *check_vault(facts),
        check_region(facts),
        check_failover(facts),
    )


def failed(prerequisites: Iterable[Prerequisite], *, enforce: bool) -> tuple[Prerequisite, ...]:
    """The failed prerequisites that block new writes: what Azure refuses, what the manifest names, and with `enforce` the rest."""
    forbidding = {Weight.HARD, Weight.REQUIRED} | ({Weight.ENFORCED} if enforce else set())
    return tuple(entry for entry in prerequisites if entry.result is Result.FAIL and entry.weight in forbidding)
