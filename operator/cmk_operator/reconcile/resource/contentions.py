"""Knows which resources somebody else keeps changing back, from status and from passes whose status is not written yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.encrypted_resource import ContentionReport
from cmk_operator.core.encryption.contention import Contention, change_due, in_place, paused_until, wanted_of
from cmk_operator.core.text.rfc3339 import to_rfc3339
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.reconcile.resource.outcome import Settled

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.core.encryption.protection import KeyChoice
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.reconcile.resource.outcome import ResourceOutcome


class Contentions:
    """Counts changes back; status keeps what a restart must not lose."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._unreported: dict[ObjectReference, Contention] = {}

    def pause(self, resource: EncryptedResource, want: KeyChoice) -> tuple[float, str] | None:
        """Note a change that is due and may be made; returns the seconds to wait first and the message, or None to write now."""
        now = self._now()
        state = change_due(self._before(resource), wanted_of(want, resource.metadata.generation), now)
        self._unreported[reference_of(resource)] = state
        until = paused_until(state, now)
        return ((until - now).total_seconds(), contested_message(state, until)) if until is not None else None

    def after(self, resource: EncryptedResource, outcome: ResourceOutcome, want: KeyChoice) -> Contention | None:
        """The state after a pass; None if the operator has not changed the resource yet."""
        noted = self._unreported.get(reference_of(resource))
        if not isinstance(outcome, Settled):
            return noted or known_contention(resource)
        wanted = noted.wanted if noted is not None else wanted_of(want, resource.metadata.generation)
        state = in_place(self._before(resource), wanted, self._now())
        if noted is not None and state is not None:
            # If the status cannot be written, the next pass must say the same time.
            self._unreported[reference_of(resource)] = state
        return state

    def forget(self, reference: ObjectReference) -> None:
        """Forget an object that is gone, or whose status is written."""
        self._unreported.pop(reference, None)

    def _before(self, resource: EncryptedResource) -> Contention | None:
        return self._unreported.get(reference_of(resource)) or known_contention(resource)


def known_contention(resource: EncryptedResource) -> Contention | None:
    """What status says."""
    known = resource.status.contention
    return Contention(known.wanted, known.in_place_since, known.changed_back) if known is not None else None


def contention_report(state: Contention | None) -> ContentionReport | None:
    """What status keeps."""
    if state is None:
        return None
    return ContentionReport(wanted=state.wanted, in_place_since=state.in_place_since, changed_back=state.changed_back)


def contested_message(state: Contention, until: datetime | None = None) -> str:
    """Who must do what about a contested resource, and what the operator does meanwhile; the same until something happens."""
    newest, oldest = state.changed_back[0], state.changed_back[-1]
    if until is not None:
        then = f"; until that is done the operator sets them again more and more slowly, and next at {to_rfc3339(until)}"
    elif state.in_place_since is not None:
        then = "; they are as the manifest wants them now, and the resource is contested until they have stayed so for an hour"
    else:
        then = ""
    return (
        f"somebody else keeps changing the resource's encryption settings back: {len(state.changed_back)} times from "
        f"{to_rfc3339(oldest)} to {to_rfc3339(newest)}; the platform engineer must take these settings of the resource out of the "
        "other tool, such as Terraform, Bicep, Azure Service Operator or an Azure Policy (the activity log of the resource names "
        f"the caller){then}"
    )
