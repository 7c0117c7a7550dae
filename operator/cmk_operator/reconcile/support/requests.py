"""One pass over all SupportRequests: judges each, tells its makers, and wakes the organizations that it concerns."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from cmk_operator.api.organization_key import MOST_PROMOTIONS, Promotion
from cmk_operator.api.support_request import SupportRequest, SupportRequestStatus
from cmk_operator.core.organization.support import RequestState, judge
from cmk_operator.core.schedule import Next
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.status import reference_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import Any

    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.collaborators.reporting import Reporting

LANE: Final = "support"
ALL: Final = ObjectReference(LANE, "", "requests")
"""The one item of the lane: there are few requests, so they are read together."""
READ_EVERY: Final = 5.0
_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Support:
    """Whom support has made administrators, by organization; nothing is known before the first pass."""

    known: bool
    _active: dict[ObjectReference, tuple[Promotion, ...]] = field(default_factory=dict)

    def of(self, reference: ObjectReference) -> tuple[Promotion, ...] | None:
        """The promotions in force for one OrganizationKey; None if the requests have not been read yet."""
        return self._active.get(reference, ()) if self.known else None

    def note(self, active: Mapping[ObjectReference, tuple[Promotion, ...]]) -> set[ObjectReference]:
        """Replace what is known; returns the organizations for which it has changed."""
        before, self._active, first = self._active, dict(active), not self.known
        self.known = True
        named = {*before, *active}
        return named if first else {one for one in named if before.get(one) != self._active.get(one)}


async def read_requests(cluster: Cluster, reporting: Reporting, support: Support, _: ObjectReference) -> Next:
    """Judge every SupportRequest. Raises KubernetesError."""
    if not cluster.inventory.complete:
        return Next(after=1.0)
    now = reporting.now()
    active: dict[ObjectReference, tuple[Promotion, ...]] = {}
    requests: list[SupportRequest] = []
    async for page in cluster.client.pages(SupportRequest.plural):
        requests += _readable(page.items)
    for request in sorted(requests, key=lambda one: (one.metadata.creation_timestamp or now, one.metadata.name)):
        owner = cluster.inventory.owner_of_organization(request.spec.organization_id)
        reference = reference_of(owner) if owner is not None else None
        if not (cluster.serves(reference) if reference is not None else not cluster.operator_class):
            continue  # Another class of operators answers.
        state, message = judge(request.asked, now, known=reference is not None)
        if state is RequestState.ACTIVE and reference is not None:
            active[reference] = (*active.get(reference, ()), _promotion(request, now))[:MOST_PROMOTIONS]
        await _tell(cluster, request, SupportRequestStatus(state=state, message=message, organization=_shown(reference)))
    for reference in support.note(_kept_since(support, active)):
        cluster.wake(reference, 0.0)
    return Next(after=READ_EVERY)


def _readable(items: Iterable[Mapping[str, Any]]) -> list[SupportRequest]:
    found = []
    for item in items:
        try:
            found.append(SupportRequest.model_validate(item))
        except ValidationError:
            _LOG.error(
                "a SupportRequest has a form that this release does not read, and has no effect: bring the definitions up to date"
            )
    return found


def _promotion(request: SupportRequest, now: datetime) -> Promotion:
    spec = request.spec
    return Promotion(
        request=request.metadata.name,
        uid=request.metadata.uid,
        subject=spec.subject,
        requested_by=spec.requested_by,
        approved_by=spec.approved_by or "",
        ticket=spec.ticket,
        until=spec.until,
        since=now.replace(microsecond=0),
    )


def _kept_since(
    support: Support, active: Mapping[ObjectReference, tuple[Promotion, ...]]
) -> dict[ObjectReference, tuple[Promotion, ...]]:
    """The promotions with the time at which each was first seen by this process, so that an unchanged one is the same."""
    kept = {}
    for reference, promotions in active.items():
        known = {one.uid: one for one in support.of(reference) or ()}
        kept[reference] = tuple(known.get(one.uid, one) for one in promotions)
    return kept


def _shown(reference: ObjectReference | None) -> str | None:
    return str(reference) if reference is not None else None


async def _tell(cluster: Cluster, request: SupportRequest, status: SupportRequestStatus) -> None:
    if status == request.status:
        return
    reference = ObjectReference(SupportRequest.plural, "", request.metadata.name)
    wire = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    await cluster.client.apply_status(reference, SupportRequest.__name__, request.metadata.uid, wire)
