"""What changed for an organization: entries of the audit record, and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.conditions import find, is_awaited
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.audit.change import OBSERVED, OPERATOR, PROVIDER, UNKNOWN_AUTHOR, Change, Event, identity_of
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import EventReason, Reason
from cmk_operator.core.text.rfc3339 import to_rfc3339
from cmk_operator.reconcile.audit import author_of, subject_of
from cmk_operator.reconcile.collaborators.seen_again import tell_seen_again, was_seen_again

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cmk_operator.api.conditions import Condition
    from cmk_operator.api.organization_key import (
        AcceptedKey,
        BreakGlassUse,
        OrganizationKey,
        OrganizationKeyStatus,
        Promotion,
    )
    from cmk_operator.kubernetes.events import Severity
    from cmk_operator.reconcile.collaborators.reporting import Reporting


def changes_of(
    organization: OrganizationKey, status: OrganizationKeyStatus, request_id: str | None, now: datetime, *, automatic: bool
) -> tuple[Change, ...]:
    """The changes between a status and its next one: which settings are in force, and whether their key is accessible.

    `automatic`: a new version was taken without a change of the manifest.
    """
    return (
        *_of_settings(organization, status, request_id, now, automatic=automatic),
        *_of_access(organization, status, request_id, now),
        *_of_licence(organization, status, now),
        *_of_break_glass(organization),
        *_of_support(organization, status, now),
    )


def _of_settings(
    organization: OrganizationKey, status: OrganizationKeyStatus, request_id: str | None, now: datetime, *, automatic: bool
) -> Iterator[Change]:
    before, after = organization.status.accepted, status.accepted
    if after is None or (before is not None and before.revision == after.revision):
        return
    generation, author = organization.metadata.generation, author_of(organization)
    asked = f"generation {generation}, {author}"
    yield Change(
        identity_of(organization.metadata.uid, "accepted", str(after.revision), after.kid),
        to_rfc3339(now),
        Event.KEY_CHANGED,
        subject_of(organization),
        OPERATOR if automatic else author,
        _shown(before) if before is not None else "",
        _shown(after),
        f"a new version of the key, which the manifest follows ({asked}), has passed its test"
        if automatic
        else f"the settings of the manifest have passed their test ({asked}){_unlicensed(before, after, status)}",
        f"organization {organization.spec.organization.id}",
        request_id,
    )


def _unlicensed(before: AcceptedKey | None, after: AcceptedKey, status: OrganizationKeyStatus) -> str:
    """Flags what came into force although the settings are frozen: renewed credentials, and the one way to the platform's key."""
    found = find(status.conditions, ConditionType.LICENCE_ALLOWS_CHANGE)
    if found is None or found.status != "False" or before is None:
        return ""
    what = "the credentials were renewed" if after.mode == before.mode else "to the platform's key, without a way back"
    return f"; the licence allows nothing else ({found.reason}): {what}"


def _of_licence(organization: OrganizationKey, status: OrganizationKeyStatus, now: datetime) -> Iterator[Change]:
    kind = ConditionType.LICENCE_ALLOWS_CHANGE
    before, after = (
        find(organization.status.conditions, kind),
        _changed(organization.status.conditions, status.conditions, kind),
    )
    if after is None or (before is None and after.reason == Reason.LICENCES_NOT_USED):
        return
    since = before.last_transition_time.isoformat() if before is not None else ""
    yield Change(
        identity_of(
            organization.metadata.uid, "licence", f"{since} {before.reason if before is not None else ''}", after.reason
        ),
        to_rfc3339(now),
        Event.LICENCE_CHANGED,
        subject_of(organization),
        PROVIDER if after.status != "Unknown" else UNKNOWN_AUTHOR,
        before.reason if before is not None else "",
        after.reason,
        f"{after.reason}: {after.message}",
        f"organization {organization.spec.organization.id}",
        None,
    )


def unrecorded_uses(status: OrganizationKeyStatus) -> tuple[BreakGlassUse, ...]:
    """Uses of break-glass accounts that the console reports and the record does not have yet, oldest first."""
    reported = status.break_glass.uses if status.break_glass is not None else ()
    return tuple(one for one in reversed(reported) if one not in status.recorded_break_glass_uses)


def _of_break_glass(organization: OrganizationKey) -> Iterator[Change]:
    for use in unrecorded_uses(organization.status):
        at = to_rfc3339(use.at)
        yield Change(
            identity_of(organization.metadata.uid, "break-glass", at, use.account),
            at,
            Event.BREAK_GLASS_USED,
            subject_of(organization),
            f"break-glass:{use.account} ({use.person})",
            "",
            "signed in",
            f"somebody signed in to the console with the break-glass account {use.account}, which is {use.person}'s",
            f"organization {organization.spec.organization.id}",
        )


def promoted(before: OrganizationKeyStatus, after: OrganizationKeyStatus) -> tuple[list[Promotion], list[Promotion]]:
    """The promotions by support that have begun, and those that have ended."""
    old, new = ({one.uid: one for one in of.support.active} if of.support is not None else {} for of in (before, after))
    begun = [one for uid, one in new.items() if uid not in old]
    return begun, [one for uid, one in old.items() if uid not in new]


def _of_support(organization: OrganizationKey, status: OrganizationKeyStatus, now: datetime) -> Iterator[Change]:
    begun, ended = promoted(organization.status, status)
    for one in begun:
        yield _change_of(
            organization,
            one,
            Event.ADMINISTRATOR_PROMOTED,
            now,
            f"{one.requested_by}, approved by {one.approved_by}",
            f"{one.subject} is an administrator in the console until {to_rfc3339(one.until)}: SupportRequest {one.request}, ticket "
            f"{one.ticket}",
        )
    for one in ended:
        over = one.until <= now
        why = "its time is over" if over else "the SupportRequest was withdrawn"
        yield _change_of(
            organization,
            one,
            Event.PROMOTION_ENDED,
            now,
            OPERATOR if over else UNKNOWN_AUTHOR,
            f"{one.subject} is no administrator by SupportRequest {one.request} any more: {why}",
        )


def _change_of(organization: OrganizationKey, one: Promotion, event: Event, now: datetime, by: str, why: str) -> Change:
    begins = event is Event.ADMINISTRATOR_PROMOTED
    return Change(
        identity_of(organization.metadata.uid, event.value, one.uid),
        to_rfc3339(now),
        event,
        subject_of(organization),
        by,
        "" if begins else one.subject,
        one.subject if begins else "",
        why,
        f"organization {organization.spec.organization.id}",
    )


def _shown(accepted: AcceptedKey) -> str:
    how = f", by {accepted.access.method}" if accepted.access is not None else ""
    return f"revision {accepted.revision}: {accepted.kid}{how}"


def _of_access(
    organization: OrganizationKey, status: OrganizationKeyStatus, request_id: str | None, now: datetime
) -> Iterator[Change]:
    before = find(organization.status.conditions, ConditionType.KEY_ACCESSIBLE)
    after = find(status.conditions, ConditionType.KEY_ACCESSIBLE)
    if after is None or (before is not None and (before.status, before.reason) == (after.status, after.reason)):
        return
    if before is None and status.accepted is None:
        return
    since = before.last_transition_time.isoformat() if before is not None else ""
    yield Change(
        identity_of(
            organization.metadata.uid, "access", f"{since} {before.reason if before is not None else ''}", after.reason
        ),
        to_rfc3339(now),
        Event.KEY_ACCESS_CHANGED,
        subject_of(organization),
        UNKNOWN_AUTHOR if after.status == "Unknown" else OBSERVED,
        before.reason if before is not None else "",
        after.reason,
        f"{after.reason}: {after.message}",
        status.accepted.kid if status.accepted is not None else "",
        request_id,
    )


async def record_events(reporting: Reporting, organization: OrganizationKey, status: OrganizationKeyStatus) -> None:
    """Create the events of what changed with a written status."""
    before = organization.status
    if was_seen_again(before.conditions, status.conditions):
        await tell_seen_again(reporting, organization)

    async def record(kind: Severity, reason: Reason | EventReason, note: str, action: str) -> None:
        await reporting.events.record(organization, kind, reason, note, action)

    accepted = status.accepted
    if accepted is not None and (before.accepted is None or before.accepted.revision != accepted.revision):
        note = f"revision {accepted.revision} is in force: {accepted.kid}"
        await record("Normal", EventReason.SETTINGS_ACCEPTED, note, "TestSettings")
    settings = find(status.conditions, ConditionType.CONFIGURATION_ACCEPTED)
    if settings is not None and settings.status == "False" and _is_new_refusal(settings, before.conditions, status.conditions):
        await record("Warning", EventReason.SETTINGS_REFUSED, f"{settings.reason}: {settings.message}", "TestSettings")
    access = _changed(before.conditions, status.conditions, ConditionType.KEY_ACCESSIBLE)
    if access is not None and accepted is not None:
        well = access.status == "True" and access.known_reason in {Reason.ACCESSIBLE, Reason.PLATFORM_MANAGED}
        await record("Normal" if well else "Warning", _event_of(access.known_reason), access.message, "ProbeKey")
    rotation = _changed(before.conditions, status.conditions, ConditionType.ROTATION_CURRENT)
    if rotation is not None and rotation.status == "False":
        await record("Warning", rotation.known_reason, rotation.message, "CheckVersion")
    await _record_warnings(reporting, organization, status)


async def _record_warnings(reporting: Reporting, organization: OrganizationKey, status: OrganizationKeyStatus) -> None:
    """Create the events of advice that is new, of a licence that changes, and of credentials that come nearer to their end."""
    before = organization.status
    for advice in status.advice:
        if advice not in before.advice:
            await reporting.events.record(organization, "Warning", EventReason.ADVICE, advice, "CheckVersion")
    licence = _changed(before.conditions, status.conditions, ConditionType.LICENCE_ALLOWS_CHANGE)
    if licence is not None and not (before.conditions == () and licence.status == "True"):
        severity: Severity = "Normal" if licence.status == "True" and licence.reason != Reason.LICENCE_GRACE else "Warning"
        await reporting.events.record(organization, severity, licence.known_reason, licence.message, "ReadLicence")
    for use in unrecorded_uses(before):
        note = (
            f"somebody signed in to the console with the break-glass account {use.account}, which is {use.person}'s, at "
            f"{to_rfc3339(use.at)}: if it was not {use.person}, the provider's administrator must write its entry anew at once"
        )
        await reporting.events.record(organization, "Warning", EventReason.BREAK_GLASS_USED, note, "SignIn")
    begun, ended = promoted(before, status)
    for promotion in begun:
        note = (
            f"support ({promotion.requested_by}, approved by {promotion.approved_by}) made {promotion.subject} an administrator in the "
            f"console until {to_rfc3339(promotion.until)}"
        )
        await reporting.events.record(organization, "Warning", EventReason.ADMINISTRATOR_PROMOTED, note, "Promote")
    for promotion in ended:
        note = f"{promotion.subject} is no administrator by SupportRequest {promotion.request} any more"
        await reporting.events.record(organization, "Normal", EventReason.PROMOTION_ENDED, note, "Promote")
    known = {(one.secret, one.key): one.warned_days for one in before.credentials}
    for one in status.credentials:
        warned = known.get((one.secret, one.key))
        if one.warned_days is not None and (warned is None or one.warned_days < warned):
            reason = Reason.CREDENTIAL_EXPIRES_SOON if one.warned_days else Reason.CREDENTIAL_EXPIRED
            when = f"expires within {one.warned_days} days" if one.warned_days else "has expired"
            note = (
                f"the credential in Secret {one.secret} ({one.key}) {when}, at {one.expires}: the customer's administrator must "
                "create a new one"
            )
            await reporting.events.record(organization, "Warning", reason, note, "CheckCredential")


def _is_new_refusal(settings: Condition, before: tuple[Condition, ...], after: tuple[Condition, ...]) -> bool:
    """Whether nobody has been told yet; of what is still on its way, nobody is told."""
    changed = _changed(before, after, ConditionType.CONFIGURATION_ACCEPTED) is not None
    return not is_awaited(after, settings.reason) and (changed or is_awaited(before, settings.reason))


def _changed(before: tuple[Condition, ...], after: tuple[Condition, ...], kind: ConditionType) -> Condition | None:
    """The condition, if its status or reason is new."""
    old, new = find(before, kind), find(after, kind)
    if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
        return None
    return new


def _event_of(reason: Reason) -> Reason | EventReason:
    """The event of a state of access; a reason that is no such state is its own event."""
    state = AccessState.read(reason.value)
    return EventReason.of_access(state.reason) if state.value == reason.value else reason
