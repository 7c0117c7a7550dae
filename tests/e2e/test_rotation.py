"""A new version of the key, from its appearance to the day on which the old one may be disabled (laws 3 and 4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.objects import condition, has

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

DAY = 86_400.0


def version_of(status: dict[str, Any], version: str) -> dict[str, Any]:
    """What the key's status says of one version."""
    return next((entry for entry in status.get("versions", []) if entry["version"] == version), {})


async def new_version(environment: Environment) -> str:
    return (await environment.customer.new_version(environment.vault, "cmk")).rsplit("/", 1)[-1]


async def test_a_rotation_is_told_from_the_new_version_until_the_old_one_may_be_disabled(environment: Environment) -> None:
    old = await environment.ready()
    await environment.apply_key(rotation={"holdSupersededFor": "48h", "backupRetention": "840h"})
    await environment.key_until("in use", lambda seen: version_of(seen, old).get("inUseBy") == ["docs"])
    since = await environment.position()
    new = await new_version(environment)
    key = await environment.key_until("rotated", lambda seen: seen.get("activeVersion") == new)
    assert key["rotations"][0] | {"at": ""} == {"from": old, "to": new, "by": "Key Vault", "at": ""}
    assert version_of(key, old)["inUseBy"] == ["docs"]
    assert "safeToDisableAfter" not in version_of(key, old)
    assert has("RotationCurrent", "False", "ResourcesOnOlderVersion")(key)
    status = await environment.resource_until("behind", has("KeyCurrent", "False", "AzureWillRotate"))
    assert has("Ready")(status), "Azure follows by itself, nobody need act"

    await environment.control.advance(DAY + 3600)
    status = await environment.resource_until("followed", has("KeyCurrent"))
    assert status["applied"]["version"] == new
    newest = status["rotations"][0]
    assert (newest["from"], newest["to"]) == (environment.key_uri(old), environment.key_uri(new))
    assert newest["by"] == "found in Azure"
    key = await environment.key_until("superseded", lambda seen: "safeToDisableAfter" in version_of(seen, old))
    now = datetime.now(UTC)
    assert timedelta(hours=47.9) < datetime.fromisoformat(version_of(key, old)["safeToDisableAfter"]) - now
    assert timedelta(hours=839.9) < datetime.fromisoformat(version_of(key, old)["keepUntil"]) - now
    assert version_of(key, new)["inUseBy"] == ["docs"]
    assert has("RotationCurrent")(key)
    assert await environment.writes(since) == [], "the operator has no part in Azure's own rotation"


async def test_an_old_version_that_is_disabled_while_in_use_is_seen_and_named(environment: Environment) -> None:
    old = await environment.ready()
    await environment.key_until("in use", lambda seen: version_of(seen, old).get("inUseBy") == ["docs"])
    new = await new_version(environment)
    await environment.key_until("rotated", lambda seen: seen.get("activeVersion") == new)
    await environment.customer.disable(environment.vault, "cmk", old)
    key = await environment.key_until("lost", has("KeyAccessible", "False", "Disabled"))
    message = condition(key, "KeyAccessible")["message"]
    assert f"version {old}, still in use by docs" in message
    assert "customer's administrator must enable it" in message
    assert key["access"]["inaccessibleExpectedAt"]
    assert version_of(key, new)["access"] == "Accessible"
    assert version_of(key, old)["access"] == "Disabled"
    await environment.resource_until("lost", has("KeyAccessible", "False", "Disabled"))
    await environment.customer.enable(environment.vault, "cmk", old)
    await environment.key_until("accessible", has("KeyAccessible"))
    await environment.resource_until("Ready", has("Ready"))


async def test_a_latest_version_that_is_disabled_before_anything_uses_it_loses_no_data(environment: Environment) -> None:
    old = await environment.ready()
    await environment.key_until("in use", lambda seen: version_of(seen, old).get("inUseBy") == ["docs"])
    new = await new_version(environment)
    await environment.key_until("rotated", lambda seen: seen.get("activeVersion") == new)
    await environment.customer.disable(environment.vault, "cmk", new)
    key = await environment.key_until("disabled", has("KeyAccessible", "False", "Disabled"))
    assert "inaccessibleExpectedAt" not in key["access"]
    assert version_of(key, old)["access"] == "Accessible"
    status = await environment.resource_until("accessible", has("KeyAccessible"))
    assert old in condition(status, "KeyAccessible")["message"]
    await environment.customer.enable(environment.vault, "cmk", new)
    await environment.key_until("accessible", has("KeyAccessible"))


async def test_a_new_version_is_found_without_the_right_to_list_versions(environment: Environment) -> None:
    old = await environment.ready(rbac=False)
    new = await new_version(environment)
    key = await environment.key_until("rotated", lambda seen: seen.get("activeVersion") == new)
    assert {entry["version"] for entry in key["versions"]} == {old, new}
    assert await environment.operator_requests("/versions", 0) == []


async def test_a_pinned_rotation_moves_the_account_at_once_and_names_the_manifest(environment: Environment) -> None:
    old = await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key(keyUri=environment.key_uri(old))
    await environment.apply_resource()
    await environment.resource_until("Ready", has("Ready"))
    new = await new_version(environment)
    await environment.apply_key(keyUri=environment.key_uri(new))
    status = await environment.resource_until("moved", lambda seen: seen["applied"]["version"] == new)
    assert status["rotations"][0]["by"] == "cmk-operator"
    key = await environment.key_until("superseded", lambda seen: "safeToDisableAfter" in version_of(seen, old))
    assert key["rotations"][0] | {"at": ""} == {"from": old, "to": new, "by": "manifest", "at": ""}
    assert "keepUntil" not in version_of(key, old)
    assert "backupRetention" in version_of(key, old)["reason"], "backups still need it"


async def test_the_operator_never_changes_a_customers_key(environment: Environment, operator: Operator) -> None:
    # Law 4, against everything that this process has done so far.
    await environment.ready()
    await new_version(environment)
    await operator.after_passes(2, "customermanagedkeys")
    application = environment.identity.application_client_id
    counts = [
        request
        for request in await environment.control.requests()
        if request["service"] == "vault" and request["application"] == application
    ]
    assert {(one["method"], one["path"].split("?")[0].rsplit("/", 1)[-1]) for one in counts if one["method"] != "GET"} == {
        ("POST", "wrapkey"),
        ("POST", "unwrapkey"),
    }
