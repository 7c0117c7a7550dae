"""New versions at the operator's own pace: at once, or when a person has approved them; and what a lost key stops when."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.objects import has
from tests.e2e.test_rotation import new_version

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

APPROVED = "cmk-operator.dev/approved-version"


async def on(environment: Environment, version: str) -> dict[str, Any]:
    """Wait until the resource is on a version, and its status says that it is current."""
    return await environment.resource_until(
        f"on {version}", lambda seen: seen.get("applied", {}).get("version") == version and has("KeyCurrent")(seen)
    )


async def test_a_new_version_is_put_on_each_resource_at_once_where_the_manifest_says_so(environment: Environment) -> None:
    first = await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key(rotation={"apply": "Immediately"})
    await environment.apply_resource()
    await on(environment, first)
    assert (await environment.encryption())["keyvaultproperties"]["keyversion"] == first
    second = await new_version(environment)
    status = await on(environment, second)
    assert (await environment.encryption())["keyvaultproperties"]["keyversion"] == second
    rotation = status["rotations"][0]
    assert (rotation["from"], rotation["to"], rotation["by"]) == (
        environment.key_uri(first),
        environment.key_uri(second),
        "cmk-operator",
    )
    key = await environment.key_until("current", has("RotationCurrent"))
    assert key["effective"]["apply"] == "Immediately"


async def test_a_new_version_waits_for_approval_and_nothing_moves_until_it_is_named(
    environment: Environment, operator: Operator
) -> None:
    first = await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key(rotation={"apply": "Immediately", "approval": "Manual"})
    await environment.apply_resource()
    await on(environment, first)
    second = await new_version(environment)
    key = await environment.key_until("pending", lambda seen: seen.get("pendingVersion") == second)
    assert key["activeVersion"] == first
    assert has("Ready")(key)
    assert has("RotationCurrent", "False", "ApprovalPending")(key)
    await operator.after_passes(2)
    assert (await environment.encryption())["keyvaultproperties"]["keyversion"] == first
    # A version that is not the one that waits approves nothing.
    await environment.objects.merge(
        "CustomerManagedKey", "cmk", {"metadata": {"annotations": {APPROVED: first}}}, environment.namespace
    )
    await operator.after_passes(2)
    assert (await environment.encryption())["keyvaultproperties"]["keyversion"] == first
    await environment.objects.merge(
        "CustomerManagedKey", "cmk", {"metadata": {"annotations": {APPROVED: second}}}, environment.namespace
    )
    await on(environment, second)
    key = await environment.key_until("current", has("RotationCurrent"))
    assert "pendingVersion" not in key


async def test_the_version_in_force_that_is_lost_while_another_waits_is_told_by_name(environment: Environment) -> None:
    first = await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key(rotation={"apply": "Immediately", "approval": "Manual"})
    await environment.apply_resource()
    await on(environment, first)
    second = await new_version(environment)
    await environment.key_until("pending", lambda seen: seen.get("pendingVersion") == second)
    await environment.customer.disable(environment.vault, "cmk", first)
    key = await environment.key_until("lost", has("KeyAccessible", "False", "Disabled"))
    access = key["access"]
    (stop,) = access["stops"]
    assert (stop["service"], stop["resources"], stop["resourceCount"]) == ("Azure Storage", ["docs"], 1)
    lost, expected = (datetime.fromisoformat(text) for text in (access["lostSince"], stop["expectedAt"]))
    assert (expected - lost).total_seconds() == 600
    assert access["inaccessibleExpectedAt"] == stop["expectedAt"]
    await environment.customer.enable(environment.vault, "cmk", first)
    key = await environment.key_until("healed", has("KeyAccessible"))
    assert "lostSince" not in key["access"]
