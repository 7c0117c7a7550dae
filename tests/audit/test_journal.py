"""Each change is recorded once, whatever ends the operator or refuses its writes; many that come together cost few writes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.audit.change import Event, Subject
from cmk_operator.core.audit.layout import KEPT_SLOTS, SLOTS
from cmk_operator.kubernetes.client import KubernetesError
from tests.audit.conftest import LARGE, TINY
from tests.audit.test_store import LONG
from tests.engine.operators import until
from tests.unit.audit.records import change

if TYPE_CHECKING:
    from cmk_operator.audit.journal import Journal
    from sandbox.kubernetes.fault_proxy import FaultProxy
    from tests.audit.conftest import Archive

pytestmark = pytest.mark.cluster
UID = "uid-1"
MANY = 1000
NOISY = 3500


async def _recorded(journal: Journal, *numbers: int, **fields: Any) -> None:
    for number in numbers:
        journal.note(change(number, **fields))
    await journal.settled(UID)


def _lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record)["audit"] for record in caplog.records if record.name == "cmk_operator.audit"]


async def test_a_change_that_is_seen_again_is_recorded_once(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = archive.journal()
    await _recorded(first, 1, 1, 2)
    await _recorded(first, 2)
    await first.close(5.0)
    after_a_restart = archive.journal()
    await _recorded(after_a_restart, 2, 3)

    entries = await archive.entries()
    assert [entry.body.get("to") for entry in entries] == ["the first entry", "version 1", "version 2", "version 3"]
    assert entries[0].body["event"] == Event.RECORD_STARTED
    assert _lines(caplog) == [entry.body for entry in entries], "the log has the same entries, with their hashes"
    assert (await archive.verdict()).whole


async def test_a_state_that_comes_again_is_recorded_again_though_status_never_showed_it(archive: Archive) -> None:
    # Somebody takes the key away twice, and both times the same pass puts it back: status says the same all the time.
    journal = archive.journal()
    await _recorded(journal, 1, 2)
    for _ in range(2):
        await _recorded(journal, 1, 2)
        await journal.close(5.0)
        journal = archive.journal()
        await _recorded(journal, 2)
    shown = [entry.body.get("to") for entry in await archive.entries()]
    assert shown == ["the first entry", *["version 1", "version 2"] * 3]
    assert (await archive.verdict()).whole


async def test_what_is_recorded_already_costs_no_write(archive: Archive) -> None:
    first = archive.journal()
    await _recorded(first, 1, 2)
    await first.close(5.0)
    before = archive.proxy.position
    again = archive.journal()
    await _recorded(again, 2)
    found = await again.latest(UID, "key")
    assert found is not None
    assert (found.by, found.after, found.request_id) == ("cmk-operator", "version 2", "request-2")
    assert await again.latest(UID, "ConsentChanged") is None
    await again.close(5.0)
    assert archive.writes(before) == []


async def test_a_thousand_changes_that_come_together_cost_a_few_writes(archive: Archive) -> None:
    journal = archive.journal()
    before = archive.proxy.position

    async def one(number: int) -> None:
        subject = Subject("EncryptedResource", "team", f"a{number}", f"uid-{number}")
        journal.note(change(number, subject=subject))
        await journal.settled(f"uid-{number}")

    await asyncio.gather(*(one(number) for number in range(MANY)))
    await journal.close(5.0)
    verdict = await archive.verdict()
    assert (verdict.whole, verdict.entries) == (True, MANY + 1)
    segments = len(await archive.segments())
    assert segments < MANY * 1000 / LARGE
    assert len(archive.writes(before)) <= 3 * segments + 3, "a create and a seal for each segment, and the head"


WRITES_OF_A_ROLL_OVER = ["seal", "copy", "head", "removal", "deletion", "new segment", "head again"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_ended_at_any_write_of_a_roll_over_the_next_operator_loses_and_doubles_nothing(
    archive: Archive, *, after: bool
) -> None:
    number = SLOTS + KEPT_SLOTS
    store = archive.store(TINY)
    await store.load()
    for one in range(1, number + 1):
        await store.append([change(one, why=LONG, tenant="quiet" if one == 1 else "noisy")])
    assert len(await archive.kept()) > 1
    seen = set()
    for earlier, what in enumerate(WRITES_OF_A_ROLL_OVER):
        number += 1
        journal = archive.journal(TINY, tenant_of=lambda _: "noisy")
        await journal.living()
        since = archive.proxy.position
        archive.proxy.inject("delay", "create|patch|delete", archive.path, seconds=0.0, times=earlier)
        archive.proxy.inject("hold", "create|patch|delete", archive.path, after_delivery=after)
        journal.note(change(number, why=LONG))

        def arrived(since: int = since) -> bool:
            held = [request for request in archive.proxy.requests(since=since) if request.fault == "hold"]
            return bool(held) and (held[0].delivered or not after)

        await until(what, arrived)
        seen |= {
            (one.verb, one.path.removeprefix(archive.path)[:24]) for one in archive.proxy.requests(since=since) if one.fault
        }
        await journal.close(0.0)
        archive.proxy.clear()
        assert (await archive.verdict()).findings == (), f"ended at its {what}"
        again = archive.journal(TINY, tenant_of=lambda _: "noisy")
        await _recorded(again, number, why=LONG)
        await again.close(5.0)
        assert (await archive.verdict()).findings == (), f"went on after its {what}"
    assert {verb for verb, path in seen if path.startswith("/cmk-operator-audit-kept")} == {"delete"}
    assert {verb for verb, path in seen} == {"create", "patch", "delete"}

    entries = await archive.entries()
    ids = [entry.body["id"] for entry in entries]
    assert len(ids) == len(set(ids))
    assert {change(one).id for one in (1, *range(SLOTS + KEPT_SLOTS + 1, number + 1))} <= set(ids)
    assert len(await archive.segments()) <= SLOTS


FAULTS: dict[str, dict[str, Any]] = {
    "409": {"kind": "answer", "status": 409, "times": 2},
    "500": {"kind": "answer", "status": 500, "times": 3},
    "dropped": {"kind": "drop", "times": 2},
    "answer lost": {"kind": "drop", "after_delivery": True, "times": 2},
    "500 after delivery": {"kind": "answer", "status": 500, "after_delivery": True, "times": 2},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_an_append_that_fails_or_whose_answer_is_lost_is_recorded_once(archive: Archive, fault: dict[str, Any]) -> None:
    journal = archive.journal()
    await _recorded(journal, 1)
    archive.proxy.inject(verb="patch", path=f"{archive.path}/cmk-operator-audit-0", **fault)
    journal.note(change(2))
    while True:
        try:
            await journal.settled(UID)
            break
        except KubernetesError:
            journal.note(change(2))  # as the repeated pass does
    await journal.close(5.0)
    assert [entry.body.get("to") for entry in await archive.entries()] == ["the first entry", "version 1", "version 2"]
    assert (await archive.verdict()).whole


async def test_while_the_record_cannot_be_written_status_waits_but_not_for_ever(
    archive: Archive, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    patient, urgent = archive.journal(), archive.journal(hold_status_for=0.0)
    proxy.inject("answer", "create", archive.path, status=403, times=None)
    with pytest.raises(KubernetesError):
        await _recorded(patient, 1)
    await patient.close(0.0)
    await until("status goes on", lambda: _goes_on(urgent))
    (line,) = _lines(caplog)
    assert (line["to"], line["recorded"]) == ("version 1", False)

    proxy.clear()
    await until("recorded after all", archive.entries)
    await urgent.close(5.0)
    assert [entry.body.get("to") for entry in await archive.entries()] == ["the first entry", "version 1"]


async def _goes_on(journal: Journal) -> bool:
    try:
        await _recorded(journal, 1)
    except KubernetesError:
        return False
    return True


async def test_entries_whose_writer_ended_before_it_logged_them_are_logged_by_the_next(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = archive.store()
    await store.load()
    await store.append([change(1)])
    journal = archive.journal()
    await journal.living()
    assert [line["to"] for line in _lines(caplog)] == ["version 1"]


async def test_a_head_that_was_taken_away_is_told_in_the_record_itself(archive: Archive) -> None:
    first = archive.journal()
    await _recorded(first, 1)
    await first.close(5.0)
    await archive.client.request("DELETE", f"{archive.path}/cmk-operator-audit")
    again = archive.journal()
    await _recorded(again, 2)
    await again.close(5.0)
    events = [entry.body["event"] for entry in await archive.entries()]
    assert events == ["RecordStarted", "KeyChanged", "RecordDamaged", "KeyChanged"]
    assert (await archive.verdict()).whole


async def test_an_index_that_was_changed_is_told_in_the_record_itself(archive: Archive) -> None:
    store = archive.store(TINY)
    await store.load()
    for number in range(SLOTS + 3):
        await store.append([change(number, why=LONG)])
    await store.save_head()
    await archive.patch("cmk-operator-audit", {"data": {"kept": None}})
    assert "the index of the kept entries" in (await archive.verdict()).findings[0].message
    journal = archive.journal(TINY)
    await _recorded(journal, 90)
    await journal.close(5.0)
    verdict = await archive.verdict()
    assert verdict.findings == ()
    [damaged] = [entry for entry in await archive.entries() if entry.body["event"] == Event.RECORD_DAMAGED]
    assert damaged.body["to"] == "continued without the index of kept entries"
    (extent,) = verdict.extents
    assert extent.after.sequence >= 3, "of what was before, nobody can say whether it is all there"


async def test_an_index_that_was_changed_is_told_although_the_operator_that_saw_it_ends(archive: Archive) -> None:
    store = archive.store(TINY)
    await store.load()
    for number in range(SLOTS + 3):
        await store.append([change(number, why=LONG)])
    await store.append([change(SLOTS + 3)])
    await store.save_head()
    await archive.patch("cmk-operator-audit", {"data": {"kept": None}})
    for earlier in range(3):
        ends, since = archive.journal(TINY), archive.proxy.position
        await ends.living()
        archive.proxy.inject("delay", "create|patch|delete", archive.path, seconds=0.0, times=earlier)
        archive.proxy.inject("hold", "create|patch|delete", archive.path)
        ends.note(change(90 + earlier))

        def arrived(since: int = since) -> bool:
            return any(one.fault == "hold" for one in archive.proxy.requests(since=since))

        await until("a write", arrived)
        await ends.close(0.0)
        archive.proxy.clear()
        verdict = await archive.verdict()
        damaged = [entry for entry in await archive.entries() if entry.body["event"] == Event.RECORD_DAMAGED]
        assert damaged or verdict.findings, "it is told by the record, or still to be seen"


async def test_thousands_of_changes_of_one_tenant_take_nothing_from_another(archive: Archive) -> None:
    subjects = {"quiet": Subject("EncryptedResource", "quiet", "docs", "quiet-1")}

    def tenant_of(subject: Subject) -> str | None:
        return subject.namespace

    journal = archive.journal(tenant_of=tenant_of)
    journal.note(change(1, subject=subjects["quiet"], id="quiet-first"))
    await journal.settled("quiet-1")
    for number in range(NOISY):
        subject = Subject("EncryptedResource", "noisy", f"a{number}", f"uid-{number}")
        journal.note(change(number, subject=subject, why=LONG[:300]))
    journal.note(change(2, subject=subjects["quiet"], id="quiet-second"))
    written = archive.proxy.position
    await journal.settled("quiet-1")
    assert len(archive.writes(written)) < NOISY / 100, "it does not wait for what others record"
    await journal.settled(f"uid-{NOISY - 1}")
    await journal.close(5.0)

    entries = await archive.entries()
    assert {"quiet-first", "quiet-second"} <= {entry.body["id"] for entry in entries}
    assert len(entries) < NOISY, "the record is bounded"
    verdict = await archive.verdict()
    assert verdict.findings == ()
    lost = {extent.tenant: extent.after.sequence for extent in verdict.extents}
    assert lost == {"quiet": 0, "noisy": lost["noisy"]}
    assert lost["noisy"] > 1
    after_a_restart = archive.journal(tenant_of=tenant_of)
    assert "quiet-1" in {subject.uid for subject in await after_a_restart.living()} or await after_a_restart.latest(
        "quiet-1", "key"
    )


async def test_objects_that_are_not_recorded_as_deleted_are_living(archive: Archive) -> None:
    journal = archive.journal()
    for number, event in enumerate([Event.CONFIGURATION_CHANGED, Event.CONFIGURATION_CHANGED, Event.MANIFEST_DELETED]):
        subject = Subject("EncryptedResource", "team", "docs", f"uid-{min(number, 1)}")
        journal.note(change(number, event=event, subject=subject))
        await journal.settled(subject.uid)
    assert [subject.uid for subject in await archive.journal().living()] == ["uid-0"]
