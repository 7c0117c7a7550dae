"""Keeps an `OrganizationKey` while data keys may be on it: without the object, nobody knows how their key is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.api.model import CONFIRM_DELETION
from cmk_operator.core.faults.fault import Actor, Fault, blocked
from cmk_operator.core.faults.reason import EventReason, Reason
from cmk_operator.reconcile.collaborators.revert_finalizer import set_finalizer
from cmk_operator.reconcile.organization.report import counted_data_keys

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.api.organization_key import OrganizationKey, OrganizationKeyStatus
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.collaborators.reporting import Reporting

DATA_KEYS_FINALIZER: Final = "cmk-operator.dev/data-keys"


async def hold(cluster: Cluster, organization: OrganizationKey) -> None:
    """Give the object its finalizer before its settings come into force. One that is being deleted cannot get it any more."""
    metadata = organization.metadata
    if DATA_KEYS_FINALIZER not in metadata.finalizers and metadata.deletion_timestamp is None:
        await set_finalizer(cluster, organization, present=True, finalizer=DATA_KEYS_FINALIZER)


def held_by(organization: OrganizationKey, status: OrganizationKeyStatus, now: datetime) -> Fault | None:
    """Why a deletion waits; None if none is requested, or nothing keeps it."""
    metadata, spec = organization.metadata, organization.spec
    if metadata.deletion_timestamp is None or DATA_KEYS_FINALIZER not in metadata.finalizers:
        return None
    if metadata.annotations.get(CONFIRM_DELETION) == spec.organization.name:
        return None
    counted = counted_data_keys(status, now)
    if counted is not None and not any(counted.values()):
        return None
    what = "how many data keys are on it is not known" if counted is None else "data keys are on it"
    return blocked(
        Reason.DELETION_HELD,
        f"the deletion waits, because {what}, and without this object nobody can read what they encrypt; everything goes on being served: "
        "the platform engineer must confirm it by the annotation "
        f"{CONFIRM_DELETION}={spec.organization.name!r}, or keep the manifest, delete and apply it again after that; the vault and the "
        "database are not changed in any case",
        Actor.PLATFORM_ENGINEER,
    )


async def released(cluster: Cluster, reporting: Reporting, organization: OrganizationKey) -> bool:
    """Let an object go whose deletion nothing keeps; returns whether it is gone with that. Raises `KubernetesError`."""
    metadata = organization.metadata
    if metadata.deletion_timestamp is None or DATA_KEYS_FINALIZER not in metadata.finalizers:
        return False
    held = held_by(organization, organization.status, reporting.now())
    if held is None:
        left = await set_finalizer(cluster, organization, present=False, finalizer=DATA_KEYS_FINALIZER)
        return not left
    if organization.status.observed_generation != metadata.generation:
        await reporting.events.record(organization, "Warning", EventReason.DELETION_WAITS, held.message, "Delete")
    return False
