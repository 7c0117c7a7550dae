"""A version is called safe to disable only where Azure itself shows that nothing is on it (laws 4 and 12)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.objects import condition, has
from tests.e2e.test_rotation import new_version, version_of
from tests.e2e.test_scenarios import noted

if TYPE_CHECKING:
    from tests.environment import Environment

ARM = "management.azure.com"
STORAGE = "2026-09-01"


async def put_on_key(environment: Environment, account: str, version: str | None) -> None:
    """Somebody puts an account on a version of the key without any manifest, or (None) back on a Microsoft-managed key."""
    encryption: dict[str, Any] = {"keySource": "Microsoft.Storage"}
    body: dict[str, Any] = {}
    if version is not None:
        mine = environment.identity.managed_identity_resource_id
        body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": {mine: {}}}
        encryption = {
            "keySource": "Microsoft.Keyvault",
            "keyvaultproperties": {
                "keyvaulturi": f"https://{environment.vault}.vault.azure.net",
                "keyname": "cmk",
                "keyversion": version,
            },
            "identity": {
                "userAssignedIdentity": mine,
                "federatedIdentityClientId": environment.identity.application_client_id,
            },
        }
    await environment.provider.patch(account, STORAGE, {**body, "properties": {"encryption": encryption}})


async def moved_to_a_new_version(environment: Environment, old: str, **spec: Any) -> str:
    """The manifest of the key is pinned to a new version, and every resource with a manifest has moved to it."""
    new = await new_version(environment)
    await environment.apply_key(keyUri=environment.key_uri(new), **spec)
    await environment.resource_until("moved", lambda seen: seen["applied"]["version"] == new)
    await environment.key_until("left", lambda seen: "docs" not in version_of(seen, old).get("inUseBy", []))
    return new


def named(status: dict[str, Any]) -> list[tuple[str, str]]:
    """The resources without a manifest: id and version."""
    return [(one["resourceId"].lower(), one.get("version", "")) for one in status.get("withoutManifest", [])]


async def test_an_account_without_a_manifest_holds_the_version_that_it_is_on(environment: Environment) -> None:
    old = await environment.ready()
    forgotten = await environment.account("forgotten")
    await put_on_key(environment, forgotten, old)
    await environment.apply_key(keyUri=environment.key_uri(old))
    new = await moved_to_a_new_version(environment, old)

    key = await environment.key_until("named", lambda seen: named(seen) == [(forgotten.lower(), old)])
    assert key["withoutManifestCount"] == 1
    assert [one.lower() for one in version_of(key, old)["inUseBy"]] == [forgotten.lower()]
    assert "safeToDisableAfter" not in version_of(key, old)
    assert has("RotationCurrent", "False", "ResourcesOnOlderVersion")(key)
    assert "no EncryptedResource names it: the platform engineer must apply one" in condition(key, "RotationCurrent")["message"]
    assert version_of(key, old)["access"] == "Accessible", "it is probed, as any version in use"

    await put_on_key(environment, forgotten, new)
    key = await environment.key_until("safe", lambda seen: "safeToDisableAfter" in version_of(seen, old))
    assert named(key) == [(forgotten.lower(), new)]
    assert has("UsersKnown", "True", "Listed")(key)
    assert has("RotationCurrent")(key)


async def test_a_version_of_which_a_list_is_refused_is_not_said_to_be_safe(environment: Environment) -> None:
    old = await environment.ready()
    await environment.apply_key(keyUri=environment.key_uri(old))
    await environment.control.inject(
        kind="status", status=403, code="AuthorizationFailed", host=ARM, path="/providers/Microsoft.Sql/servers\\?"
    )
    await moved_to_a_new_version(environment, old)
    key = await environment.key_until("unknown", has("UsersKnown", "Unknown", "AuthorizationFailed"))
    told = condition(key, "UsersKnown")["message"]
    assert f"the SQL servers of subscription {environment.provider.subscription_id}" in told
    assert "the provider's administrator must assign it a role there, such as Reader" in told
    assert "safeToDisableAfter" not in version_of(key, old)
    assert "is not known" in version_of(key, old)["reason"]
    assert has("Ready")(key), "what uses the key says nothing about the key itself"

    await environment.control.clear_faults()
    key = await environment.key_until("safe", lambda seen: "safeToDisableAfter" in version_of(seen, old))
    assert has("UsersKnown", "True", "Listed")(key)

    await environment.control.inject(
        kind="status", status=200, body={"value": [{"id": 7, "properties": None}]}, host=ARM, path="/diskEncryptionSets\\?"
    )
    key = await environment.key_until("unreadable", has("UsersKnown", "Unknown", "Unreadable"))
    assert "safeToDisableAfter" not in version_of(key, old), "what cannot be read is not nothing"


async def test_a_server_that_left_the_key_needs_the_old_version_for_its_backups(environment: Environment) -> None:
    old = await environment.ready()
    await environment.control.set_timings(sql_operation_seconds=0)
    sql = environment.provider.sql
    server = await sql.create_server(f"{environment.name}-sql", resource_group=environment.group)
    database = await sql.create_database(server, "orders")
    await sql.keep_backups(database, 14, weeklyRetention="P8W")
    await sql.set_identity(server, environment.identity)
    await sql.set_protector(server, environment.key_uri(old))
    await environment.apply_key(keyUri=environment.key_uri(old))
    await moved_to_a_new_version(environment, old, rotation={"backupRetention": "168h"})
    key = await environment.key_until("named", lambda seen: named(seen) == [(server.lower(), old)])
    assert "safeToDisableAfter" not in version_of(key, old)

    await sql.set_protector(server, None)
    key = await environment.key_until("left", lambda seen: "safeToDisableAfter" in version_of(seen, old))
    entry = version_of(key, old)
    kept = datetime.fromisoformat(entry["keepUntil"]) - datetime.fromisoformat(entry["supersededAt"])
    assert kept == timedelta(weeks=8), "longer than the manifest's own backupRetention"
    assert f"those of {environment.name}-sql among them" in entry["reason"]

    await environment.control.inject(
        kind="status", status=403, code="AuthorizationFailed", host=ARM, path="/backupShortTermRetentionPolicies/"
    )
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)  # which has the lists read at once
    key = await environment.key_until("unknown", lambda seen: "keepUntil" not in version_of(seen, old))
    assert "keeps its own backups is not known" in version_of(key, old)["reason"]


async def test_what_an_orphaned_manifest_leaves_behind_is_named_from_then_on(environment: Environment) -> None:
    old = await environment.ready("docs", "other")
    await environment.objects.delete("EncryptedResource", "other", environment.namespace)
    account = environment.accounts["other"].lower()
    key = await environment.key_until("named", lambda seen: named(seen) == [(account, old)])
    assert key["usedBy"] == ["docs"]
    assert version_of(key, old)["inUseByCount"] == 2

    async def noted_it() -> bool:
        note = (await noted(environment)).get("cmk", {}).get("UserWithoutManifest", "")
        return account in note.lower() and old in note

    await environment.eventually("an event on the key", noted_it)
