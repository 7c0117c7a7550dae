"""Tells tenants that allow the same resources of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import Aspect, find
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import Reason
from cmk_operator.kubernetes.client import ObjectReference

if TYPE_CHECKING:
    from cmk_operator.core.authority import TenantGrant
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.reconcile.collaborators.cluster import Cluster

DISTINCT: Final = Aspect(
    ConditionType.SCOPES_DISTINCT, "True", Reason.DISTINCT, "no other CustomerTenant allows any of the same resources"
)
NAMES_SHOWN: Final = 3


def scopes_distinct(inventory: Inventory, tenant: CustomerTenant) -> Aspect:
    """Whether no other tenant allows any of the same resources; pure."""
    others = sorted(reference.name for reference in inventory.allowing_the_same(_reference_of(tenant)))
    if not others:
        return DISTINCT
    found = ((name, inventory.get(CustomerTenant, name)) for name in others[:NAMES_SHOWN])
    shown = [f"{name} ({_shared(tenant.grant, other.grant)})" for name, other in found if other is not None]
    more = " and others" if len(others) > NAMES_SHOWN else ""
    message = (
        f"other CustomerTenants allow some of the same resources: {', '.join(shown)}{more}; the provider's administrator must correct "
        "what the tenants allow, so that each resource belongs to one of them; until then nothing new is written to a resource that "
        "manifests of several tenants name"
    )
    return Aspect(ConditionType.SCOPES_DISTINCT, "False", Reason.SCOPES_OVERLAP, message)


def _shared(ours: TenantGrant, theirs: TenantGrant) -> str:
    """One resource or scope that both allow."""
    for one in ours.scopes:
        for other in theirs.scopes:
            if one.lies_in(other):
                return one.text
            if other.lies_in(one):
                return other.text
    return next((one.text for one in ours.listed if one.key in {other.key for other in theirs.listed}), "")


def wake_untold(cluster: Cluster, reference: ObjectReference, *, is_new: bool) -> None:
    """Enqueue each tenant whose status does not say what a tenant that is new, changed or gone means for it."""
    inventory = cluster.inventory
    others = inventory.allowing_the_same(reference) if is_new else set(inventory.all(CustomerTenant.plural)) - {reference}
    for other in others:
        tenant = inventory.get(CustomerTenant, other.name)
        told = find(tenant.status.conditions, ConditionType.SCOPES_DISTINCT) if tenant is not None else None
        if told is not None and (told.status == "True") == bool(inventory.allowing_the_same(other)):
            cluster.wake(other, 0.0)


def _reference_of(tenant: CustomerTenant) -> ObjectReference:
    return ObjectReference(CustomerTenant.plural, "", tenant.metadata.name)
