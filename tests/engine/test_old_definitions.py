"""An operator that is newer than the installed definitions says so, and is ready once they are upgraded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cmk_operator.api.fields import DOCUMENT
from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

DEFINITION = "preflights.cmk-operator.dev"
FIELD = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/result"


async def test_definitions_that_are_older_than_the_operator_are_named_until_they_are_upgraded(world: World) -> None:
    world.operator.stop()
    installed = json.loads(world.cluster.kubectl("get", "crd", DEFINITION, "--output", "json"))
    patch = json.dumps([{"op": "remove", "path": FIELD}])
    world.cluster.kubectl("patch", "crd", DEFINITION, "--type", "json", "--patch", patch)
    try:
        await until("the older description", lambda: '"Unchecked"' not in _status_of_preflights(world))
        written = world.operator.written
        world.operator.launch()
        await until("a log", lambda: world.operator.lines(written, "is older than this operator"))
        await until("a state", lambda: "preflights.cmk-operator.dev is older than this operator" in world.operator.readiness)
        said = world.operator.readiness
        assert not world.operator.ready
    finally:
        del installed["metadata"]["resourceVersion"]
        world.cluster.kubectl("replace", "--filename", "-", stdin=json.dumps(installed))
    assert "it lacks status.result, status.result=Fail, status.result=Pass and 1 more" in said
    assert "the cluster's administrator must install the definitions of" in said
    await world.operator.until_ready()


def _status_of_preflights(world: World) -> str:
    document = json.loads(world.cluster.kubectl("get", "--raw", DOCUMENT))
    schema = document["components"]["schemas"]["dev.cmk-operator.v1alpha1.Preflight"]
    return json.dumps(schema["properties"]["status"]["properties"].get("result"))
