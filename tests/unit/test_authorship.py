"""Whose change of key it is: each kind of evidence, what outranks what, and what none of them accounts for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cmk_operator.api.encrypted_resource import AppliedKey, EncryptedResourceStatus, OperationReport
from cmk_operator.audit.journal import Recorded
from cmk_operator.core.audit.change import OPERATOR, Event
from cmk_operator.core.encryption.protection import MicrosoftManaged, OnAnotherKey, OnKey, Protection, Unreadable
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.reconcile.resource.authorship import Authorship, OwnChange
from tests.unit.samples import KEY, NOW, V1, V2, VAULT, encrypted_resource

if TYPE_CHECKING:
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.core.audit.change import Change

WANTED = KeyUri(VAULT, "storage")
ON_V1, ON_V2 = OnKey(WANTED, V1), OnKey(WANTED, V2)
ELSEWHERE = OnKey(KeyUri(VAULT, "other"), V1)
ON_MICROSOFT = MicrosoftManaged()


class InMemoryRecord:
    """The newest change of each aspect, as the journal answers it."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.newest: dict[tuple[str, str], Recorded] = {}

    def note(self, change: Change) -> None:
        self.changes.append(change)
        newest = Recorded(change.id, change.by, change.after, change.request_id)
        self.newest[change.subject.uid, change.event.aspect] = newest

    async def latest(self, uid: str, aspect: str) -> Recorded | None:
        return self.newest.get((uid, aspect))

    def told(self) -> list[tuple[Event, str, str | None]]:
        return [(change.event, change.after, change.request_id) for change in self.changes]


@pytest.fixture
def record() -> InMemoryRecord:
    return InMemoryRecord()


def authorship(record: InMemoryRecord) -> Authorship:
    """That of a process which has just started."""
    return Authorship(record, lambda: NOW)


def resource_on(version: str, *, operation: bool = False, deleted: bool = False) -> EncryptedResource:
    status = EncryptedResourceStatus(
        observed_generation=1,
        applied=AppliedKey(key_uri=f"{KEY}/{version}", version=version, since=NOW),
        operation=OperationReport(url="o", purpose="put it on the key", started_at=NOW, request_id="r-o")
        if operation
        else None,
    )
    resource = encrypted_resource(status)
    update = {"deletion_timestamp": NOW} if deleted else {}
    return resource.model_copy(update={"metadata": resource.metadata.model_copy(update=update)})


async def test_what_status_says_already_is_no_change(record: InMemoryRecord) -> None:
    assert await authorship(record).of(resource_on(V1, operation=True), ON_V1, WANTED) is None
    assert record.told() == []


async def test_a_request_is_its_own_until_its_status_lands(record: InMemoryRecord) -> None:
    ours, resource = authorship(record), resource_on(V1)
    own = ours.made(resource, f"{KEY}/{V1}", ON_V2, "r-1")
    assert await ours.of(resource, ON_V2, WANTED) == own == OwnChange(f"{KEY}/{V2}", "r-1")
    assert record.told() == [(Event.KEY_CHANGED, f"{KEY}/{V2}", "r-1")]
    ours.reported(reference_of(resource))
    # Status is on V2 by now; somebody takes it to V1 and nobody of us asked for that.
    assert await ours.of(resource_on(V2), ON_V1, WANTED) is None


async def test_what_somebody_does_after_a_request_is_not_its_own(record: InMemoryRecord) -> None:
    ours, resource = authorship(record), resource_on(V1)
    ours.made(resource, f"{KEY}/{V1}", ON_V2, "r-1")
    assert await ours.of(resource, ON_MICROSOFT, WANTED) is None
    assert record.told()[-1] == (Event.KEY_CHANGE_FOUND, "a Microsoft-managed key", None)


async def test_an_operation_accounts_for_the_wanted_key_and_is_recorded_once(record: InMemoryRecord) -> None:
    ours, resource = authorship(record), resource_on(V1, operation=True)
    own = OwnChange(f"{KEY}/{V2}", "r-o")
    assert [await ours.of(resource, ON_V2, WANTED) for _ in range(2)] == [own, own]
    assert record.told() == [(Event.KEY_CHANGED, f"{KEY}/{V2}", "r-o")]


@pytest.mark.parametrize("seen", [ELSEWHERE, ON_MICROSOFT], ids=["another key", "Microsoft-managed key"])
async def test_an_operation_accounts_for_nothing_that_others_did_meanwhile(record: InMemoryRecord, seen: Protection) -> None:
    assert await authorship(record).of(resource_on(V1, operation=True), seen, WANTED) is None
    assert [event for event, _, _ in record.told()] == [Event.KEY_CHANGE_FOUND]


async def test_the_operation_of_a_revert_accounts_for_the_platform_key(record: InMemoryRecord) -> None:
    resource = resource_on(V1, operation=True, deleted=True)
    assert await authorship(record).of(resource, ON_MICROSOFT, WANTED) == OwnChange("", "r-o")
    assert record.told() == [(Event.KEY_CHANGED, "a Microsoft-managed key", "r-o")]
    assert record.changes[0].why.startswith("the manifest is deleted and reverts to a Microsoft-managed key")


async def test_the_record_tells_what_a_process_before_this_one_did(record: InMemoryRecord) -> None:
    resource = resource_on(V1)
    authorship(record).made(resource, f"{KEY}/{V1}", ON_V2, "r-1")
    assert await authorship(record).of(resource, ON_V2, WANTED) == OwnChange(f"{KEY}/{V2}", "r-1")
    assert len(record.told()) == 1


async def test_only_the_newest_entry_of_the_record_counts(record: InMemoryRecord) -> None:
    resource = resource_on(V1)
    authorship(record).made(resource, f"{KEY}/{V1}", ON_V2, "r-1")
    assert await authorship(record).of(resource, ELSEWHERE, WANTED) is None
    assert await authorship(record).of(resource, ON_V2, WANTED) is None, "a former state that comes again is a new change"
    assert record.changes[-1].by != OPERATOR


async def test_a_change_that_the_next_request_hides_is_recorded_before_it(record: InMemoryRecord) -> None:
    ours, resource = authorship(record), resource_on(V1)
    ours.note_unreported(resource, ON_V1, WANTED)
    assert record.told() == []
    ours.note_unreported(resource, ELSEWHERE, WANTED)
    ours.note_unreported(resource_on(V1, operation=True), ON_V2, WANTED)
    assert [event for event, _, _ in record.told()] == [Event.KEY_CHANGE_FOUND, Event.KEY_CHANGED]


async def test_a_request_whose_answer_shows_nothing_is_the_operators_own_once_the_next_read_shows_its_result(
    record: InMemoryRecord,
) -> None:
    ours, resource = authorship(record), resource_on(V1)
    ours.sent(resource, "r-1")
    assert await ours.of(resource, Unreadable("properties is missing"), WANTED) is None
    assert record.told() == []
    own = await ours.of(resource, ON_V2, WANTED)
    assert own is not None
    assert own.request_id == "r-1"
    assert record.told() == [(Event.KEY_CHANGED, f"{KEY}/{V2}", "r-1")]
    ours.sent(resource_on(V1), "r-2")
    assert await ours.of(resource, ELSEWHERE, WANTED) is None, "it leads to the wanted key and to no other"
    ours.gone(reference_of(resource))


async def test_what_is_no_key_of_a_vault_is_somebodys_change_and_quoted(record: InMemoryRecord) -> None:
    assert await authorship(record).of(resource_on(V1), OnAnotherKey("https://hsm.managedhsm.azure.net/keys/k"), WANTED) is None
    ((event, after, _),) = record.told()
    assert (event, after) == (Event.KEY_CHANGE_FOUND, "https://hsm.managedhsm.azure.net/keys/k")
