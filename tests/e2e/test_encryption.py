"""Putting a storage account on the customer's key, keeping it there, and changing nothing else (laws 1, 5 and 7)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sandbox.administrators.provider import IDENTITIES, STORAGE
from sandbox.kubernetes.objects import condition, has

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment


async def other_identity(environment: Environment) -> str:
    """Another user-assigned identity in the provider's tenant, which the operator may attach."""
    group = await environment.provider.create_resource_group(environment.group)
    identity = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{environment.name}-app"
    await environment.provider.put(identity, IDENTITIES, {"location": "westeurope"})
    operator = environment.identity.managed_identity_principal_id
    await environment.provider.assign_role(operator, "Managed Identity Operator", identity)
    return identity


def encryption_with(environment: Environment, **changes: object) -> dict[str, Any]:
    """The encryption block that the operator would write for a versionless key, with changes to its key's properties."""
    identity = environment.identity
    return {
        "keySource": "Microsoft.Keyvault",
        "keyvaultproperties": {
            "keyname": "cmk",
            "keyversion": "",
            "keyvaulturi": f"https://{environment.vault}.vault.azure.net",
            **changes,
        },
        "identity": {
            "userAssignedIdentity": identity.managed_identity_resource_id,
            "federatedIdentityClientId": identity.application_client_id,
        },
    }


async def set_by_hand(environment: Environment, body: dict[str, Any], account: str = "docs") -> None:
    """A PATCH by the provider's administrator."""
    await environment.provider.patch(environment.accounts[account], STORAGE, body)


async def test_a_versionless_key_is_applied_with_one_patch_and_automatic_rotation(environment: Environment) -> None:
    version = await environment.ready()
    encryption = await environment.encryption()
    identity = environment.identity
    assert encryption["keySource"] == "Microsoft.Keyvault"
    properties = encryption["keyvaultproperties"]
    assert (properties["keyname"], properties["keyversion"]) == ("cmk", "")
    assert properties["currentVersionedKeyIdentifier"] == environment.key_uri(version)
    assert encryption["identity"]["userAssignedIdentity"].lower() == identity.managed_identity_resource_id.lower()
    assert encryption["identity"]["federatedIdentityClientId"] == identity.application_client_id
    status = await environment.resource_until("KeyCurrent", has("KeyCurrent"))
    assert status["applied"]["keyUri"] == environment.key_uri(version)
    assert status["applied"]["version"] == version
    (patch,) = await environment.writes()
    (rotation,) = status["rotations"]
    assert (rotation["to"], rotation["by"]) == (environment.key_uri(version), "cmk-operator")
    assert rotation["requestId"] == patch["request_id"], "the record names Azure's own id of the request"
    assert has("Encrypted", "True", "CustomerManagedKey")(status)
    assert has("KeyAccessible", "True", "Accessible")(status)
    key = await environment.key_until("in use", lambda seen: seen["versions"][0].get("inUseBy") == ["docs"])
    assert (key["activeVersion"], key["usedBy"]) == (version, ["docs"])


async def test_a_pinned_key_is_applied_with_its_version_and_stays_there(environment: Environment, operator: Operator) -> None:
    first = await environment.vault_with_key()
    second = (await environment.customer.new_version(environment.vault, "cmk")).rsplit("/", 1)[-1]
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key(keyUri=environment.key_uri(first))
    await environment.apply_resource()
    status = await environment.resource_until("Ready", has("Ready"))
    properties = (await environment.encryption())["keyvaultproperties"]
    assert properties["keyversion"] == first != second
    assert status["applied"]["version"] == first
    await operator.after_passes(3)
    assert len(await environment.writes()) == 1, "a newer version is nothing to a pinned key"
    key = await environment.key_until("Ready", has("Ready"))
    assert (key["effective"]["rotation"], key["activeVersion"]) == ("Pinned", first)


async def test_a_pinned_key_that_becomes_versionless_sends_an_empty_key_version(environment: Environment) -> None:
    first = await environment.vault_with_key()
    await environment.account()
    await environment.apply_all()
    await environment.apply_key(keyUri=environment.key_uri(first))
    await environment.resource_until("Ready", has("Ready"))
    await environment.apply_key()
    await environment.key_until("Following", lambda seen: seen["effective"]["rotation"] == "Following")

    async def version_is_empty() -> bool:
        return bool((await environment.encryption())["keyvaultproperties"]["keyversion"] == "")

    await environment.eventually("an empty key version", version_is_empty)
    status = await environment.resource_until("Ready", has("Ready"))
    assert status["applied"]["version"] == first


async def test_a_versionless_key_that_becomes_pinned_sends_the_version(environment: Environment) -> None:
    first = await environment.ready()
    await environment.apply_key(keyUri=environment.key_uri(first))

    async def pinned() -> bool:
        return bool((await environment.encryption())["keyvaultproperties"]["keyversion"] == first)

    await environment.eventually("the version", pinned)
    await environment.resource_until("Ready", has("Ready"))


async def test_a_change_of_key_uri_moves_the_account_and_is_recorded_from_and_to(environment: Environment) -> None:
    first = await environment.ready()
    second = (await environment.customer.create_key(environment.vault, "other")).rsplit("/", 1)[-1]
    await environment.apply_key(keyUri=environment.key_uri(key="other"))
    status = await environment.resource_until("on the other key", lambda seen: seen["applied"]["version"] == second)
    newest = status["rotations"][0]
    assert (newest["from"], newest["to"]) == (environment.key_uri(first), environment.key_uri(second, key="other"))
    assert len(await environment.writes()) == 2
    await environment.resource_until("Ready", has("Ready"))


async def test_system_assigned_and_other_user_assigned_identities_stay_on_the_account(environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.control.set_timings(storage_user_assigned_identities=2)
    other = await other_identity(environment)
    await environment.account(identity={"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {other: {}}})
    before = (await environment.provider.storage_account(environment.accounts["docs"]))["identity"]
    await environment.apply_all()
    await environment.resource_until("Ready", has("Ready"))
    after = (await environment.provider.storage_account(environment.accounts["docs"]))["identity"]
    assert after["type"] == "SystemAssigned,UserAssigned"
    assert after["principalId"] == before["principalId"], "the system-assigned identity is the same one"
    names = {resource_id.lower() for resource_id in after["userAssignedIdentities"]}
    assert names == {other.lower(), environment.identity.managed_identity_resource_id.lower()}


async def test_only_the_blocks_identity_and_encryption_are_written(environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.account(tags={"owner": "sales"})
    untouched = ("sku", "kind", "tags", "location")
    before = await environment.provider.storage_account(environment.accounts["docs"])
    await environment.apply_all()
    await environment.resource_until("Ready", has("Ready"))
    after = await environment.provider.storage_account(environment.accounts["docs"])
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
    for name in set(before["properties"]) - {"encryption"}:
        assert after["properties"][name] == before["properties"][name], name


async def test_other_spellings_of_ids_and_enum_values_cause_no_write(environment: Environment, operator: Operator) -> None:
    # Law 7: no write without a change.
    await environment.vault_with_key()
    await environment.account()
    identity = environment.identity.managed_identity_resource_id
    body = encryption_with(environment, keyvaulturi=f"https://{environment.vault.upper()}.vault.azure.net/")
    body["keySource"] = "microsoft.KEYVAULT"
    body["identity"]["userAssignedIdentity"] = identity.upper().replace("/SUBSCRIPTIONS/", "/subscriptions/")
    await set_by_hand(
        environment,
        {
            "identity": {"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {identity.upper(): {}}},
            "properties": {"encryption": body},
        },
    )
    account = environment.accounts["docs"]
    environment.accounts["docs"] = account.replace("resourceGroups", "resourcegroups").replace(
        "Microsoft.Storage", "MICROSOFT.storage"
    )
    await environment.apply_all()
    await environment.resource_until("Ready", has("Ready"))
    await operator.after_passes(3)
    assert await environment.writes() == []


async def test_an_account_that_is_already_on_the_right_key_is_adopted_without_a_write(
    environment: Environment, operator: Operator
) -> None:
    version = await environment.vault_with_key()
    await environment.account()
    identities: dict[str, dict[str, str]] = {environment.identity.managed_identity_resource_id: {}}
    await set_by_hand(
        environment,
        {
            "identity": {"type": "UserAssigned", "userAssignedIdentities": identities},
            "properties": {"encryption": encryption_with(environment)},
        },
    )
    await environment.apply_all()
    status = await environment.resource_until("Ready", has("Ready"))
    await operator.after_passes(2)
    assert await environment.writes() == []
    assert status["rotations"][0] | {"at": ""} == {"to": environment.key_uri(version), "by": "found in Azure", "at": ""}


async def test_each_kind_of_drift_is_seen_and_mended_by_exactly_one_write(environment: Environment, operator: Operator) -> None:
    await environment.control.set_timings(storage_user_assigned_identities=2)
    other = await other_identity(environment)
    own = environment.identity.managed_identity_resource_id
    platform: dict[str, Any] = {"properties": {"encryption": {"keySource": "Microsoft.Storage"}}}
    changes: dict[str, dict[str, Any]] = {
        "source": platform,
        "key": {"properties": {"encryption": encryption_with(environment, keyname="other")}},
        "identity": platform | {"identity": {"type": "UserAssigned", "userAssignedIdentities": {own: None, other: {}}}},
        "more": platform | {"identity": {"type": "UserAssigned", "userAssignedIdentities": {own: {}, other: {}}}},
    }
    version = await environment.ready(*changes)
    await environment.customer.create_key(environment.vault, "other")
    since = await environment.position()
    for account, change in changes.items():
        await set_by_hand(environment, change, account)

    async def mended() -> bool:
        shown = [(await environment.encryption(one)).get("keyvaultproperties", {}) for one in changes]
        return all(one.get("currentVersionedKeyIdentifier") == environment.key_uri(version) for one in shown)

    await environment.eventually("the accounts back on the key", mended)
    await operator.after_passes(2 * len(changes))
    for account in changes:
        await environment.resource_until("Ready", has("Ready"), account)
        assert len(await environment.writes(since, environment.accounts[account])) == 1, account
        shown = await environment.provider.storage_account(environment.accounts[account])
        assigned = {resource_id.lower() for resource_id in shown["identity"]["userAssignedIdentities"]}
        assert own.lower() in assigned
        assert (other.lower() in assigned) == (account in {"identity", "more"}), "what was found there stays"


async def test_observe_writes_nothing_and_shows_the_patch_that_enforce_then_sends(
    environment: Environment, operator: Operator
) -> None:
    await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key()
    await environment.apply_resource(mode="Observe")
    status = await environment.resource_until("a plan", lambda seen: seen.get("plan"))
    assert has("Ready", "True", "PlanOnly")(status)
    assert condition(status, "Stalled") == {}, "nobody must act"
    await operator.after_passes(3)
    assert await environment.writes() == []
    assert (await environment.encryption())["keySource"] == "Microsoft.Storage"
    patch = json.loads(status["plan"]["patch"])
    assert any(line.endswith("Microsoft.Storage -> Microsoft.Keyvault") for line in status["plan"]["summary"])

    await environment.apply_resource(mode="Enforce")
    status = await environment.resource_until("Ready", has("Ready", "True", "Ready"))
    assert "plan" not in status
    shown = await environment.provider.storage_account(environment.accounts["docs"])
    planned = patch["properties"]["encryption"]
    assert planned["keySource"] == shown["properties"]["encryption"]["keySource"]
    assert planned["keyvaultproperties"].items() <= shown["properties"]["encryption"]["keyvaultproperties"].items()
    assert patch["identity"]["type"] == shown["identity"]["type"]
    assert {one.lower() for one in patch["identity"]["userAssignedIdentities"]} == {
        one.lower() for one in shown["identity"]["userAssignedIdentities"]
    }


async def test_observe_needs_no_right_to_write_and_tells_when_nothing_would_change(environment: Environment) -> None:
    await environment.ready()
    since = await environment.position()
    await environment.apply_resource(mode="Observe")
    status = await environment.resource_until("Observe", lambda seen: seen["effective"]["mode"] == "Observe")
    assert has("Ready")(status)
    assert "plan" not in status
    assert await environment.writes(since) == []
