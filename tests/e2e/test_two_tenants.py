"""What two tenants allow: both are told, and a resource that manifests of both name stays where it is until one of them goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.objects import condition, has

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment


async def second_tenant(environment: Environment) -> tuple[str, str]:
    """Another tenant on the same resource group, with a namespace and a key of its own; the tenant and the namespace."""
    name, objects = f"{environment.name}-second", environment.objects
    await objects.create_namespace(name)
    await environment.customer.create_key(environment.vault, "other")
    scope = f"/subscriptions/{environment.provider.subscription_id}/resourceGroups/{environment.group}"
    spec: dict[str, Any] = {
        "tenantId": environment.customer.tenant_id,
        "identityRef": {"name": environment.name},
        "allowedNamespaces": [name],
        "allowedScopes": [
            scope.upper().replace("/SUBSCRIPTIONS/", "/subscriptions/").replace("/RESOURCEGROUPS/", "/resourceGroups/")
        ],
        "allowedVaults": [f"{environment.vault}{environment.customer.cloud.vault_suffix}"],
    }
    await objects.apply("CustomerTenant", name, spec)
    await objects.apply(
        "CustomerManagedKey", "cmk", {"tenantRef": {"name": name}, "keyUri": environment.key_uri(key="other")}, name
    )
    return name, name


async def test_a_resource_of_two_tenants_stays_on_its_key_and_a_new_one_waits_for_a_person(
    environment: Environment, operator: Operator
) -> None:
    objects = environment.objects
    await environment.ready()
    tenant, namespace = await second_tenant(environment)
    for name, other in ((environment.name, tenant), (tenant, environment.name)):
        status = await objects.until("told", "CustomerTenant", name, has("ScopesDistinct", "False", "ScopesOverlap"))
        assert f"{other} (" in condition(status, "ScopesDistinct")["message"]
        assert has("Ready")(status), "this alone blocks nothing"
    await objects.until("key", "CustomerManagedKey", "cmk", has("Ready"), namespace)
    await environment.account("new")
    since = await environment.position()
    for account in ("docs", "new"):
        spec = {"keyRef": {"name": "cmk"}, "resourceId": environment.accounts[account]}
        await objects.apply("EncryptedResource", account, spec, namespace)
        if account == "docs":
            await objects.until(
                "refused", "EncryptedResource", account, has("Stalled", "True", "ClaimedBySeveralTenants"), namespace
            )
    await objects.until("the only one", "EncryptedResource", "new", has("Ready"), namespace)
    await environment.apply_resource("new")
    await environment.resource_until("refused", has("Stalled", "True", "ClaimedBySeveralTenants"), "new")
    await operator.after_passes(4)
    await environment.resource_until("still on its key", has("Ready"))
    assert (await environment.encryption())["keyvaultproperties"]["keyname"] == "cmk"
    assert (await environment.encryption("new"))["keyvaultproperties"]["keyname"] == "other"
    assert len(await environment.writes(since)) == 1
    await objects.delete("EncryptedResource", "docs", environment.namespace)
    await objects.until("taken over", "EncryptedResource", "docs", has("Ready"), namespace)
    assert (await environment.encryption())["keyvaultproperties"]["keyname"] == "other"
    for kind, names in (("EncryptedResource", ("docs", "new")), ("CustomerManagedKey", ("cmk",))):
        for name in names:
            await objects.delete(kind, name, namespace)
    await objects.delete("CustomerTenant", tenant)
    await objects.until("told", "CustomerTenant", environment.name, has("ScopesDistinct"))
