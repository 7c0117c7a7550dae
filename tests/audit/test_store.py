"""One chain, however many operators believe to be its writer; bounded, and sealed where it is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cmk_operator.core.audit.layout import SLOTS
from cmk_operator.kubernetes.client import KubernetesError
from tests.audit.conftest import TINY
from tests.unit.audit.records import change

if TYPE_CHECKING:
    from tests.audit.conftest import Archive

pytestmark = pytest.mark.cluster
LONG = "a reason that fills most of a segment, so that the next entry needs another one: ".ljust(1024, "x")


async def test_a_deposed_leader_cannot_fork_the_chain(archive: Archive) -> None:
    deposed, leader = archive.store(), archive.store()
    await deposed.load()
    await deposed.append([change(1)])
    await leader.load()
    await leader.append([change(2)])

    with pytest.raises(KubernetesError) as refused:
        await deposed.append([change(3)])
    assert refused.value.status == 409
    await deposed.load()
    await deposed.append([change(3)])
    with pytest.raises(KubernetesError):
        await leader.append([change(4)])

    assert [entry.body["to"] for entry in await archive.entries()] == ["version 1", "version 2", "version 3"]
    assert (await archive.verdict()).whole


async def test_two_leaders_at_the_end_of_a_segment_begin_only_one_new_one(archive: Archive) -> None:
    first, second = archive.store(TINY), archive.store(TINY)
    await first.load()
    await first.append([change(1, why=LONG)])
    await second.load()
    for number, (ahead, behind) in enumerate([(first, second), (second, first)], start=2):
        await ahead.append([change(number, why=LONG)])
        with pytest.raises(KubernetesError):
            await behind.append([change(9, why=LONG)])
        await behind.load()
    assert [entry.body["to"] for entry in await archive.entries()] == ["version 1", "version 2", "version 3"]
    assert len(await archive.segments()) == 3
    assert (await archive.verdict()).whole


async def test_the_record_is_bounded_and_full_segments_are_sealed(archive: Archive) -> None:
    store = archive.store(TINY)
    await store.load()
    number = 5 * SLOTS + 20
    waiting = [change(one) for one in range(number)]
    while waiting:
        appended = await store.append(waiting[:2])
        waiting = waiting[len(appended.entries) :]
    await store.save_head()

    segments = await archive.segments()
    assert len(segments) == SLOTS
    assert all(sum(len(line) for line in one["data"].values()) <= TINY for one in segments)
    assert [one.get("immutable", False) for one in segments].count(False) == 1
    kept = [len(line) for one in await archive.kept() for line in one["data"].values()]
    assert TINY * 16 < sum(kept) < TINY * 24
    verdict = await archive.verdict()
    assert verdict.whole
    assert (verdict.last, verdict.first > 1, verdict.entries > SLOTS) == (number, True, True)
    again = archive.store(TINY)
    assert len(await again.load()) == verdict.entries
    assert again.last == store.last


async def test_the_api_server_refuses_to_change_a_sealed_segment(archive: Archive) -> None:
    store = archive.store(TINY)
    await store.load()
    for number in range(2):
        await store.append([change(number, why=LONG)])
    for body in ({"data": {"000000000001": None}}, {"data": {"000000000009": "{}"}}, {"immutable": False}):
        with pytest.raises(KubernetesError) as refused:
            await archive.patch("cmk-operator-audit-0", body)
        assert refused.value.status == 422


async def test_entries_that_were_cut_off_stay_missing_for_ever(archive: Archive) -> None:
    store = archive.store()
    await store.load()
    await store.append([change(number) for number in range(5)])
    await store.save_head()
    await archive.patch("cmk-operator-audit-0", {"data": {"000000000004": None, "000000000005": None}})
    messages = [finding.message for finding in (await archive.verdict()).findings]
    assert messages == ["the record was cut: entries 4 to 5 at its end are missing, which the head counts"]

    await store.load()
    await store.append([change(7)])
    await store.save_head()
    assert [entry.sequence for entry in await archive.entries()] == [1, 2, 3, 6]
    assert [finding.message for finding in (await archive.verdict()).findings] == ["entries 4 to 5 are missing"]


async def test_a_segment_that_was_removed_is_missing_and_nothing_takes_its_numbers(archive: Archive) -> None:
    store = archive.store(TINY)
    await store.load()
    for number in range(3):
        await store.append([change(number, why=LONG)])
    await store.save_head()
    for slot, found in ((0, ["entry 1 is missing"]), (2, [])):
        await archive.client.request("DELETE", f"{archive.path}/cmk-operator-audit-{slot}")
        await store.load()
        messages = [finding.message for finding in (await archive.verdict()).findings]
        assert messages == found or messages[-1] == "the record was cut: entry 3 at its end is missing, which the head counts"
    await store.append([change(7, why=LONG)])
    assert [entry.sequence for entry in await archive.entries()] == [2, 4]


async def test_a_config_map_that_is_no_segment_is_left_alone(archive: Archive) -> None:
    body = {"metadata": {"name": "cmk-operator-audit-0"}, "data": {"notes": "mine"}}
    await archive.client.request("POST", archive.path, body=body)
    store = archive.store()
    assert await store.load() == []
    await store.append([change(1)])
    assert {one["metadata"]["name"]: sorted(one["data"]) for one in await archive.segments()} == {
        "cmk-operator-audit-0": ["notes"],
        "cmk-operator-audit-1": ["000000000001"],
    }
    (finding,) = (await archive.verdict()).findings
    assert finding.message.startswith("ConfigMap cmk-operator-audit-0, key notes is not an entry of the record")
