"""What is told outside Kubernetes: each change once, in order, with an id that a repetition keeps."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import Aspect, Progress, dated
from cmk_operator.api.customer_managed_key import AccessReport, CustomerManagedKeyStatus
from cmk_operator.api.encrypted_resource import AppliedKey, EncryptedResourceStatus
from cmk_operator.api.notifications import MOST_PENDING
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.notification import NotificationType
from cmk_operator.reconcile.notifications.announcements import Audience, announce_key, announce_resource, encryption_changed
from tests.unit.samples import KEY, LATER, NOW, V1, V2, customer_managed_key, encrypted_resource

if TYPE_CHECKING:
    from cmk_operator.api.conditions import Truth
    from cmk_operator.api.notifications import NotificationsReport

LISTENING, NOBODY, NOT_KNOWN = Audience(listening=True), Audience(listening=False), Audience(listening=None)
OTHER = "https://contoso.vault.azure.net/keys/other"
ACTIVE, INACTIVE = NotificationType.ENCRYPTION_ACTIVE, NotificationType.ENCRYPTION_INACTIVE
LOST, RESTORED, ROTATED = NotificationType.KEY_LOST, NotificationType.KEY_RESTORED, NotificationType.KEY_ROTATED


def of_resource(encrypted: Truth, applied: str | None = f"{KEY}/{V1}") -> EncryptedResourceStatus:
    aspect = Aspect(ConditionType.ENCRYPTED, encrypted, Reason.UNKNOWN, f"encrypted: {encrypted}")
    return EncryptedResourceStatus(
        observed_generation=1,
        conditions=dated([aspect], Progress(), (), 1, NOW),
        applied=AppliedKey(key_uri=applied, version=applied.rsplit("/", 1)[-1], since=NOW) if applied is not None else None,
    )


def of_key(state: AccessState, version: str | None = V1) -> CustomerManagedKeyStatus:
    aspect = Aspect(
        ConditionType.KEY_ACCESSIBLE,
        "True" if state is AccessState.ACCESSIBLE else "False",
        state.reason,
        f"it is {state.value}",
    )
    return CustomerManagedKeyStatus(
        observed_generation=1,
        conditions=dated([aspect], Progress(), (), 1, NOW),
        access=AccessReport(state=state.value, since=NOW),
        active_version=version,
    )


def follow(*statuses: Any, audience: Audience = LISTENING) -> NotificationsReport:
    """The notifications of an object that had these statuses, one after the other."""
    last: Any = None
    for status in statuses:
        if isinstance(status, EncryptedResourceStatus):
            last = announce_resource(encrypted_resource(last), status, audience, NOW)
        else:
            last = announce_key(customer_managed_key(last), status, audience, NOW)
    told: NotificationsReport = last.notifications
    return told


def types(told: NotificationsReport) -> list[str]:
    return [entry.type for entry in told.pending]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([of_resource("Unknown", None), of_resource("False", None), of_resource("True")], [ACTIVE]),
        ([of_resource("True"), of_resource("True")], [ACTIVE]),
        ([of_resource("True"), of_resource("Unknown"), of_resource("True")], [ACTIVE]),
        ([of_resource("True"), of_resource("False"), of_resource("True")], [ACTIVE]),
        ([of_resource("True"), of_resource("True", f"{KEY}/{V2}")], [ACTIVE]),
        ([of_resource("True"), of_resource("False", None)], [ACTIVE, INACTIVE]),
        ([of_resource("True"), of_resource("False", None), of_resource("True")], [ACTIVE, INACTIVE, ACTIVE]),
        ([of_resource("True"), of_resource("False", f"{OTHER}/{V1}")], [ACTIVE, INACTIVE]),
        ([of_resource("True"), of_resource("True", f"{OTHER}/{V1}")], [ACTIVE, ACTIVE]),
        ([of_resource("False", f"{OTHER}/{V1}"), of_resource("Unknown", f"{OTHER}/{V1}"), of_resource("True")], [ACTIVE]),
        ([of_key(AccessState.ACCESSIBLE)], []),
        ([of_key(AccessState.CONSENT_MISSING, None), of_key(AccessState.ACCESSIBLE)], []),
        ([of_key(AccessState.ACCESSIBLE), of_key(AccessState.DISABLED)], [LOST]),
        ([of_key(AccessState.ACCESSIBLE), of_key(AccessState.DISABLED), of_key(AccessState.DELETED)], [LOST]),
        ([of_key(AccessState.ACCESSIBLE), of_key(AccessState.VAULT_UNREACHABLE), of_key(AccessState.ACCESSIBLE)], []),
        (
            [
                of_key(AccessState.ACCESSIBLE),
                of_key(AccessState.DELETED),
                of_key(AccessState.UNKNOWN),
                of_key(AccessState.ACCESSIBLE),
            ],
            [LOST, RESTORED],
        ),
        ([of_key(AccessState.ACCESSIBLE), of_key(AccessState.ACCESSIBLE, V2)], [ROTATED]),
        (
            [of_key(AccessState.ACCESSIBLE), of_key(AccessState.DISABLED), of_key(AccessState.ACCESSIBLE, V2)],
            [LOST, RESTORED, ROTATED],
        ),
    ],
)
def test_each_change_is_told_once_and_an_outage_is_none(statuses: list[Any], expected: list[NotificationType]) -> None:
    told = follow(*statuses)
    assert types(told) == [kind.value for kind in expected]
    assert [entry.sequence for entry in told.pending] == list(range(1, len(expected) + 1))


def test_an_event_says_which_key_and_version_protects_the_resource_now() -> None:
    [event] = follow(of_resource("True")).pending
    assert (event.key_uri, event.key_version, event.time, event.message) == (KEY, V1, NOW, "encrypted: True")
    assert event.id == f"{encrypted_resource().metadata.uid}.1"


def test_the_state_of_a_lost_key_is_told() -> None:
    [event] = follow(of_key(AccessState.ACCESSIBLE), of_key(AccessState.DISABLED)).pending
    assert (event.state, event.key_version, event.message) == ("Disabled", V1, "it is Disabled")


def test_the_same_pass_repeated_tells_the_same_and_nothing_more() -> None:
    active = announce_resource(encrypted_resource(), of_resource("True"), LISTENING, NOW)
    again = announce_resource(encrypted_resource(active), of_resource("True"), LISTENING, LATER)
    assert again == active
    lost_write = announce_resource(encrypted_resource(), of_resource("True"), LISTENING, LATER)
    assert lost_write.notifications is not None
    assert active.notifications is not None
    assert lost_write.notifications.pending[0].id == active.notifications.pending[0].id


def test_what_was_delivered_is_dropped_and_what_was_not_stays() -> None:
    first = follow(of_key(AccessState.ACCESSIBLE), of_key(AccessState.DISABLED), of_key(AccessState.ACCESSIBLE))
    held = of_key(AccessState.ACCESSIBLE).model_copy(update={"notifications": first})
    after = announce_key(
        customer_managed_key(held), of_key(AccessState.ACCESSIBLE), Audience(listening=True, delivered=1), LATER
    )
    assert after.notifications is not None
    assert [(entry.sequence, entry.type) for entry in after.notifications.pending] == [(2, RESTORED.value)]
    assert after.notifications.sequence == 2


def test_a_receiver_that_comes_later_is_told_what_is_active_and_one_that_goes_leaves_nothing() -> None:
    active = announce_resource(encrypted_resource(), of_resource("True"), NOBODY, NOW)
    assert active.notifications is None
    later = announce_resource(encrypted_resource(active), of_resource("True"), LISTENING, LATER)
    assert later.notifications is not None
    assert types(later.notifications) == [ACTIVE.value]
    gone = announce_resource(encrypted_resource(later), of_resource("True"), NOBODY, LATER)
    assert gone.notifications is None


def test_while_nobody_knows_who_listens_nothing_is_lost() -> None:
    active = announce_resource(encrypted_resource(), of_resource("True"), LISTENING, NOW)
    held = announce_resource(encrypted_resource(active), of_resource("Unknown"), NOT_KNOWN, LATER)
    assert held.notifications == active.notifications
    key = of_key(AccessState.DISABLED).model_copy(update={"notifications": follow(of_key(AccessState.ACCESSIBLE))})
    assert (
        announce_key(customer_managed_key(key), of_key(AccessState.UNKNOWN), NOT_KNOWN, LATER).notifications
        == key.notifications
    )


@given(st.integers(0, 3 * MOST_PENDING))
def test_too_many_events_drop_the_oldest_and_say_how_many(changes: int) -> None:
    states = [AccessState.DISABLED, AccessState.ACCESSIBLE] * changes
    told = follow(of_key(AccessState.ACCESSIBLE), *(of_key(state) for state in states[:changes]))
    assert told.dropped == max(0, changes - MOST_PENDING)
    assert [entry.sequence for entry in told.pending] == list(range(told.dropped + 1, changes + 1))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (EncryptedResourceStatus(), of_resource("True"), ACTIVE),
        (of_resource("True"), of_resource("True", f"{KEY}/{V2}"), None),
        (of_resource("True"), of_resource("Unknown"), None),
        (of_resource("Unknown"), of_resource("True"), None),
        (of_resource("False", None), of_resource("True"), ACTIVE),
        (of_resource("True"), of_resource("False", None), INACTIVE),
        (of_resource("True"), of_resource("False"), None),
        (of_resource("False", None), of_resource("False", None), None),
        (of_resource("True"), of_resource("True", f"{OTHER}/{V1}"), ACTIVE),
    ],
)
def test_people_see_an_event_when_encryption_began_or_ended(
    before: EncryptedResourceStatus, after: EncryptedResourceStatus, expected: NotificationType | None
) -> None:
    assert encryption_changed(before, after) is expected


def test_times_are_those_of_the_change_not_of_a_try() -> None:
    first = follow(of_key(AccessState.ACCESSIBLE), of_key(AccessState.DISABLED))
    held = of_key(AccessState.DISABLED).model_copy(update={"notifications": first})
    later = announce_key(customer_managed_key(held), of_key(AccessState.DISABLED), LISTENING, NOW + timedelta(days=3))
    assert later.notifications == first
