"""Whatever ends the operator, each change is one entry of the record, with who and Azure's request id; at rest it costs nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.audit.chain import Entry, parse_entry
from cmk_operator.core.audit.layout import NAMES, head_of, kept_of, lines_of
from cmk_operator.core.audit.verification import Verdict, verify
from sandbox.kubernetes.objects import RefusedError
from sandbox.operator_process import NAMESPACE
from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
SEGMENTS = rf"{CONFIG_MAPS}/cmk-operator-audit-\d+"
SOON = {"drift_check_interval": 2, "key_check_interval": 2}
KEY_CHANGES = {"KeyChanged", "KeyChangeFound"}


async def _config_maps(world: World) -> list[dict[str, Any]]:
    found = []
    for name in NAMES:
        with suppress(RefusedError):
            found.append(await world.environment.objects.call("GET", f"{CONFIG_MAPS}/{name}"))
    return found


async def _entries(world: World, uid: str) -> list[Entry]:
    found = [parse_entry(line.text) for line in lines_of(await _config_maps(world))]
    return [entry for entry in found if entry is not None and entry.body.get("object", {}).get("uid") == uid]


async def _verdict(world: World) -> Verdict:
    found = await _config_maps(world)
    return verify(lines_of(found), head_of(found), kept=kept_of(found))


async def _uid(world: World, name: str) -> str:
    return str((await world.resource(name))["metadata"]["uid"])


MOMENTS = {
    "the entry is on its way": ("patch|create", SEGMENTS, "KeyChange", False),
    "the entry has landed": ("patch|create", SEGMENTS, "KeyChange", True),
    "the status is on its way": ("patch", "/encryptedresources/{name}/status", "rotations", False),
    "the status has landed": ("patch", "/encryptedresources/{name}/status", "rotations", True),
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_killed_between_a_change_its_entry_and_its_status_there_is_one_entry(world: World, moment: str) -> None:
    verb, path, containing, after = MOMENTS[moment]
    await world.operator.with_settings(**SOON)
    await world.foundation()
    (name,) = await world.accounts()
    slow = await world.environment.control.inject(kind="delay", method="PATCH", path="storageAccounts", seconds=3)
    await world.apply([name])
    uid = await _uid(world, name)

    async def begun() -> bool:
        return any(fault["hits"] for fault in await world.environment.control.faults() if fault["id"] == slow)

    await until("a change begun", begun)
    since = world.proxy.position
    world.proxy.inject("hold", verb, path.format(name=name), containing=containing, after_delivery=after)

    def arrived() -> bool:
        held = [request for request in world.proxy.requests(since=since) if request.fault == "hold"]
        return bool(held) and (held[0].delivered or not after)

    await until(moment, arrived)
    world.operator.kill()
    world.proxy.clear()
    await world.environment.control.clear_faults()
    await world.operator.start(**SOON)
    await world.until_ready([name])

    entries = await _entries(world, uid)
    assert [entry.body["event"] for entry in entries].count("ConfigurationChanged") == 1
    (changed,) = [entry for entry in entries if entry.body["event"] in KEY_CHANGES]
    status = (await world.resource(name))["status"]
    assert changed.body["to"] == status["applied"]["keyUri"]
    (rotation,) = status["rotations"]
    if moment == "the entry is on its way":
        # Nothing but Azure knew of the change when the operator was killed: it does not claim it.
        assert (changed.body["event"], rotation["by"]) == ("KeyChangeFound", "found in Azure")
    else:
        assert (changed.body["by"], rotation["by"]) == ("cmk-operator", "cmk-operator")
        assert changed.body["azureRequestId"] == rotation["requestId"]
    assert (await _verdict(world)).findings == ()


async def test_a_restart_and_the_steady_state_write_nothing_to_the_record(world: World) -> None:
    await world.operator.with_settings(**SOON)
    await world.foundation()
    names = await world.accounts(3)
    await world.apply(names)
    await world.until_ready(names)
    await world.environment.key_until("all counted", lambda status: status["usedByCount"] == len(names))
    world.operator.stop()
    kubernetes = world.proxy.position
    await world.operator.start(**SOON)

    def passed() -> bool:
        return world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources", result="done") >= 2 * len(names)

    await until("two passes over everything", passed)
    assert world.proxy.requests("patch|create|update|delete", CONFIG_MAPS, kubernetes) == []


async def test_a_manifest_that_was_deleted_while_no_operator_ran_is_recorded_at_the_next_start(world: World) -> None:
    await world.operator.with_settings(**SOON)
    await world.foundation()
    kept, gone = names = await world.accounts(2)
    await world.apply(names)
    await world.until_ready(names)
    uids = [await _uid(world, name) for name in names]
    world.operator.stop()
    await world.environment.objects.delete("EncryptedResource", gone, world.environment.namespace)
    await world.operator.start(**SOON)

    async def recorded() -> list[Entry]:
        return [entry for entry in await _entries(world, uids[1]) if entry.body["event"] == "ManifestDeleted"]

    (deleted,) = await until("the deletion in the record", recorded)
    assert deleted.body["object"]["name"] == gone
    assert [entry.body["event"] for entry in await _entries(world, uids[0])] == ["ConfigurationChanged", "KeyChanged"]
    assert kept in await world.ready()


async def test_a_manifest_that_is_replaced_by_one_of_the_same_name_ends_in_the_record(world: World) -> None:
    await world.operator.with_settings(**SOON)
    await world.foundation()
    (name,) = await world.accounts()
    await world.apply([name], deletionPolicy="RevertToPlatformKey")
    await world.until_ready([name])
    before = await _uid(world, name)
    await world.environment.objects.delete("EncryptedResource", name, world.environment.namespace)
    await world.environment.objects.until_gone("EncryptedResource", name, world.environment.namespace)
    await world.apply([name])
    await world.until_ready([name])

    async def ended() -> bool:
        return [entry.body["event"] for entry in await _entries(world, before)][-1:] == ["ManifestDeleted"]

    await until("the end in the record", ended)
    events = [(entry.body["event"], entry.body.get("to")) for entry in await _entries(world, before)]
    changed = [one for one in events if one[0] != "ConfigurationChanged"]
    assert changed[1:] == [("KeyChanged", "a Microsoft-managed key"), ("ManifestDeleted", "deleted")]
    events = [(entry.body["event"], entry.body.get("to")) for entry in await _entries(world, await _uid(world, name))]
    assert [event for event, _ in events] == ["ConfigurationChanged", "KeyChanged"]


async def test_a_record_that_cannot_be_written_for_a_while_delays_status_and_loses_nothing(world: World) -> None:
    await world.operator.with_settings(**SOON)
    await world.foundation()
    (name,) = await world.accounts()
    fault = world.proxy.inject("answer", "patch|create", CONFIG_MAPS, status=500, times=6)
    await world.apply([name])
    await world.until_ready([name])
    assert fault.hits == 6
    events = [entry.body["event"] for entry in await _entries(world, await _uid(world, name))]
    assert sorted(events) == ["ConfigurationChanged", "KeyChanged"]
    assert (await world.resource(name))["status"]["rotations"][0]["by"] == "cmk-operator"
