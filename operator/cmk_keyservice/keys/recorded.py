"""What the record of an organization says of its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_keyservice.audit.record import KEY_SERVICE, Event, Record

if TYPE_CHECKING:
    from cmk_keyservice.keys.wrapping import Made, Opened
    from cmk_keyservice.problem import Problem
    from cmk_keyservice.store.rows import DataKeyRow, NewDataKey, Rewrapped
    from cmk_keyservice.vaults.accepted import Organization


def key_used(row: DataKeyRow, opened: Opened) -> Record:
    """A data key came into this service's memory."""
    return Record(
        Event.KEY_USED,
        KEY_SERVICE,
        f"service {row.service} uses purpose {row.purpose}",
        data_key=str(row.id),
        target=row.kid,
        request_id=opened.request_id,
    )


def created(made: Made[NewDataKey]) -> Record:
    """A new epoch of a service and purpose."""
    row = made.row
    return Record(
        Event.DATA_KEY_CREATED,
        KEY_SERVICE,
        f"epoch {row.epoch} of service {row.service}, purpose {row.purpose}",
        data_key=str(row.id),
        after=row.kid,
        request_id=made.request_ids,
    )


def rewrapped(before: str, made: Made[Rewrapped]) -> Record:
    """A data key is under another key version."""
    return Record(
        Event.DATA_KEY_REWRAPPED,
        KEY_SERVICE,
        "the accepted key version is another one",
        data_key=str(made.row.id),
        before=before,
        after=made.row.kid,
        request_id=made.request_ids,
    )


def refused(kid: str, problem: Problem, request_id: str | None) -> Record:
    """A second try has confirmed a refusal: no data key is served any more."""
    return Record(Event.KEY_REFUSED, KEY_SERVICE, f"{problem.code}: {problem.detail}", target=kid, request_id=request_id or "")


def regained(kid: str) -> Record:
    """A look after a refusal succeeded."""
    return Record(Event.KEY_REGAINED, KEY_SERVICE, "the canary was unwrapped", target=kid)


def observed(organization: Organization, before: str) -> Record:
    """Settings are in force in the database from now on."""
    accepted = organization.accepted
    after = f"revision {accepted.revision}: {accepted.kid}" if accepted is not None else ""
    shown = f"{organization.namespace}/{organization.name}"
    return Record(
        Event.SETTINGS_OBSERVED, KEY_SERVICE, f"status.accepted of OrganizationKey {shown}", before=before, after=after
    )


def restored(reported: str) -> Record:
    """The database is older than a report that left it."""
    return Record(
        Event.DATABASE_RESTORED, KEY_SERVICE, f"the object has a report of {reported}, which the database does not know"
    )
