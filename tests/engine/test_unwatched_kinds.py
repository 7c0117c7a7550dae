"""A kind that cannot be watched is said to be so, and why; the others go on undisturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

OURS = "/apis/cmk-operator.dev/v1alpha1/"
RESOURCES = f"{OURS}encryptedresources"
PREFLIGHTS = f"{OURS}preflights"
RESTARTED = "started again"
DEFINITION = "preflights.cmk-operator.dev"


def _established(world: World, kind: str) -> float:
    return world.operator.metric("cmk_watch_established", kind=kind)


async def _goes_on(world: World) -> None:
    (name,) = await world.accounts()
    await world.apply([name])
    await world.until_ready([name])


async def test_a_kind_whose_definition_is_missing_is_named_and_disturbs_nobody(world: World) -> None:
    await world.operator.with_settings()
    await world.foundation()
    await until("every watch", lambda: _established(world, "preflights") == 1)
    definition = world.cluster.kubectl("get", "crd", DEFINITION, "--output", "json")
    written = world.operator.written

    world.cluster.kubectl("delete", "crd", DEFINITION, "--wait=true")
    await until("a kind that is named", lambda: "preflights is not watched" in world.operator.readiness)
    assert "the cluster's administrator must install the definition" in world.operator.readiness
    assert not world.operator.ready
    assert (_established(world, "preflights"), _established(world, "encryptedresources")) == (0, 1)
    await _goes_on(world)
    assert world.operator.lines(written, RESTARTED) == []

    world.cluster.kubectl("create", "--filename", "-", stdin=definition)
    await until("a kind that is watched again", lambda: world.operator.ready)
    assert _established(world, "preflights") == 1


async def test_a_kind_that_rbac_forbids_is_named_and_left_out(world: World) -> None:
    await world.operator.with_settings()
    await world.foundation()
    await until("every watch", lambda: _established(world, "preflights") == 1)
    process, written = world.operator.process.pid, world.operator.written

    world.proxy.inject("answer", "list|watch", PREFLIGHTS, status=403, times=None)
    assert world.proxy.cut_watches(PREFLIGHTS) == 1
    await until("a kind that is named", lambda: "preflights is not watched" in world.operator.readiness)
    assert "whoever installs the operator must correct its ClusterRole" in world.operator.readiness
    await until("watches without that kind", lambda: len(world.operator.lines(written, RESTARTED)) == 1)
    await until("the other watches", lambda: world.proxy.open_watches(RESOURCES) == 1)
    checks = world.proxy.position
    await _goes_on(world)
    await until("three more checks", lambda: len(world.proxy.requests("list", PREFLIGHTS, checks)) >= 3)
    assert len(world.operator.lines(written, RESTARTED)) == 1
    assert (_established(world, "preflights"), _established(world, "encryptedresources")) == (0, 1)

    world.proxy.clear()
    await until("a kind that is watched again", lambda: world.operator.ready, patience=90)
    assert world.operator.process.pid == process


async def test_a_kind_that_rbac_forbids_at_the_start_is_waited_for_and_named(world: World) -> None:
    world.operator.stop()
    written = world.operator.written
    world.proxy.inject("answer", "list", RESOURCES, status=403, times=None)
    world.operator.launch()
    await until("an answer", lambda: world.operator.lines(written, "cannot be listed yet"))
    await until("a kind that is named", lambda: "encryptedresources is not watched" in world.operator.readiness)
    assert "custom resources are not listed yet" in world.operator.readiness
    assert "whoever installs the operator must correct its ClusterRole" in world.operator.readiness

    world.proxy.clear()
    await world.operator.until_ready()
    await world.foundation()
    await _goes_on(world)
