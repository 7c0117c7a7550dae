"""What no CustomerTenant allows is refused before any call to Azure, with one word that says why (design section 3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.objects import has

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

OUTSIDE = "a"  # with this, rg-e2e7 becomes rg-e2e7a, which starts with the allowed group's name


async def elsewhere(environment: Environment) -> str:
    """Another namespace."""
    name = f"{environment.name}-other"
    await environment.objects.create_namespace(name)
    return name


async def key_spec(environment: Environment, **spec: Any) -> dict[str, Any]:
    return {"tenantRef": {"name": environment.name}, "keyUri": environment.key_uri(), **spec}


async def a_later_second(environment: Environment) -> None:
    """Kubernetes dates objects to the second: wait until what is created now is younger than the resource `docs`."""
    found = await environment.objects.get("EncryptedResource", "docs", environment.namespace)
    created = datetime.fromisoformat(found["metadata"]["creationTimestamp"])

    async def later() -> bool:
        return datetime.now(UTC) - created > timedelta(seconds=1)

    await environment.eventually("a later second", later)


async def test_a_namespace_that_the_tenant_does_not_list_is_refused_until_it_is_listed(
    environment: Environment, operator: Operator
) -> None:
    objects = environment.objects
    await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    other = await elsewhere(environment)
    since = await environment.position()
    await objects.apply("CustomerManagedKey", "cmk", await key_spec(environment), other)
    target = {"keyRef": {"name": "cmk"}, "resourceId": environment.accounts["docs"]}
    await objects.apply("EncryptedResource", "docs", target, other)
    for kind, name in (("CustomerManagedKey", "cmk"), ("EncryptedResource", "docs")):
        status = await objects.until("refused", kind, name, has("Ready", "False", "NamespaceNotAllowed"), other)
        assert has("Stalled", "True", "NamespaceNotAllowed")(status)
        assert "provider's administrator must add it to spec.allowedNamespaces" in str(status)
    await operator.after_passes(2)
    assert await environment.operator_requests(environment.vault, since) == []
    assert await environment.operator_requests("/storageAccounts", since) == []
    await environment.apply_tenant(allowedNamespaces=[environment.namespace, other])
    await objects.until("Ready", "EncryptedResource", "docs", has("Ready"), other)


async def test_an_account_in_a_group_whose_name_only_begins_like_the_allowed_one_is_refused_until_it_is_allowed(
    environment: Environment, operator: Operator
) -> None:
    await environment.vault_with_key()
    group = environment.group + OUTSIDE
    await environment.provider.create_resource_group(group)
    account = await environment.provider.create_storage_account(f"{environment.name}out", resource_group=group)
    environment.accounts["docs"] = account
    since = await environment.position()
    await environment.apply_all()
    status = await environment.resource_until("refused", has("Ready", "False", "ScopeNotAllowed"))
    assert has("Stalled", "True", "ScopeNotAllowed")(status)
    assert account in str(status)
    await environment.key_until("Ready", has("Ready"))
    await operator.after_passes(2)
    assert await environment.operator_requests(account, since) == []
    assert (await environment.encryption())["keySource"] == "Microsoft.Storage"
    await environment.apply_tenant(
        allowedScopes=[f"/subscriptions/{environment.provider.subscription_id}/resourcegroups/{group.upper()}"]
    )
    await environment.resource_until("Ready", has("Ready"))


async def test_a_vault_that_the_tenant_does_not_list_is_refused_before_any_token_is_asked_for(
    environment: Environment, operator: Operator
) -> None:
    await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant(allowedVaults=["another-vault.vault.azure.net"])
    since = await environment.position()
    await environment.apply_key()
    await environment.apply_resource()
    await environment.key_until("refused", has("Stalled", "True", "VaultNotAllowed"))
    await environment.resource_until("refused", has("Stalled", "True", "VaultNotAllowed"))
    await operator.after_passes(2)
    assert await environment.operator_requests(environment.vault, since) == []
    assert await environment.operator_requests("/storageAccounts", since) == []
    await environment.apply_tenant()
    await environment.resource_until("Ready", has("Ready"))


async def test_missing_references_are_named_and_heal_one_after_the_other(environment: Environment, operator: Operator) -> None:
    await environment.vault_with_key()
    await environment.account()
    since = await environment.position()
    await environment.apply_resource()
    status = await environment.resource_until("no key", has("Ready", "False", "KeyNotFound"))
    assert "'cmk'" in str(status)
    await environment.apply_key()
    await environment.key_until("no tenant", has("Ready", "False", "TenantNotFound"))
    await environment.resource_until("no tenant", has("Ready", "False", "TenantNotFound"))
    await environment.apply_tenant()
    await environment.objects.until(
        "no identity", "CustomerTenant", environment.name, has("Stalled", "True", "IdentityNotFound")
    )
    await environment.key_until("no identity", has("Stalled", "True", "IdentityNotFound"))
    await environment.resource_until("no identity", has("Stalled", "True", "IdentityNotFound"))
    await operator.after_passes(2)
    assert await environment.operator_requests("", since) == [], "nothing was asked of Azure"
    await environment.apply_identity()
    await environment.resource_until("Ready", has("Ready"))
    await environment.key_until("Ready", has("Ready"))


async def test_a_tenant_that_is_narrowed_stops_all_writes_and_probes(environment: Environment, operator: Operator) -> None:
    await environment.ready()
    scope = f"/subscriptions/{environment.provider.subscription_id}/resourceGroups/{environment.group}{OUTSIDE}"
    await environment.apply_tenant(allowedScopes=[scope])
    await environment.resource_until("refused", has("Stalled", "True", "ScopeNotAllowed"))
    before = await environment.encryption()
    second = await environment.customer.create_key(environment.vault, "second")
    since = await environment.position()
    await environment.apply_key(keyUri=environment.key_uri(key="second"))
    await environment.key_until("active", lambda seen: seen.get("activeVersion") == second.rsplit("/", 1)[-1])
    await operator.after_passes(2)
    assert await environment.writes(since) == []
    assert await environment.encryption() == before
    await environment.apply_tenant(allowedNamespaces=["nobody"])
    await environment.key_until("refused", has("Stalled", "True", "NamespaceNotAllowed"))
    since = await environment.position()
    await operator.after_passes(2)
    assert await environment.operator_requests(environment.vault, since) == []
    await environment.apply_tenant()
    await environment.resource_until("Ready", has("Ready"))
    assert (await environment.encryption())["keyvaultproperties"]["keyname"] == "second"


async def test_a_key_of_another_tenants_manifest_reaches_only_the_scopes_of_that_tenant(environment: Environment) -> None:
    # The scopes of the tenant that owns the key count, not those of any tenant that lists the namespace.
    await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity()
    scope = f"/subscriptions/{environment.provider.subscription_id}/resourceGroups/{environment.group}"
    await environment.apply_tenant(allowedScopes=[scope + OUTSIDE])
    wide = {
        "tenantId": environment.provider.tenant_id,
        "identityRef": {"name": environment.name},
        "allowedNamespaces": [environment.namespace],
        "allowedScopes": [scope],
        "allowedVaults": ["another-vault.vault.azure.net"],
    }
    await environment.objects.apply("CustomerTenant", f"{environment.name}-wide", wide)
    await environment.apply_key()
    await environment.apply_resource()
    await environment.resource_until("refused", has("Stalled", "True", "ScopeNotAllowed"))
    assert await environment.writes() == []


async def test_of_two_manifests_for_one_account_the_second_is_refused_and_takes_over_when_the_first_goes(
    environment: Environment, operator: Operator
) -> None:
    objects = environment.objects
    await environment.ready()
    other = await elsewhere(environment)
    await environment.apply_tenant(allowedNamespaces=[environment.namespace, other])
    await environment.customer.create_key(environment.vault, "other")
    account = environment.accounts["docs"]
    since = await environment.position()
    await a_later_second(environment)
    for namespace, name, spelled in (
        (environment.namespace, "again", account),
        (environment.namespace, "spelled", account.replace("/resourceGroups/", "/RESOURCEGROUPS/").replace("docs", "DOCS")),
        (other, "docs", account.replace("Microsoft.Storage", "microsoft.storage")),
    ):
        await objects.apply(
            "CustomerManagedKey", "other", await key_spec(environment, keyUri=environment.key_uri(key="other")), namespace
        )
        await objects.apply("EncryptedResource", name, {"keyRef": {"name": "other"}, "resourceId": spelled}, namespace)
        status = await objects.until("claimed", "EncryptedResource", name, has("Stalled", "True", "TargetClaimed"), namespace)
        assert f"EncryptedResource {environment.namespace}/docs is older" in str(status)
    await operator.after_passes(4)
    assert await environment.writes(since) == []
    assert (await environment.encryption())["keyvaultproperties"]["keyname"] == "cmk"
    await environment.resource_until("Ready", has("Ready"))
    await objects.delete("EncryptedResource", "docs", environment.namespace)
    await objects.until("taken over", "EncryptedResource", "again", has("Ready"), environment.namespace)
    assert (await environment.encryption())["keyvaultproperties"]["keyname"] == "other"
    assert len(await environment.writes(since)) == 1
