"""What the provider's Licence allows one organization now, and what of that the key service must know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.core.faults.fault import Actor
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.organization.licence import (
    EVERY_METHOD,
    NOT_USED,
    AccessMethod,
    Change,
    LicenceState,
    Licensing,
    OrganizationLicence,
    Standing,
    not_read,
    refused_method,
    standing,
)
from cmk_operator.kubernetes.licences import Unread
from cmk_operator.reconcile.organization.acceptance import Refused, TestStage
from cmk_operator.reconcile.organization.settings import key_of

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.api.licence import LicenceSpec
    from cmk_operator.api.organization_key import AcceptedKey, OrganizationKey, OrganizationKeyStatus
    from cmk_operator.kubernetes.licences import Licences
    from cmk_operator.reconcile.organization.settings import Wanted


async def standing_of(licences: Licences, organization: OrganizationKey, now: datetime, *, anew: bool) -> Standing:
    """What the Licence allows the organization; `anew` reads it now."""
    if not licences.used:
        return NOT_USED
    found = await licences.read(anew=anew)
    customer_managed = organization.spec.customer_managed or (
        organization.status.accepted is not None and organization.status.accepted.mode == "CustomerManaged"
    )
    if isinstance(found, Unread):
        before = organization.status.accepted
        return not_read(found.message, encrypts=before is None or before.encrypt != "Refused")
    organization_id = organization.spec.organization.id
    return standing(
        organization_id,
        licence_in(found, organization_id),
        customer_managed=customer_managed,
        view_only_encrypts=found is None or found.view_only_encrypt != "Refused",
        methods=methods_in(found),
        now=now,
    )


def licence_in(found: LicenceSpec | None, organization_id: str) -> OrganizationLicence | None:
    """The entry of an organization; None if it has none."""
    entry = (found.organizations or {}).get(organization_id) if found is not None else None
    if entry is None:
        return None
    return OrganizationLicence(Licensing(entry.licensing), entry.plan, LicenceState(entry.state), entry.grace_until)


def methods_in(found: LicenceSpec | None) -> frozenset[AccessMethod]:
    """What the provider's platform offers: everything, if the Licence does not say."""
    return frozenset(map(AccessMethod, found.access_methods)) if found is not None and found.access_methods else EVERY_METHOD


def change_of(accepted: AcceptedKey | None, wanted: Wanted) -> Change:
    """How wanted settings that differ from those in force count for a licence."""
    if wanted.access is None:
        return Change.TO_PLATFORM
    if accepted is None or accepted.access is None or key_of(accepted) != wanted.key_uri:
        return Change.OTHER
    before, after = accepted.access, wanted.access
    # The rest of the access is the provider's, who may register an application anew while an organization is frozen.
    same_way = (before.method, before.client_id) == (after.method, after.client_id)
    return Change.SAME_WAY if same_way else Change.OTHER


def refused_by_licence(found: Standing, accepted: AcceptedKey | None, wanted: Wanted) -> Refused | None:
    """Why settings are not even tested; None if the licence and the provider's platform allow them."""
    change = change_of(accepted, wanted)
    if not found.allows(change):
        return Refused(TestStage.LICENCE, found.reason, found.message, Actor.PROVIDER_ADMINISTRATOR)
    method = wanted.access.method if wanted.access is not None else None
    in_use = accepted.access.method if accepted is not None and accepted.access is not None else None
    if method is None or method == in_use:
        return None
    message = refused_method(AccessMethod(method), found.methods)
    return (
        Refused(TestStage.LICENCE, Reason.ACCESS_NOT_OFFERED, message, Actor.PLATFORM_ENGINEER) if message is not None else None
    )


def with_encryption(status: OrganizationKeyStatus, found: Standing) -> OrganizationKeyStatus:
    """The status, with whether the key service may encrypt new data; the revision stays, because nothing of the key changes."""
    if status.accepted is None:
        return status
    encrypt = None if found.encrypts else "Refused"
    return status.model_copy(update={"accepted": status.accepted.model_copy(update={"encrypt": encrypt})})
