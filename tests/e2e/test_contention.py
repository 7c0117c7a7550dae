"""A resource that somebody else keeps changing back is said to be contested, and is fought for slowly and without end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.administrators.provider import STORAGE
from sandbox.kubernetes.objects import condition, has

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

PLATFORM: dict[str, Any] = {"properties": {"encryption": {"keySource": "Microsoft.Storage"}}}


async def contested_events(environment: Environment) -> int:
    """How often an event said that the resource is contested; a series counts with each of its events."""
    path = f"/apis/events.k8s.io/v1/namespaces/{environment.namespace}/events"
    found = (await environment.objects.call("GET", path))["items"]
    return sum((one.get("series") or {}).get("count", 1) for one in found if one["reason"] == "Contested")


async def test_a_resource_that_is_changed_back_three_times_is_contested_until_its_manifest_or_the_other_changes(
    environment: Environment, operator: Operator
) -> None:
    await environment.ready()
    since = await environment.position()
    for times in (1, 2):
        await environment.provider.patch(environment.accounts["docs"], STORAGE, PLATFORM)

        def changed_back(status: dict[str, Any], times: int = times) -> bool:
            found = status["contention"]
            return len(found.get("changedBack", ())) == times and "inPlaceSince" in found

        status = await environment.resource_until("changed back and on the key again", changed_back)
        assert has("Ready")(status), "a person may do this once or twice"
    await environment.provider.patch(environment.accounts["docs"], STORAGE, PLATFORM)
    status = await environment.resource_until("contested", has("Ready", "False", "Contested"))
    message = condition(status, "Ready")["message"]
    assert "platform engineer" in message
    assert "Terraform" in message
    assert condition(status, "Stalled")["reason"] == "Contested"
    assert has("Encrypted", "False", "Contested")(status)
    writes = len(await environment.writes(since))
    assert writes == 2
    before = await environment.objects.get("EncryptedResource", "docs", environment.namespace)
    await operator.after_passes(5)
    assert len(await environment.writes(since)) == writes, "nothing is written during the pause"
    after = await environment.objects.get("EncryptedResource", "docs", environment.namespace)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"], "status is quiet meanwhile"
    assert await contested_events(environment) == 1
    await environment.apply_resource(deletionPolicy="Orphan")
    status = await environment.resource_until("Ready by another manifest", has("Ready"))
    assert status["contention"].get("changedBack", []) == []
    assert len(await environment.writes(since)) == writes + 1


async def test_rotations_that_the_operator_applies_are_never_contested(environment: Environment) -> None:
    first = await environment.ready()
    await environment.apply_key(rotation={"apply": "Immediately"})

    async def names_its_version() -> bool:
        return bool((await environment.encryption())["keyvaultproperties"].get("keyversion") == first)

    await environment.eventually("moved by the operator from now on", names_its_version)
    since = await environment.position()
    for rotations in range(1, 5):
        version = (await environment.customer.new_version(environment.vault, "cmk")).rpartition("/")[2]

        def moved(status: dict[str, Any], version: str = version) -> bool:
            return bool(status["applied"]["version"] == version and has("Ready")(status))

        status = await environment.resource_until("on the new version", moved)
        assert not status["contention"].get("changedBack")
        assert len(await environment.writes(since)) == rotations
