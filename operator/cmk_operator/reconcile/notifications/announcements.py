"""Selects the changes of a status that are reported outside Kubernetes; pure.

They are added to the same status that shows the change. One write holds both, so a crash keeps or loses both, and in the second
case the next pass finds the same change again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import find
from cmk_operator.api.notifications import MOST_PENDING, NotificationsReport, PendingNotification
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.notification import NotificationType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cmk_operator.api.customer_managed_key import CustomerManagedKey, CustomerManagedKeyStatus
    from cmk_operator.api.encrypted_resource import AppliedKey, EncryptedResource, EncryptedResourceStatus
    from cmk_operator.api.model import Metadata
    from cmk_operator.api.organization_key import OrganizationKey, OrganizationKeyStatus

ACCESSIBLE: Final = "Accessible"
LOST: Final = "Lost"
_MESSAGE_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Audience:
    """Whether a receiver listens to an object (None: not known now), and the number of the last event delivered to it."""

    listening: bool | None
    delivered: int = 0


@dataclass(frozen=True, slots=True)
class _Event:
    type: NotificationType
    key_uri: str
    key_version: str | None
    state: str | None
    message: str


def announce_resource(
    resource: EncryptedResource, status: EncryptedResourceStatus, audience: Audience, now: datetime
) -> EncryptedResourceStatus:
    """Add to the status the events for receivers: encryption with the wanted key began or ended.

    A receiver that is added later also gets an event for encryption that is already active.
    """
    before = resource.status.notifications
    if not audience.listening:
        return status.model_copy(update={"notifications": before if audience.listening is None else None})
    announced = before.announced if before is not None else None
    encrypted, applied = find(status.conditions, ConditionType.ENCRYPTED), status.applied
    truth, message = (encrypted.status, encrypted.message) if encrypted is not None else ("Unknown", "")
    events: list[_Event] = []
    key = _key_of(applied)
    if truth == "True" and key is not None and applied is not None and key != announced:
        events.append(_Event(NotificationType.ENCRYPTION_ACTIVE, key, applied.version or None, None, message))
        announced = key
    elif truth == "False" and announced is not None and key != announced:
        events.append(_Event(NotificationType.ENCRYPTION_INACTIVE, announced, None, None, message))
        announced = None
    report = _with_events(resource.metadata, before, audience.delivered, events, now)
    return status.model_copy(update={"notifications": report.model_copy(update={"announced": announced})})


def _key_of(applied: AppliedKey | None) -> str | None:
    """The URI of the key that protects a resource, without its version."""
    uri = applied.uri if applied is not None else None
    return str(uri.versionless) if uri is not None else None


def encryption_changed(before: EncryptedResourceStatus, after: EncryptedResourceStatus) -> NotificationType | None:
    """Whether encryption with the wanted key began or ended between two statuses; an unknown state is no change."""
    was, now = find(before.conditions, ConditionType.ENCRYPTED), find(after.conditions, ConditionType.ENCRYPTED)
    if now is None or now.status == "Unknown":
        return None
    held = _key_of(before.applied) if was is not None and was.status != "False" else None
    if now.status == "True":
        return NotificationType.ENCRYPTION_ACTIVE if _key_of(after.applied) != held else None
    return NotificationType.ENCRYPTION_INACTIVE if held is not None and _key_of(after.applied) != held else None


def announce_key(
    key: CustomerManagedKey, status: CustomerManagedKeyStatus, audience: Audience, now: datetime
) -> CustomerManagedKeyStatus:
    """Add to the status the events for receivers: the key was lost, restored or rotated. An outage is none of these."""
    before = key.status.notifications
    if not audience.listening:
        return status.model_copy(update={"notifications": before if audience.listening is None else None})
    announced = before.announced if before is not None else None
    version = before.announced_version if before is not None else None
    state = AccessState.read(status.access.state) if status.access is not None else AccessState.UNKNOWN
    accessible = find(status.conditions, ConditionType.KEY_ACCESSIBLE)
    message = accessible.message if accessible is not None else ""
    events: list[_Event] = []
    if state is AccessState.ACCESSIBLE:
        if announced == LOST:
            events.append(_of_key(NotificationType.KEY_RESTORED, key, status, message))
        announced = ACCESSIBLE
    elif state.is_known_loss and announced == ACCESSIBLE:
        events.append(_of_key(NotificationType.KEY_LOST, key, status, message))
        announced = LOST
    if status.active_version is not None and status.active_version != version:
        if version is not None:
            rotated = f"version {status.active_version} replaces {version}"
            events.append(_of_key(NotificationType.KEY_ROTATED, key, status, rotated))
        version = status.active_version
    report = _with_events(key.metadata, before, audience.delivered, events, now)
    update = {"announced": announced, "announced_version": version}
    return status.model_copy(update={"notifications": report.model_copy(update=update)})


def announce_organization(
    organization: OrganizationKey, status: OrganizationKeyStatus, audience: Audience, now: datetime
) -> OrganizationKeyStatus:
    """Add to the status the events for receivers: the key in force was lost, restored or replaced. An outage is none of these."""
    before = organization.status.notifications
    if not audience.listening:
        return status.model_copy(update={"notifications": before if audience.listening is None else None})
    announced = before.announced if before is not None else None
    known = before.announced_version if before is not None else None
    accessible = find(status.conditions, ConditionType.KEY_ACCESSIBLE)
    accepted = status.accepted
    events: list[_Event] = []
    if accessible is not None and accepted is not None:
        if accessible.status == "True":
            if announced == LOST:
                restored = NotificationType.KEY_RESTORED
                events.append(_Event(restored, accepted.kid, None, accessible.reason, accessible.message))
            announced = ACCESSIBLE
        elif accessible.status == "False" and announced == ACCESSIBLE:
            events.append(_Event(NotificationType.KEY_LOST, accepted.kid, None, accessible.reason, accessible.message))
            announced = LOST
        if accepted.kid != known:
            if known is not None:
                replaced = f"{accepted.kid} replaces {known}"
                events.append(_Event(NotificationType.KEY_ROTATED, accepted.kid, None, accessible.reason, replaced))
            known = accepted.kid
    report = _with_events(organization.metadata, before, audience.delivered, events, now)
    return status.model_copy(
        update={"notifications": report.model_copy(update={"announced": announced, "announced_version": known})}
    )


def _of_key(kind: NotificationType, key: CustomerManagedKey, status: CustomerManagedKeyStatus, message: str) -> _Event:
    state = status.access.state if status.access is not None else None
    return _Event(kind, key.spec.key_uri, status.active_version, state, message)


def _with_events(
    metadata: Metadata, before: NotificationsReport | None, delivered: int, events: Sequence[_Event], now: datetime
) -> NotificationsReport:
    """The pending events: without the delivered ones, with the new ones, and at most the newest `MOST_PENDING`."""
    held = before if before is not None else NotificationsReport()
    waiting = [entry for entry in held.pending if entry.sequence > delivered]
    for number, event in enumerate(events, start=held.sequence + 1):
        waiting.append(
            PendingNotification(
                id=f"{metadata.uid}.{number}",
                sequence=number,
                type=event.type.value,
                time=now,
                key_uri=event.key_uri,
                key_version=event.key_version,
                state=event.state,
                message=event.message[:_MESSAGE_LIMIT],
            )
        )
    surplus = max(0, len(waiting) - MOST_PENDING)
    return NotificationsReport(
        sequence=held.sequence + len(events), dropped=held.dropped + surplus, pending=tuple(waiting[surplus:])
    )
