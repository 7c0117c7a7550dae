"""Whether a request of the provider's support makes somebody an administrator of an organization now; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

LONGEST: Final = timedelta(hours=24)
"""Longest time between the request and its end; the admission policy has the same bound."""


class RequestState(StrEnum):
    """What a request is worth now."""

    PENDING = "Pending"
    ACTIVE = "Active"
    ENDED = "Ended"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as it decides anything. `created` is the API server's own time."""

    requested_by: str
    approved_by: str | None
    created: datetime | None
    until: datetime
    deleting: bool = False


def judge(asked: Asked, now: datetime, *, known: bool) -> tuple[RequestState, str]:
    """The state of a request, and a sentence; `known`: an organization with its id exists.

    Who asked and who approved the admission policy has compared with who sent it; that they differ is checked here again.
    """
    if asked.deleting or now >= asked.until:
        return RequestState.ENDED, "it has no effect any more: make another request if it is still needed"
    if asked.created is None or asked.until - asked.created > LONGEST:
        return RequestState.REFUSED, "it would last for more than 24 hours: make another request with an earlier spec.until"
    if asked.approved_by is not None and asked.approved_by == asked.requested_by:
        return RequestState.REFUSED, "the same person asked for it and approved it: somebody else must make another request"
    if not known:
        return (
            RequestState.REFUSED,
            "no OrganizationKey names this organization: check its id with the customer, and make another request",
        )
    if asked.approved_by is None:
        return RequestState.PENDING, f"somebody other than {asked.requested_by} must approve it (spec.approvedBy)"
    return RequestState.ACTIVE, "spec.subject is an administrator of the organization in the console until spec.until"


def advice_after(
    subject: str,
    at: str,
    *,
    same_key: bool,
    kept_credentials: Collection[str],
) -> str | None:
    """What the organization should do after support made somebody its administrator; None once both are new.

    Source: the requirements, "create a new AKV key and credentials set ... ensuring that nobody else has access".
    """
    wanted = []
    if same_key:
        wanted.append("create a new key, or a new version of it,")
    if kept_credentials:
        wanted.append(f"create new credentials in place of {', '.join(sorted(kept_credentials))}")
    if not wanted:
        return None
    return (
        f"support made {subject} an administrator of the organization at {at}: the customer's administrator should "
        f"{' and '.join(wanted)} and save them, so that nobody else has access"
    )
