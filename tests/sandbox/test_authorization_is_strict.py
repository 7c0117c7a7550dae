"""Role assignments and locks: on what exists, for whom the request says, and gone with the resource; the general lists of resources."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl

ROLES, LOCKS, LISTS, VAULTS = "2022-04-01", "2020-05-01", "2024-11-01", "2026-02-01"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
CONDITION = "@Resource[Microsoft.KeyVault/vaults:name] StringEquals 'a'"


def code(refusal: pytest.ExceptionInfo[HttpResponseError]) -> tuple[int | None, str | None]:
    assert refusal.value.error is not None
    return refusal.value.status_code, refusal.value.error.code


async def assign(customer: CustomerAdministrator, scope: str, version: str = ROLES, **properties: object) -> dict[str, Any]:
    role = f"{customer.subscription}/providers/Microsoft.Authorization/roleDefinitions/{READER}"
    principal = await customer.principal_id(customer.client_id)
    body = {"properties": {"roleDefinitionId": role, "principalId": principal, **properties}}
    return await customer.put(f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}", version, body)


async def lock(customer: CustomerAdministrator, scope: str) -> dict[str, Any]:
    body = {"properties": {"level": "CanNotDelete"}}
    return await customer.put(f"{scope}/providers/Microsoft.Authorization/locks/of-a-test", LOCKS, body)


@pytest.mark.parametrize("write", [assign, lock], ids=["role assignment", "lock"])
async def test_nothing_is_written_on_what_does_not_exist(
    customer: CustomerAdministrator, key_of_customer: tuple[str, str, str], write: Callable[..., Any]
) -> None:
    vault, key, _ = key_of_customer
    made = customer.vault_id(vault)
    for scope, refused in (
        (f"{customer.subscription}/resourceGroups/none", "ResourceGroupNotFound"),
        (made.replace(customer.resource_group, "none"), "ResourceGroupNotFound"),
        (customer.vault_id("none"), "ResourceNotFound"),
        (f"{customer.vault_id('none')}/keys/{key}", "ResourceNotFound"),
        (f"{made}/keys/none", "ResourceNotFound"),
    ):
        with pytest.raises(HttpResponseError) as refusal:
            await write(customer, scope)
        assert code(refusal) == (404, refused), scope
    for scope in (made, f"{made}/keys/{key}"):
        await customer.delete((await write(customer, scope))["id"], ROLES if write is assign else LOCKS)


@pytest.mark.parametrize(
    ("properties", "version", "refused"),
    [
        ({}, ROLES, None),
        ({"principalType": "ServicePrincipal"}, ROLES, None),
        ({"description": "said"}, ROLES, None),
        ({"principalType": "User"}, ROLES, "UnmatchedPrincipalType"),
        ({"principalType": "Group"}, ROLES, "UnmatchedPrincipalType"),
        ({"principalType": "Robot"}, ROLES, "InvalidRequestContent"),
        ({"principalType": "ServicePrincipal"}, "2015-07-01", "InvalidRequestContent"),
        ({"principalId": "not-a-guid"}, ROLES, "InvalidPrincipalId"),
        ({"principalId": str(uuid.UUID(int=5))}, ROLES, "PrincipalNotFound"),
        ({"condition": CONDITION, "conditionVersion": "2.0"}, ROLES, "InvalidRoleAssignmentCondition"),
        ({"condition": CONDITION, "conditionVersion": "1.0"}, ROLES, "InvalidRoleAssignmentCondition"),
        ({"condition": CONDITION}, "2018-07-01", "InvalidRequestContent"),
        ({"delegatedManagedIdentityResourceId": "/subscriptions/x"}, ROLES, "InvalidDelegatedManagedIdentityResourceId"),
        ({"principalId": 5}, ROLES, "InvalidRequestContent"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_role_assignment_says_for_whom_and_has_no_condition(
    customer: CustomerAdministrator,
    key_of_customer: tuple[str, str, str],
    properties: dict[str, Any],
    version: str,
    refused: str | None,
) -> None:
    scope = customer.vault_id(key_of_customer[0])
    if refused is None:
        assert (await assign(customer, scope, version, **properties))["properties"].get("description") == properties.get(
            "description"
        )
        return
    with pytest.raises(HttpResponseError) as refusal:
        await assign(customer, scope, version, **properties)
    assert code(refusal) == (400, refused)


async def test_what_was_assigned_on_a_resource_is_gone_with_it(
    provider: ProviderAdministrator, identity: ProviderIdentity, control: SandboxControl, name: Callable[[str], str]
) -> None:
    """As of a vault, whose test is with the vaults."""
    group = await provider.create_resource_group(name("rg-assigned"))
    resource = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/assigned"
    for scope in (resource, group):
        if scope == resource:
            await provider.put(resource, "2024-11-30", {"location": "westeurope"})
        await provider.assign_role(identity.managed_identity_principal_id, "Reader", scope)
        await provider.delete(scope, "2024-11-30" if scope == resource else LISTS)
        if scope == group:
            await provider.create_resource_group(group.rsplit("/", 1)[-1])
        listed = await provider.get(f"{group}/providers/Microsoft.Authorization/roleAssignments", ROLES)
        assert not [one for one in listed["value"] if one["properties"]["scope"].lower() == scope.lower()], scope


async def test_the_resources_of_a_group_and_of_a_subscription_are_listed_whatever_their_type(
    provider: ProviderAdministrator, identity: ProviderIdentity, control: SandboxControl, name: Callable[[str], str]
) -> None:
    await control.set_timings(list_page_size=1)
    group = await provider.create_resource_group(name("rg-listed"))
    identity_id = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/listed"
    disk_id = f"{group}/providers/Microsoft.Compute/disks/listed"
    disk = {"creationData": {"createOption": "Empty"}, "diskSizeGB": 4}
    await provider.put(identity_id, "2024-11-30", {"location": "westeurope", "tags": {"a": "b"}})
    await provider.put(disk_id, "2025-01-02", {"location": "westeurope", "properties": disk})

    async def found(query: str) -> list[dict[str, Any]]:
        entries, url = [], f"{query}api-version={LISTS}"
        while url:
            page = await provider.arm.json("GET", url)
            entries += page["value"]
            url = page.get("nextLink", "")
        return entries

    in_group = await found(f"{group}/resources?")
    assert [(one["type"], one["name"]) for one in in_group] == [
        ("Microsoft.Compute/disks", "listed"),
        ("Microsoft.ManagedIdentity/userAssignedIdentities", "listed"),
    ]
    assert in_group[1]["tags"] == {"a": "b"}
    assert "tags" not in in_group[0]
    everywhere = await found(f"{provider.subscription}/resources?$filter=name eq 'listed'&")
    assert {one["id"] for one in everywhere} >= {one["id"] for one in in_group}
    assert {one["name"] for one in everywhere} == {"listed"}, "a link keeps the filter"
    by_type = await found(f"{group}/resources?$filter=resourceType eq 'Microsoft.Compute/disks'&")
    assert [one["id"] for one in by_type] == [disk_id]
    with pytest.raises(HttpResponseError) as refusal:
        await found(f"{group}/resources?$filter=colour eq 'red'&")
    assert code(refusal) == (400, "InvalidFilterInQueryString")
    with pytest.raises(HttpResponseError) as refusal:
        await found(f"{provider.subscription}/resourceGroups/none/resources?")
    assert code(refusal) == (404, "ResourceGroupNotFound")
    with pytest.raises(HttpResponseError, match=disk_id):
        await provider.delete(group, LISTS)


async def test_each_list_of_vaults_comes_in_pages_of_uneven_size(
    customer: CustomerAdministrator, control: SandboxControl, name: Callable[[str], str]
) -> None:
    made = [name("paged-kv") for _ in range(5)]
    for one in made:
        await customer.create_vault(one)
    await control.set_timings(list_page_size=2)
    sizes, names = [], []
    url = f"{customer.subscription}/resourceGroups/{customer.resource_group}/providers/Microsoft.KeyVault/vaults?api-version={VAULTS}"
    while url:
        page = await customer.arm.json("GET", url)
        sizes.append(len(page["value"]))
        names += [one["name"] for one in page["value"]]
        url = page.get("nextLink", "")
    assert set(made) <= set(names)
    assert sizes[:3] == [2, 0, 1]
