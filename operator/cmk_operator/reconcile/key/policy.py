"""The policy that a `CustomerManagedKey` sets, with defaults for what it leaves out; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.customer_managed_key import EffectiveKey
from cmk_operator.core.rotation.adoption import AdoptionPolicy

if TYPE_CHECKING:
    from cmk_operator.api.customer_managed_key import CustomerManagedKey


def is_pinned(key: CustomerManagedKey) -> bool:
    """Whether the manifest pins a version."""
    return key.spec.uri is not None and key.spec.uri.version is not None


def adoption_policy(key: CustomerManagedKey) -> AdoptionPolicy:
    """How resources move to new versions of the key."""
    rotation = key.spec.rotation
    if rotation is None or is_pinned(key):
        return AdoptionPolicy(by_operator=False, needs_approval=False)
    return AdoptionPolicy(by_operator=rotation.apply == "Immediately", needs_approval=rotation.approval == "Manual")


def effective_key_policy(key: CustomerManagedKey) -> EffectiveKey:
    """The values in force: from the manifest, or the defaults."""
    rotation = key.spec.rotation
    pinned = is_pinned(key)
    return EffectiveKey(
        rotation="Pinned" if pinned else "Following",
        apply=None if pinned else (rotation.apply if rotation is not None else None) or "AzureSchedule",
        approval=None if pinned else (rotation.approval if rotation is not None else None) or "Automatic",
        prerequisites=key.spec.prerequisites or "Enforce",
        region_failover=key.spec.region_failover or "Report",
        hold_superseded_for=(rotation.hold_superseded_for if rotation is not None else None) or "24h",
    )


def enforces_prerequisites(key: CustomerManagedKey) -> bool:
    """Whether a failed prerequisite blocks new writes with the key."""
    return (key.spec.prerequisites or "Enforce") == "Enforce"
