"""The operator leaves no traces, heeds only what concerns it, and waits for what is not there yet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.objects import PLURALS, condition, has
from tests.conftest import ROOT
from tests.definitions import delete_definitions
from tests.engine.api_server import restart_api_server
from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

MANY = 50


def _managers(item: dict[str, Any]) -> set[tuple[str, str]]:
    return {(entry["manager"], entry.get("subresource", "")) for entry in item["metadata"]["managedFields"]}


async def test_objects_carry_no_trace_but_status_and_our_own_finalizer(world: World) -> None:
    await world.operator.with_settings()
    await world.foundation()
    kept, reverting = names = await world.accounts(2)
    await world.apply([kept])
    await world.apply([reverting], deletionPolicy="RevertToPlatformKey")
    await world.until_ready(names)
    await world.environment.key_until("all counted", lambda status: status["usedByCount"] == 2)

    for kind in PLURALS:
        for item in await world.environment.objects.all(kind):
            metadata = item["metadata"]
            reverts = metadata["name"] != kept  # and what the revert needs
            assert metadata.get("annotations", {}) == {}
            assert metadata.get("finalizers", []) == (["cmk-operator.dev/revert-to-platform-key"] if reverts else [])
            ours = {("cmk-operator", "status")} | ({("cmk-operator-finalizer", "")} if reverts else set())
            assert _managers(item) == {("tests", ""), *ours}
            for entry in metadata["managedFields"]:
                if entry["manager"] == "cmk-operator-finalizer":
                    assert set(entry["fieldsV1"]) == {"f:metadata"}
                    assert set(entry["fieldsV1"]["f:metadata"]) == {"f:finalizers"}
                if entry["manager"] == "cmk-operator":
                    assert set(entry["fieldsV1"]) == {"f:status"}
            again = await world.environment.objects.apply(kind, metadata["name"], item["spec"], metadata.get("namespace", ""))
            assert again["metadata"]["resourceVersion"] == metadata["resourceVersion"], (
                "applying the same manifest is no change"
            )


async def test_conditions_taken_away_by_another_come_back_and_foreign_ones_stay(world: World) -> None:
    await world.operator.with_settings(drift_check_interval=2, key_check_interval=2)
    await world.foundation()
    (name,) = await world.accounts()
    await world.apply([name])
    await world.until_ready([name])
    await world.environment.key_until("counted", lambda status: status["usedByCount"] == 1)
    conditions = (await world.resource(name))["status"]["conditions"]
    foreign = {**conditions[0], "type": "Audited", "reason": "Yearly", "status": "True", "message": "by somebody else"}
    edited = [entry for entry in conditions if entry["type"] != "Ready"] + [foreign]

    path = world.environment.objects.path("EncryptedResource", name, world.environment.namespace)
    patch = {"status": {"conditions": edited}}
    kubernetes = world.proxy.position
    await world.environment.objects.call(
        "PATCH", f"{path}/status", patch, "application/merge-patch+json", fieldManager="kubectl-edit"
    )

    status = await world.environment.resource_until("Ready again", has("Ready"), name)
    assert condition(status, "Audited") == foreign
    assert len(status["conditions"]) == len(conditions) + 1
    passes = world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources")
    await until(
        "two more passes", lambda: world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources") >= passes + 2
    )
    assert len(world.status_writes(name, kubernetes)) == 1
    assert condition((await world.resource(name))["status"], "Audited") == foreign


async def test_foreign_labels_on_fifty_objects_cause_no_pass_and_no_call_to_azure(world: World) -> None:
    world.operator.stop()
    await world.operator.with_settings()
    await world.foundation()
    names = await world.accounts(MANY)
    await world.apply(names)
    await world.until_ready(names)
    await world.environment.key_until(
        "all counted", lambda status: status["usedByCount"] == MANY and status["versions"][0].get("inUseByCount") == MANY
    )

    def count(metric: str) -> float:
        return world.operator.metric(metric, kind="encryptedresources")

    passes, events, azure = (
        count("cmk_reconcile_passes_total"),
        count("cmk_watch_events_total"),
        await world.environment.position(),
    )
    kubernetes = world.proxy.position

    for name in names:
        patch = {"metadata": {"labels": {"team": "payments"}, "annotations": {"example.com/note": "seen"}}}
        await world.environment.objects.merge("EncryptedResource", name, patch, world.environment.namespace)
    await until("all events seen", lambda: count("cmk_watch_events_total") >= events + MANY)

    assert count("cmk_reconcile_passes_total") == passes
    assert [one.path for one in world.proxy.requests("patch|create", "cmk-operator.dev|/events", kubernetes)] == []
    assert await world.environment.requests_about("storageaccounts", azure) == []


async def test_an_operator_that_cannot_reach_the_api_server_at_start_says_so_and_waits(world: World) -> None:
    world.operator.stop()
    (name,) = await world.accounts()
    await world.foundation()
    await world.apply([name])
    written = world.operator.written
    world.proxy.refuse_connections()
    world.operator.launch()
    await until("words about it", lambda: world.operator.lines(written, "(standing by|cannot be listed).*ClientConnectorError"))
    assert not world.operator.ready
    assert world.operator.alive

    world.proxy.accept_connections()
    await world.until_ready([name])
    assert world.operator.ready


async def test_an_operator_that_finds_no_definitions_says_so_and_goes_on_when_they_come(world: World) -> None:
    world.operator.stop()
    installed = ("get", "--filename", str(ROOT / "crds"), "--output", "jsonpath={.items[*].metadata.name}")
    delete_definitions(world.cluster, *world.cluster.kubectl(*installed).split())
    written = world.operator.written
    try:
        world.operator.launch()
        await until("words about it", lambda: world.operator.lines(written, "not installed.*encryptedresources"))
        assert world.operator.alive
    finally:
        world.cluster.kubectl("apply", "--server-side", "--filename", str(ROOT / "crds"))
        world.cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "--filename", str(ROOT / "crds"))
    (name,) = await world.accounts()
    await world.foundation()
    await world.apply([name])
    await world.until_ready([name])
    assert world.operator.ready


async def test_an_api_server_that_dies_and_comes_back_loses_nothing(world: World) -> None:
    await world.operator.with_settings(drift_check_interval=2, key_check_interval=2)
    await world.foundation()
    before = await world.accounts(2)
    await world.apply(before[:1])
    await world.until_ready(before[:1])
    process, azure = world.operator.process.pid, await world.environment.position()

    world.forgive_refusals = True  # a new API server refuses for a moment, until it has read its roles
    await asyncio.to_thread(restart_api_server, world.cluster)
    await world.apply(before[1:])

    await world.until_ready(before)
    assert await world.patches(azure) == {before[1]: 1}
    assert world.operator.alive
    assert world.operator.process.pid == process
