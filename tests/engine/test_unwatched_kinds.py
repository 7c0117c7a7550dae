"""A kind that cannot be watched is said to be so, and why; the others go on undisturbed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.objects import has
from tests.definitions import delete_definitions
from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

OURS = "/apis/cmk-operator.dev/v1alpha1/"
RESOURCES = f"{OURS}encryptedresources"
PREFLIGHTS = f"{OURS}preflights"
RESTARTED = "started again"
GRANTED = 120.0
"""Seconds to wait for a kind whose right was given: it is left out for 30 after each refusal, and a first check may come too early."""
ORGANIZATIONS = f"{OURS}organizationkeys"
ROLE = "cmk-operator"
GRANT = "so that the operator's ServiceAccount may get, list and watch organizationkeys.cmk-operator.dev"
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

    delete_definitions(world.cluster, DEFINITION)
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
    await until("a kind that is watched again", lambda: world.operator.ready, GRANTED)
    assert world.operator.process.pid == process


async def test_a_kind_that_rbac_forbids_at_the_start_is_waited_for_and_named(world: World) -> None:
    world.operator.stop()
    written = world.operator.written
    world.proxy.inject("answer", "list", RESOURCES, status=403, times=None)
    world.operator.launch()
    await until("an answer", lambda: world.operator.lines(written, "a kind is not watched"))
    await until("a kind that is named", lambda: "encryptedresources is not watched" in world.operator.readiness)
    assert "until then nothing is done for: customermanagedkeys, preflights" in world.operator.readiness
    assert "custom resources are not listed yet" in world.operator.readiness
    assert "whoever installs the operator must correct its ClusterRole" in world.operator.readiness
    await world.environment.apply_identity()
    await world.environment.apply_tenant()
    what = "a Ready object that does not rest on that kind"
    await world.environment.objects.until(what, "CustomerTenant", world.environment.name, has("Ready"))

    world.proxy.clear()
    await world.operator.until_ready()
    await world.foundation()
    await _goes_on(world)


async def test_a_right_that_is_missing_or_taken_away_disturbs_no_other_kind_and_is_named(world: World) -> None:
    world.operator.stop()
    world.forgive_refusals = True
    role = json.loads(world.cluster.kubectl("get", "clusterrole", ROLE, "--output", "json"))
    role["metadata"] = {field: role["metadata"][field] for field in ("name", "labels", "annotations")}
    world.cluster.kubectl("replace", "--filename", "-", stdin=json.dumps(_without(role, "organizationkeys")))
    try:
        written = world.operator.written
        world.operator.launch()
        await until("an answer", lambda: world.operator.lines(written, "a kind is not watched"))
        await until("a kind that is named", lambda: "organizationkeys is not watched" in world.operator.readiness)
        await world.foundation()
        await _goes_on(world)
        assert GRANT in world.operator.readiness
        assert world.operator.lines(written, RESTARTED) == []
        await until("watches of the others", lambda: _established(world, "encryptedresources") == 1)
        assert _established(world, "organizationkeys") == 0

        world.cluster.kubectl("replace", "--filename", "-", stdin=json.dumps(role))
        await until("a kind that is watched without a restart of the process", lambda: world.operator.ready, GRANTED)
        written = world.operator.written
        world.cluster.kubectl("replace", "--filename", "-", stdin=json.dumps(_without(role, "organizationkeys")))
        await until("a watch that RBAC forbids", lambda: world.proxy.cut_watches(ORGANIZATIONS))
        await until("a kind that is named", lambda: GRANT in world.operator.readiness)
        await _goes_on(world)
        await until("watches of the others", lambda: _established(world, "encryptedresources") == 1)
        assert _established(world, "organizationkeys") == 0
        assert len(world.operator.lines(written, RESTARTED)) <= 1, "not again and again"
    finally:
        world.operator.stop()
        world.cluster.kubectl("replace", "--filename", "-", stdin=json.dumps(role))


def _without(role: dict[str, Any], resource: str) -> dict[str, Any]:
    """A ClusterRole that says nothing of a resource."""
    rules = [{**rule, "resources": [one for one in rule["resources"] if one != resource]} for rule in role["rules"]]
    return {**role, "rules": [rule for rule in rules if rule["resources"]]}
