"""What status says of administrators whom the provider's support has made, and what to advise afterwards; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.organization_key import Promotion, SupportReport
from cmk_operator.core.organization.support import advice_after
from cmk_operator.core.text.rfc3339 import to_rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.api.organization_key import AcceptedKey, OrganizationKeyStatus


def with_support(status: OrganizationKeyStatus, found: tuple[Promotion, ...] | None, now: datetime) -> OrganizationKeyStatus:
    """The status with the promotions in force; None: the requests were not read, so that those of before go on to their end."""
    before = status.support or SupportReport()
    known = {one.uid: one for one in before.active}
    active = tuple(known.get(one.uid, one) for one in (found if found is not None else before.active) if one.until > now)
    new = [one for one in active if one.uid not in known]
    report = before.model_copy(update={"active": active})
    accepted = status.accepted
    if new:
        report = report.model_copy(
            update={
                "last": max(new, key=lambda one: (one.since, one.request)),
                "kid": accepted.kid if accepted is not None and accepted.mode == "CustomerManaged" else None,
                "credentials": tuple(sorted(_credentials(accepted))),
            }
        )
    if report.last is None:
        return status.model_copy(update={"support": None})
    kept = _credentials(accepted) & set(report.credentials)
    advice = advice_after(
        report.last.subject,
        to_rfc3339(report.last.since),
        same_key=accepted is not None and report.kid is not None and accepted.kid == report.kid,
        kept_credentials=kept,
    )
    return status.model_copy(update={"support": report.model_copy(update={"advice": advice})})


def _credentials(accepted: AcceptedKey | None) -> set[str]:
    access = accepted.access if accepted is not None else None
    return {f"{one.secret}/{one.key}" for one in access.credentials} if access is not None else set()
