"""ARM's front door: tokens, api-versions, bodies, roles with their propagation, locks."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity.aio import ClientAssertionCredential, ClientSecretCredential

from sandbox.administrators import ProviderAdministrator
from sandbox.administrators.rest import ARM, AzureRest, connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from sandbox.administrators import CustomerAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.conftest import Wire
    from tests.sandbox.issuer import Issuer

ARM_SCOPE = f"{ARM}/.default"
STORAGE = "2026-09-01"


@pytest.fixture
async def tokens(env: Mapping[str, str], identity: ProviderIdentity) -> dict[str, str]:
    found = {}
    for side in ("PROVIDER", "CUSTOMER"):
        credential = ClientSecretCredential(
            env[f"{side}_TENANT_ID"], env[f"{side}_ADMIN_CLIENT_ID"], env[f"{side}_ADMIN_CLIENT_SECRET"], **connection(env)
        )
        async with credential:
            found[side] = (await credential.get_token(ARM_SCOPE)).token
            found[f"{side} vault"] = (await credential.get_token("https://vault.azure.net/.default")).token
    return found


@pytest.fixture
async def operator(env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer) -> AsyncIterator[AzureRest]:
    """ARM as the operator's managed identity."""
    client_id = identity.managed_identity_client_id
    credential = ClientAssertionCredential(env["PROVIDER_TENANT_ID"], client_id, issuer.token, **connection(env))
    async with credential, AzureRest(credential, ARM, ARM_SCOPE, env) as client:
        yield client


@pytest.fixture(scope="session")
def account(env: Mapping[str, str], identity: ProviderIdentity) -> str:
    """A storage account that these tests send anything to."""

    async def made() -> str:
        async with ProviderAdministrator(env) as provider:
            return await provider.create_storage_account("strictfrontdoor")

    return asyncio.run(made())


async def test_every_token_is_checked(wire: Wire, env: Mapping[str, str], tokens: dict[str, str]) -> None:
    url = f"{ARM}/subscriptions/{env['SUBSCRIPTION_ID']}?api-version=2022-12-01"
    header, payload, signature = tokens["PROVIDER"].split(".")
    for token, code in (
        (None, "AuthenticationFailed"),
        ("nonsense", "InvalidAuthenticationToken"),
        (f"{header}.{payload}.{signature[::-1]}", "InvalidAuthenticationToken"),
        (tokens["PROVIDER vault"], "InvalidAuthenticationTokenAudience"),
        (tokens["CUSTOMER"], "InvalidAuthenticationTokenTenant"),
    ):
        reply = await wire("GET", url, token=token)
        assert (reply.status, reply.code) == (401, code)
        assert reply.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")
    reply = await wire("GET", url, token=tokens["PROVIDER"], headers={"x-ms-client-request-id": "mine"})
    assert reply.status == 200
    assert reply.headers["x-ms-client-request-id"] == "mine"
    assert reply.headers["x-ms-request-id"]
    assert reply.headers["x-ms-correlation-request-id"]
    assert int(reply.headers["x-ms-ratelimit-remaining-subscription-reads"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/providers/Microsoft.Storage/storageAccounts", 400, "MissingApiVersionParameter"),
        ("GET", "/providers/Microsoft.Storage/storageAccounts?api-version=1999-01-01", 400, "NoRegisteredProviderFound"),
        ("GET", "/resourcegroups?api-version=1999-01-01", 400, "InvalidApiVersionParameter"),
        ("GET", "/providers/Microsoft.Nothing/things?api-version=2024-01-01", 404, "InvalidResourceNamespace"),
        ("GET", "/providers/Microsoft.KeyVault/things?api-version=2024-11-01", 404, "InvalidResourceType"),
        (
            "GET",
            "/resourceGroups/none/providers/Microsoft.Storage/storageAccounts/x?api-version=2026-09-01",
            404,
            "ResourceGroupNotFound",
        ),
        (
            "GET",
            "/resourceGroups/rg-contoso/providers/Microsoft.Storage/storageAccounts/x?api-version=2026-09-01",
            404,
            "ResourceNotFound",
        ),
        ("POST", "/resourcegroups/rg-contoso?api-version=2024-11-01", 405, "MethodNotAllowed"),
    ],
)
async def test_a_wrong_path_or_api_version_is_refused(
    wire: Wire, env: Mapping[str, str], tokens: dict[str, str], method: str, path: str, status: int, code: str
) -> None:
    reply = await wire(method, f"{ARM}/subscriptions/{env['SUBSCRIPTION_ID']}{path}", token=tokens["PROVIDER"], body={})
    assert (reply.status, reply.code) == (status, code)


async def test_an_unknown_subscription_is_not_found(wire: Wire, tokens: dict[str, str]) -> None:
    reply = await wire("GET", f"{ARM}/subscriptions/{uuid.UUID(int=0)}?api-version=2022-12-01", token=tokens["PROVIDER"])
    assert (reply.status, reply.code) == (404, "SubscriptionNotFound")


@pytest.mark.parametrize(
    "body",
    [
        {"propertys": {}},
        {"properties": {"encryptionn": {}}},
        {"properties": {"encryption": {"keyVaultProperties": {}}}},
        {"properties": {"encryption": {"keyvaultproperties": {"keyName": "k"}}}},
        {"properties": {"encryption": {"identity": {"userAssignedIdentities": {}}}}},
        {"properties": {"minimumTlsVersion": "TLS9"}},
        {"identity": {"userAssignedIdentities": {}}},
    ],
)
async def test_an_unknown_or_wrong_field_is_refused(
    provider: ProviderAdministrator, name: Callable[[str], str], body: dict[str, Any]
) -> None:
    account = await provider.create_storage_account(name("strict"))
    with pytest.raises(HttpResponseError) as refusal:
        await provider.patch(account, STORAGE, body)
    assert refusal.value.status_code == 400
    assert refusal.value.error is not None
    assert refusal.value.error.code == "InvalidRequestContent"


@pytest.mark.parametrize(
    ("text", "media_type", "status", "code"),
    [
        ("a=b", "application/json", 400, "InvalidRequestContent"),
        ('{"tags": {"a": NaN}}', "application/json", 400, "InvalidRequestContent"),
        ("[" * 100_000, "application/json", 400, "InvalidRequestContent"),
        ("[]", "application/json; charset=utf-8", 400, "InvalidRequestContent"),
        ("{}", "application/json; charset=utf-8", 200, ""),
        ("", "", 200, ""),
        ("a=b", "application/x-www-form-urlencoded", 415, "UnsupportedMediaType"),
        ("{}", "text/json", 415, "UnsupportedMediaType"),
        ("{}", "", 415, "UnsupportedMediaType"),
        ('{"tags": {"a": "' + "b" * 4 * 1024 * 1024 + '"}}', "application/json", 413, "RequestContentTooLarge"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_body_must_be_json_be_called_so_and_have_at_most_4_mb(
    wire: Wire,
    provider: ProviderAdministrator,
    tokens: dict[str, str],
    account: str,
    text: str,
    media_type: str,
    status: int,
    code: str,
) -> None:
    headers = {"Content-Type": media_type} if media_type else None
    url = f"{ARM}{account}?api-version={STORAGE}"
    reply = await wire("PATCH", url, token=tokens["PROVIDER"], text=text, headers=headers)
    assert (reply.status, reply.code if code else "") == (status, code)


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({f"name{number}": "" for number in range(50)}, None),
        ({f"name{number}": "" for number in range(51)}, "InvalidTags"),
        ({"n" * 512: "v" * 256}, None),
        ({"n" * 513: ""}, "InvalidTagName"),
        ({"name": "v" * 257}, "InvalidTagName"),
        ({"a/b": ""}, "InvalidTagNameCharacters"),
        ({"name": 5}, "InvalidRequestContent"),
        ({"name": None}, "InvalidRequestContent"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_tags_have_limits(
    provider: ProviderAdministrator, name: Callable[[str], str], tags: Any, code: str | None
) -> None:
    group = f"{provider.subscription}/resourceGroups/{name('rg-tagged')}"
    body = {"location": "westeurope", "tags": tags}
    if code is None:
        assert (await provider.put(group, "2024-11-01", body))["tags"] == tags
        return
    with pytest.raises(HttpResponseError, match=code) as refusal:
        await provider.put(group, "2024-11-01", body)
    assert refusal.value.status_code == 400


async def test_without_a_role_the_action_and_the_scope_are_named(operator: AzureRest, provider: ProviderAdministrator) -> None:
    vaults = f"{provider.subscription}/providers/Microsoft.KeyVault/vaults?api-version=2026-02-01"
    with pytest.raises(HttpResponseError) as refusal:
        await operator.json("GET", vaults)
    assert refusal.value.status_code == 403
    assert refusal.value.error is not None
    assert refusal.value.error.code == "AuthorizationFailed"
    message = str(refusal.value.error.message)
    assert f"to perform action 'Microsoft.KeyVault/vaults/read' over scope '{provider.subscription}'" in message


async def test_a_grant_and_its_withdrawal_take_effect_only_after_propagation(
    operator: AzureRest,
    provider: ProviderAdministrator,
    identity: ProviderIdentity,
    control: SandboxControl,
    name: Callable[[str], str],
) -> None:
    await control.set_timings(role_propagation_seconds=300)
    group = await provider.create_resource_group(name("rg-role"))
    vaults = f"{group}/providers/Microsoft.KeyVault/vaults?api-version=2026-02-01"
    await provider.assign_role(identity.managed_identity_principal_id, "Key Vault Reader", group)
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        await operator.json("GET", vaults)
    await control.advance(301)
    assert (await operator.json("GET", vaults))["value"] == []
    await provider.withdraw_roles(identity.managed_identity_principal_id, group)
    assert (await operator.json("GET", vaults))["value"] == []
    await control.advance(301)
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        await operator.json("GET", vaults)


async def test_a_role_of_one_group_says_nothing_about_a_group_whose_name_begins_alike(
    operator: AzureRest,
    provider: ProviderAdministrator,
    identity: ProviderIdentity,
    control: SandboxControl,
    name: Callable[[str], str],
) -> None:
    short = name("rg-a")
    first, second = await provider.create_resource_group(short), await provider.create_resource_group(f"{short}x")
    await provider.assign_role(identity.managed_identity_principal_id, "Reader", first)
    await control.advance(2)
    vaults = "providers/Microsoft.KeyVault/vaults?api-version=2026-02-01"
    shouted = first.upper().replace("/SUBSCRIPTIONS", "/subscriptions")
    assert (await operator.json("GET", f"{shouted}/{vaults}"))["value"] == []
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        await operator.json("GET", f"{second}/{vaults}")


async def test_an_identity_that_the_caller_may_not_assign_is_refused_as_linked(
    operator: AzureRest, provider: ProviderAdministrator, name: Callable[[str], str]
) -> None:
    group = await provider.create_resource_group("rg-contoso")
    other = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name('other')}"
    await provider.put(other, "2024-11-30", {"location": "westeurope"})
    account = await provider.create_storage_account(name("linked"))
    body = {"identity": {"type": "UserAssigned", "userAssignedIdentities": {other: {}}}}
    with pytest.raises(HttpResponseError) as refusal:
        await operator.json("PATCH", f"{account}?api-version={STORAGE}", body)
    assert refusal.value.status_code == 403
    assert refusal.value.error is not None
    assert refusal.value.error.code == "LinkedAuthorizationFailed"
    assert "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action" in str(refusal.value.error.message)


@pytest.mark.parametrize(
    ("level", "method", "locked"),
    [
        ("ReadOnly", "PATCH", True),
        ("ReadOnly", "DELETE", True),
        ("CanNotDelete", "PATCH", False),
        ("CanNotDelete", "DELETE", True),
    ],
)
@pytest.mark.parametrize("inherited", [False, True])
async def test_locks_hold_at_and_below_their_scope(
    provider: ProviderAdministrator,
    name: Callable[[str], str],
    level: str,
    method: str,
    locked: bool,  # noqa: FBT001 - a column of the table
    inherited: bool,  # noqa: FBT001 - as above
) -> None:
    group = await provider.create_resource_group(name("rg-locked"))
    account = await provider.create_storage_account(name("locked"), resource_group=group.rsplit("/", 1)[-1])
    lock = await provider.lock(group if inherited else account, level=level)
    call = provider.arm.json(method, f"{account}?api-version={STORAGE}", {"tags": {"a": "b"}} if method == "PATCH" else None)
    if not locked:
        assert (await call)["tags"] == {"a": "b"}
        return
    with pytest.raises(HttpResponseError) as refusal:
        await call
    assert refusal.value.status_code == 409
    assert refusal.value.error is not None
    assert refusal.value.error.code == "ScopeLocked"
    listed = await provider.arm.json("GET", f"{account}/providers/Microsoft.Authorization/locks?api-version=2020-05-01")
    assert [one["id"] for one in listed["value"]] == [lock]
    await provider.unlock(lock)
    await provider.arm.json(method, f"{account}?api-version={STORAGE}", {"tags": {"a": "b"}} if method == "PATCH" else None)


async def test_role_assignments_are_strict(
    customer: CustomerAdministrator, provider: ProviderAdministrator, identity: ProviderIdentity
) -> None:
    scope = customer.subscription
    stranger = identity.managed_identity_principal_id
    reader = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
    for name, role, principal, code in (
        ("no-guid", reader, stranger, "InvalidRoleAssignmentId"),
        (str(uuid.uuid4()), str(uuid.UUID(int=5)), stranger, "RoleDefinitionDoesNotExist"),
        (str(uuid.uuid4()), reader, stranger, "PrincipalNotFound"),
    ):
        body = {
            "properties": {
                "roleDefinitionId": f"/providers/Microsoft.Authorization/roleDefinitions/{role}",
                "principalId": principal,
            }
        }
        with pytest.raises(HttpResponseError) as refusal:
            await customer.put(f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}", "2022-04-01", body)
        assert refusal.value.error is not None
        assert refusal.value.error.code == code
    own = await customer.principal_id(identity.application_client_id)
    group = await customer.create_resource_group("rg-roles")
    body = {"properties": {"roleDefinitionId": f"/x/{reader}", "principalId": own}}
    await customer.put(f"{group}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}", "2022-04-01", body)
    with pytest.raises(HttpResponseError, match="RoleAssignmentExists"):
        await customer.put(f"{group}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}", "2022-04-01", body)


async def test_a_caller_is_told_what_it_may_do_at_a_scope_one_entry_an_assignment(
    operator: AzureRest,
    provider: ProviderAdministrator,
    identity: ProviderIdentity,
    control: SandboxControl,
    name: Callable[[str], str],
) -> None:
    group = await provider.create_resource_group(name("rg-rights"))
    url = f"{group}/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"
    before = (await operator.json("GET", url))["value"]
    await provider.assign_role(identity.managed_identity_principal_id, "Reader", group)
    await control.advance(2)
    after = (await operator.json("GET", url))["value"]
    reader = {"actions": ["*/read"], "notActions": [], "dataActions": [], "notDataActions": []}
    assert (reader in before, reader in after, len(after) - len(before)) == (False, True, 1)
    assert "Microsoft.Storage/storageAccounts/*" in [action for entry in after for action in entry["actions"]], "from above"
    own = f"{identity.managed_identity_resource_id}/providers/Microsoft.Authorization/permissions"
    with pytest.raises(HttpResponseError, match="InvalidResourceType"):
        await operator.json("GET", f"{own}?api-version=2020-01-01")
    await provider.withdraw_roles(identity.managed_identity_principal_id, group)


async def test_a_tenant_s_administrator_makes_further_subscriptions_with_rights_of_its_own(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    operator: AzureRest,
    control: SandboxControl,
    name: Callable[[str], str],
) -> None:
    await control.set_timings(role_propagation_seconds=0)
    alias = name("subscription")
    other = await provider.in_another_subscription(alias, identity.managed_identity_principal_id)
    again = await provider.in_another_subscription(alias.upper(), identity.managed_identity_principal_id)
    assert other.subscription_id == again.subscription_id != provider.subscription_id
    listed = await operator.json("GET", "/subscriptions?api-version=2022-12-01")
    assert {other.subscription_id, provider.subscription_id} <= {one["subscriptionId"] for one in listed["value"]}
    await other.create_resource_group("rg-other")
    account = await other.create_storage_account(name("other").replace("-", ""), resource_group="rg-other")
    assert account.startswith(f"/subscriptions/{other.subscription_id}/")
    assert (await operator.json("GET", f"{account}?api-version={STORAGE}"))["id"] == account
    with pytest.raises(HttpResponseError) as refused:
        await customer.get(other.subscription, "2022-12-01")
    assert refused.value.status_code == 401
    body = {"properties": {"displayName": "x"}}
    with pytest.raises(HttpResponseError) as refused:
        await operator.json("PUT", f"/providers/Microsoft.Subscription/aliases/{alias}-2?api-version=2021-10-01", body)
    assert refused.value.status_code == 401


@pytest.mark.parametrize(
    ("group", "code"),
    [("rg-1_(a).b", None), ("r" * 90, None), ("r" * 91, "InvalidResourceGroup"), ("ends.", "InvalidResourceGroup")],
    ids=lambda value: str(value)[:20],
)
async def test_a_resource_group_has_a_name_of_at_most_90_characters(
    provider: ProviderAdministrator, group: str, code: str | None
) -> None:
    if code is None:
        await provider.create_resource_group(group)
        return
    with pytest.raises(HttpResponseError, match=code):
        await provider.create_resource_group(group)
