"""SQL servers and databases on customers' keys: identity, key, protector; their refusals; loss, healing, rotation, geo-secondaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.identity.aio import ClientAssertionCredential, ClientSecretCredential
from azure.mgmt.sql.aio import SqlManagementClient
from azure.mgmt.sql.models import (
    EncryptionProtector,
    EncryptionProtectorProperties,
    ResourceIdentity,
    ServerKey,
    ServerKeyProperties,
    ServerProperties,
    ServerUpdate,
    UserIdentity,
)

from sandbox.administrators.rest import ARM, connection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from sandbox.administrators.sql import SqlAdministrator
    from tests.sandbox.conftest import Wire
    from tests.sandbox.issuer import Issuer

VERSION = "api-version=2025-01-01"
MINUTE, DAY = 60, 86_400
REGION = "northeurope"


@pytest.fixture(autouse=True)
async def no_waiting(control: SandboxControl) -> None:
    """Operations end at once, but are asked about all the same."""
    await control.set_timings(sql_operation_seconds=0)


@pytest.fixture
def sql(provider: ProviderAdministrator) -> SqlAdministrator:
    return provider.sql


@pytest.fixture
async def token(env: Mapping[str, str], identity: ProviderIdentity) -> str:
    credential = ClientSecretCredential(
        env["PROVIDER_TENANT_ID"], env["PROVIDER_ADMIN_CLIENT_ID"], env["PROVIDER_ADMIN_CLIENT_SECRET"], **connection(env)
    )
    async with credential:
        return (await credential.get_token(f"{ARM}/.default")).token


@pytest.fixture
async def server(sql: SqlAdministrator, identity: ProviderIdentity, name: Callable[[str], str]) -> str:
    """A server with one database, that may go to the customer's vault, on a Microsoft-managed key; its ARM id."""
    server_id = await sql.create_server(name("contoso-sql"))
    await sql.create_database(server_id, "orders")
    await sql.set_identity(server_id, identity)
    return server_id


@pytest.fixture
async def protected(sql: SqlAdministrator, server: str, key_of_customer: tuple[str, str, str]) -> str:
    """The same on the customer's key."""
    await sql.set_protector(server, key_of_customer[2])
    return server


def server_key(uri: str | None, kind: str = "AzureKeyVault") -> dict[str, Any]:
    return {"properties": {"serverKeyType": kind, **({"uri": uri} if uri is not None else {})}}


def key_name(uri: str) -> str:
    host, rest = uri.removeprefix("https://").split("/keys/")
    return "_".join((host.split(".")[0], *rest.split("/")))


async def test_the_operators_own_sdk_and_identity_put_a_server_on_the_customers_key(
    env: Mapping[str, str],
    identity: ProviderIdentity,
    provider: ProviderAdministrator,
    issuer: Issuer,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    vault, key, key_id = key_of_customer
    server = name("contoso-sql")
    await provider.sql.create_server(server)
    credential = ClientAssertionCredential(
        env["PROVIDER_TENANT_ID"], identity.managed_identity_client_id, issuer.token, **connection(env)
    )
    version = key_id.rsplit("/", 1)[-1]
    named = f"{vault}_{key}_{version}"
    where = ("rg-contoso", server)
    async with (
        credential,
        SqlManagementClient(credential, env["SUBSCRIPTION_ID"], polling_interval=0, **connection(env)) as client,
    ):
        update = ServerUpdate(
            identity=ResourceIdentity(
                type="UserAssigned", user_assigned_identities={identity.managed_identity_resource_id: UserIdentity()}
            ),
            properties=ServerProperties(
                primary_user_assigned_identity_id=identity.managed_identity_resource_id,
                federated_client_id=identity.application_client_id,
            ),
        )
        updated = await (await client.servers.begin_update(*where, update)).result()
        wanted = ServerKey(properties=ServerKeyProperties(server_key_type="AzureKeyVault", uri=key_id))
        added = await (await client.server_keys.begin_create_or_update(*where, named, wanted)).result()
        protector = EncryptionProtector(
            properties=EncryptionProtectorProperties(
                server_key_type="AzureKeyVault", server_key_name=named, auto_rotation_enabled=True
            )
        )
        protected = await (await client.encryption_protectors.begin_create_or_update(*where, "current", protector)).result()
        listed = [one.name async for one in client.servers.list()]
    assert server in listed
    assert updated.properties is not None
    assert updated.properties.federated_client_id == identity.application_client_id
    assert (added.name, added.kind) == (named, "azurekeyvault")
    assert protected.properties is not None
    found = protected.properties
    assert (found.server_key_name, found.uri, found.auto_rotation_enabled) == (named, key_id, True)


async def test_a_server_key_and_a_protector_are_operations_with_an_empty_body(
    wire: Wire, token: str, control: SandboxControl, server: str, key_of_customer: tuple[str, str, str]
) -> None:
    uri = key_of_customer[2]
    await control.set_timings(sql_operation_seconds=100)
    started = await wire("PUT", f"{ARM}{server}/keys/{key_name(uri)}?{VERSION}", token=token, body=server_key(uri))
    headers = {key.lower(): value for key, value in started.headers.items()}
    assert (started.status, started.text) == (202, "")
    assert "/serverKeyOperationResults/" in headers["location"]
    assert "/serverKeyAzureAsyncOperation/" in headers["azure-asyncoperation"]
    assert (await wire("GET", headers["azure-asyncoperation"], token=token)).json["status"] == "InProgress"
    conflict = await wire("PUT", f"{ARM}{server}/keys/{key_name(uri)}?{VERSION}", token=token, body=server_key(uri))
    assert (conflict.status, conflict.code) == (409, "ConflictingServerOperation")
    missing = await wire("GET", f"{ARM}{server}/keys/{key_name(uri)}?{VERSION}", token=token)
    assert (missing.status, missing.code) == (404, "ServerKeyNotFound")
    await control.advance(100)
    assert (await wire("GET", headers["azure-asyncoperation"], token=token)).json["status"] == "Succeeded"
    key = (await wire("GET", headers["location"], token=token)).json
    assert (key["name"], key["properties"]["uri"]) == (key_name(uri), uri)


VAULT = "https://contoso.vault.azure.net"
KEYS_REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "no uri": ("v_k", server_key(None), 400, "SecurityAzureKeyVaultUrlNullOrEmpty"),
    "not a key's uri": ("v_k", server_key(f"{VAULT}/secrets/k"), 400, "AzureKeyVaultInvalidUri"),
    "not a vault": ("v_k", server_key("https://example.com/keys/k"), 400, "AzureKeyVaultMalformedVaultUri"),
    "not https": ("v_k", server_key("http://contoso.vault.azure.net/keys/k"), 400, "AzureKeyVaultInvalidUri"),
    "a host below a vault's": (
        "v_k",
        server_key("https://a.contoso.vault.azure.net/keys/k"),
        400,
        "AzureKeyVaultMalformedVaultUri",
    ),
    "a vault of another cloud": (
        "v_k",
        server_key("https://contoso.vault.azure.cn/keys/k"),
        400,
        "AzureKeyVaultMalformedVaultUri",
    ),
    "another port": ("v_k", server_key("https://contoso.vault.azure.net:8443/keys/k"), 400, "AzureKeyVaultMalformedVaultUri"),
    "a user in front of the host": (
        "v_k",
        server_key("https://me@contoso.vault.azure.net/keys/k"),
        400,
        "AzureKeyVaultMalformedVaultUri",
    ),
    "a name that no vault has": ("v_k", server_key("https://v.vault.azure.net/keys/k"), 400, "AzureKeyVaultMalformedVaultUri"),
    "a query": ("v_k", server_key(f"{VAULT}/keys/k?api-version=7.5"), 400, "AzureKeyVaultInvalidUri"),
    "a fragment": ("v_k", server_key(f"{VAULT}/keys/k#x"), 400, "AzureKeyVaultInvalidUri"),
    "more than a version": ("v_k", server_key(f"{VAULT}/keys/k/{'a' * 32}/wrapkey"), 400, "AzureKeyVaultInvalidUri"),
    "not a version": ("v_k", server_key(f"{VAULT}/keys/k/latest"), 400, "AzureKeyVaultInvalidUri"),
    "another name": ("contoso_other", server_key(f"{VAULT}/keys/cmk"), 400, "InvalidKeyName"),
    "the version is missing in the name": ("contoso_cmk", server_key(f"{VAULT}/keys/cmk/{'a' * 32}"), 400, "InvalidKeyName"),
    "95 characters of names": (
        f"contoso_{'k' * 88}",
        server_key(f"{VAULT}/keys/{'k' * 88}"),
        400,
        "SecurityAzureKeyVaultInvalidKeyName",
    ),
    "Microsoft's own": ("contoso_cmk", server_key(None, "ServiceManaged"), 400, "InvalidKeyUpsertRequest"),
    "no such kind": ("contoso_cmk", server_key(f"{VAULT}/keys/cmk", "ManagedHsm"), 400, "InvalidKeyType"),
    "no such vault": (
        "never-was_cmk",
        server_key("https://never-was.vault.azure.net/keys/cmk"),
        503,
        "AzureKeyVaultConnectionFailed",
    ),
    "an unknown field": (
        "contoso_cmk",
        {"properties": {**server_key(f"{VAULT}/keys/cmk")["properties"], "keyUri": ""}},
        400,
        "InvalidRequestContent",
    ),
}


@pytest.mark.parametrize("case", KEYS_REFUSED)
async def test_a_server_key_is_refused_in_azures_words(wire: Wire, token: str, case: str, shared_server: str) -> None:
    named, body, status, code = KEYS_REFUSED[case]
    refused = await wire("PUT", f"{ARM}{shared_server}/keys/{named}?{VERSION}", token=token, body=body)
    assert (refused.status, refused.code) == (status, code)


PROTECTORS_REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "a key that the server does not know": (
        {"serverKeyType": "AzureKeyVault", "serverKeyName": "contoso_cmk_1"},
        409,
        "ServerKeyDoesNotExists",
    ),
    "no key": ({"serverKeyType": "AzureKeyVault"}, 400, "InvalidKeyName"),
    "Microsoft's key as the customer's": (
        {"serverKeyType": "AzureKeyVault", "serverKeyName": "ServiceManaged"},
        400,
        "InvalidUpsertKeyType",
    ),
    "the customer's key as Microsoft's": (
        {"serverKeyType": "ServiceManaged", "serverKeyName": "contoso_cmk_1"},
        400,
        "InvalidUpsertKeyType",
    ),
}


@pytest.mark.parametrize("case", PROTECTORS_REFUSED)
async def test_a_protector_is_refused_in_azures_words(wire: Wire, token: str, case: str, shared_server: str) -> None:
    properties, status, code = PROTECTORS_REFUSED[case]
    url = f"{ARM}{shared_server}/encryptionProtector/current?{VERSION}"
    refused = await wire("PUT", url, token=token, body={"properties": properties})
    assert (refused.status, refused.code) == (status, code)


async def test_api_versions_and_protectors_that_do_not_exist_are_refused(wire: Wire, token: str, shared_server: str) -> None:
    protector = f"{ARM}{shared_server}/encryptionProtector"
    assert (await wire("GET", f"{protector}/current?api-version=2014-04-01", token=token)).code == "NoRegisteredProviderFound"
    other = await wire("GET", f"{protector}/other?{VERSION}", token=token)
    assert (other.status, other.code) == (400, "InvalidEncryptionProtectorName")
    assert (await wire("DELETE", f"{protector}/current?{VERSION}", token=token)).status == 405


@pytest.fixture
async def shared_server(sql: SqlAdministrator, identity: ProviderIdentity) -> str:
    """One server for the refusals, which change nothing."""
    try:
        await sql.get(sql.server_id("contoso-sql-refusals"))
    except ResourceNotFoundError:
        await sql.set_identity(await sql.create_server("contoso-sql-refusals"), identity)
    return sql.server_id("contoso-sql-refusals")


async def _refusal(wire: Wire, token: str, server: str, uri: str) -> tuple[int, str]:
    reply = await wire("PUT", f"{ARM}{server}/keys/{key_name(uri)}?{VERSION}", token=token, body=server_key(uri))
    return reply.status, reply.code if reply.text else ""


async def test_what_is_wrong_with_a_key_is_told_with_a_code_that_is_about_the_vault(
    wire: Wire,
    token: str,
    control: SandboxControl,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
    shared_server: str,
) -> None:
    vault, key, uri = key_of_customer
    application = identity.application_client_id

    async def refusal(of: str = uri) -> tuple[int, str]:
        return await _refusal(wire, token, shared_server, of)

    await customer.disable(vault, key)
    assert await refusal() == (400, "AzureKeyVaultKeyDisabled")
    await customer.enable(vault, key)
    await customer.set_firewall(vault, bypass="None")
    assert await refusal() == (400, "AzureKeyVaultMissingPermissions")
    await customer.set_firewall(vault)
    assert await refusal() == (202, "")
    await customer.set_firewall(vault, default_action="Allow")
    assert await refusal(f"https://{vault}.vault.azure.net/keys/none") == (409, "AzureKeyVaultKeyNameNotFound")
    large = await customer.create_key(vault, "large", size=4096)
    assert await refusal(large) == (400, "AzureKeyVaultRsaKeyNotSupported")
    assert await refusal(await customer.create_key(vault, "curve", key_type="EC")) == (400, "AzureKeyVaultRsaKeyNotSupported")
    assert await refusal(await customer.create_key(vault, "medium", size=3072)) == (202, "")
    expiring = await customer.create_key(vault, "expiring")
    await customer.set_expiry(vault, "expiring", await control.now() + 30)
    await control.advance(60)
    assert await refusal(expiring) == (400, "AzureKeyVaultInvalidExpirationDate")
    await customer.delete_key(vault, key)
    assert await refusal() == (409, "AzureKeyVaultKeyNameNotFound")
    await customer.recover_key(vault, key)
    await customer.revoke_grant(application, vault)
    await control.advance(2)
    assert await refusal() == (400, "AzureKeyVaultMissingPermissions")
    unprotected = name("fabrikam-kv")
    await customer.create_vault(unprotected, purge_protection=False)
    soft = await customer.create_key(unprotected, "cmk")
    await customer.grant(application, unprotected)
    await control.advance(2)
    assert await refusal(soft) == (400, "SecurityInvalidAzureKeyVaultRecoveryLevel")
    await customer.withdraw_consent(application)
    assert await refusal(soft) == (400, "AdalServicePrincipalNotFound")
    await customer.consent(application)
    await customer.set_application_enabled(application, enabled=False)
    await control.advance(2)
    assert await refusal(soft) == (400, "AdalGenericError")
    await customer.set_application_enabled(application, enabled=True)


async def test_a_server_without_an_identity_gets_nowhere(
    wire: Wire, token: str, sql: SqlAdministrator, key_of_customer: tuple[str, str, str], name: Callable[[str], str]
) -> None:
    server = await sql.create_server(name("contoso-sql"))
    assert await _refusal(wire, token, server, key_of_customer[2]) == (400, "AzureKeyVaultNoServerIdentity")


async def test_a_key_that_is_lost_in_the_middle_fails_the_operation_and_changes_nothing(
    wire: Wire,
    token: str,
    sql: SqlAdministrator,
    control: SandboxControl,
    customer: CustomerAdministrator,
    server: str,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, uri = key_of_customer
    await control.set_timings(sql_operation_seconds=100)
    started = await wire("PUT", f"{ARM}{server}/keys/{key_name(uri)}?{VERSION}", token=token, body=server_key(uri))
    assert started.status == 202
    await customer.disable(vault, key)
    await control.advance(100)
    headers = {name.lower(): value for name, value in started.headers.items()}
    ended = await wire("GET", headers["azure-asyncoperation"], token=token)
    assert (ended.status, ended.json["status"], ended.code) == (200, "Failed", "AzureKeyVaultKeyDisabled")
    refused = await wire("GET", headers["location"], token=token)
    assert (refused.status, refused.code) == (400, "AzureKeyVaultKeyDisabled")
    assert await sql.keys(server) == ["ServiceManaged"]


async def test_the_operation_alone_judges_the_key_where_the_timings_say_so(
    wire: Wire, token: str, control: SandboxControl, server: str
) -> None:
    await control.set_timings(sql_key_is_judged_by_the_request=False)
    uri = "https://never-was.vault.azure.net/keys/cmk"
    started = await wire("PUT", f"{ARM}{server}/keys/{key_name(uri)}?{VERSION}", token=token, body=server_key(uri))
    headers = {name.lower(): value for name, value in started.headers.items()}
    ended = await wire("GET", headers["azure-asyncoperation"], token=token)
    assert (started.status, ended.json["status"], ended.code) == (202, "Failed", "AzureKeyVaultConnectionFailed")


async def test_a_key_that_protects_cannot_be_deleted_and_the_old_one_stays(
    wire: Wire,
    token: str,
    sql: SqlAdministrator,
    customer: CustomerAdministrator,
    protected: str,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, first = key_of_customer
    refused = await wire("DELETE", f"{ARM}{protected}/keys/{key_name(first)}?{VERSION}", token=token)
    assert (refused.status, refused.code) == (409, "AzureKeyVaultKeyInUse")
    second = await customer.new_version(vault, key)
    await sql.set_protector(protected, second)
    assert (await sql.protector(protected))["uri"] == second
    assert await sql.keys(protected) == ["ServiceManaged", key_name(first), key_name(second)]
    await sql.delete(f"{protected}/keys/{key_name(first)}")
    assert await sql.keys(protected) == ["ServiceManaged", key_name(second)]
    await sql.set_protector(protected, None)
    assert (await sql.protector(protected))["serverKeyType"] == "ServiceManaged"


async def test_a_short_loss_heals_alone(
    sql: SqlAdministrator,
    control: SandboxControl,
    customer: CustomerAdministrator,
    protected: str,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, _ = key_of_customer
    await customer.disable(vault, key)
    assert await sql.status(protected, "orders") == "Online"
    await control.advance(10 * MINUTE)
    assert await sql.status(protected, "orders") == "Inaccessible"
    await customer.enable(vault, key)
    await control.advance(10 * MINUTE)
    assert await sql.status(protected, "orders") == "Online"


async def test_an_expired_key_closes_databases_although_key_vault_still_unwraps_with_it(
    sql: SqlAdministrator,
    control: SandboxControl,
    customer: CustomerAdministrator,
    protected: str,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, _ = key_of_customer
    await customer.set_expiry(vault, key, await control.now() - MINUTE)
    await control.advance(10 * MINUTE)
    assert await sql.status(protected, "orders") == "Inaccessible"
    await customer.set_expiry(vault, key, await control.now() + 1000 * MINUTE)
    await control.advance(10 * MINUTE)
    assert await sql.status(protected, "orders") == "Online"


async def test_a_long_loss_needs_a_revalidation_and_a_lost_server_cannot_leave_the_key(
    wire: Wire,
    token: str,
    sql: SqlAdministrator,
    control: SandboxControl,
    customer: CustomerAdministrator,
    protected: str,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, _ = key_of_customer
    protector = f"{ARM}{protected}/encryptionProtector/current"
    await customer.disable(vault, key)
    await control.advance(60 * MINUTE)
    found = (await sql.get(f"{protected}/inaccessibleDatabases"))["value"]
    assert [(one["name"], one["properties"]["status"]) for one in found] == [("orders", "Inaccessible")]
    leaving = await wire("PUT", f"{protector}?{VERSION}", token=token, body={"properties": {"serverKeyType": "ServiceManaged"}})
    assert (leaving.status, leaving.code) == (400, "AzureKeyVaultKeyDisabled")
    patched = await wire("PATCH", f"{ARM}{protected}/databases/orders?{VERSION}", token=token, body={"tags": {}})
    assert (patched.status, patched.code) == (409, "DatabaseInaccessible")
    in_vain = await wire("POST", f"{protector}/revalidate?{VERSION}", token=token)
    assert (in_vain.status, in_vain.code) == (400, "AzureKeyVaultKeyDisabled")
    await customer.enable(vault, key)
    await control.advance(60 * MINUTE)
    assert await sql.status(protected, "orders") == "Inaccessible"
    assert (await wire("POST", f"{protector}/revalidate?{VERSION}", token=token)).status == 202
    assert await sql.status(protected, "orders") == "Online"


async def test_a_new_version_is_followed_within_a_day_under_a_new_name(
    sql: SqlAdministrator,
    control: SandboxControl,
    customer: CustomerAdministrator,
    server: str,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, first = key_of_customer
    await sql.set_protector(server, first, auto_rotation=True)
    second = await customer.new_version(vault, key)
    assert (await sql.protector(server))["uri"] == first
    await control.advance(DAY)
    found = await sql.protector(server)
    assert (found["uri"], found["serverKeyName"], found["autoRotationEnabled"]) == (second, key_name(second), True)
    assert await sql.keys(server) == ["ServiceManaged", key_name(first), key_name(second)]
    await customer.disable(vault, key, first.rsplit("/", 1)[-1])
    await control.advance(DAY)
    assert await sql.status(server, "orders") == "Online"


async def test_a_pinned_protector_stays(
    sql: SqlAdministrator,
    control: SandboxControl,
    customer: CustomerAdministrator,
    protected: str,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, first = key_of_customer
    await customer.new_version(vault, key)
    await control.advance(3 * DAY)
    assert (await sql.protector(protected))["uri"] == first


async def test_a_server_on_a_key_takes_no_identity_that_cannot_reach_it(
    wire: Wire,
    token: str,
    sql: SqlAdministrator,
    protected: str,
    identity: ProviderIdentity,
) -> None:
    async def patched(**properties: object) -> tuple[int, str]:
        reply = await wire("PATCH", f"{ARM}{protected}?{VERSION}", token=token, body={"properties": properties})
        return reply.status, reply.code if reply.text else ""

    before = await sql.get(protected)
    other = "11111111-1111-1111-1111-111111111111"
    assert await patched(federatedClientId=other) == (400, "AdalServicePrincipalNotFound")
    foreign = f"{identity.managed_identity_resource_id}-2"
    assert await patched(primaryUserAssignedIdentityId=foreign) == (400, "InvalidPrimaryUserAssignedIdentity")
    assert await patched(primaryUserAssignedIdentityId=None) == (400, "InvalidPrimaryUserAssignedIdentity")
    assert await sql.get(protected) == before
    assert await patched(minimalTlsVersion="1.3") == (202, "")
    assert (await sql.get(protected))["properties"]["minimalTlsVersion"] == "1.3"


async def test_a_server_is_created_on_a_key_at_once(
    sql: SqlAdministrator, identity: ProviderIdentity, key_of_customer: tuple[str, str, str], name: Callable[[str], str]
) -> None:
    uri = key_of_customer[2]
    server = await sql.create_server(
        name("contoso-sql"),
        identity={"type": "UserAssigned", "userAssignedIdentities": {identity.managed_identity_resource_id: {}}},
        primaryUserAssignedIdentityId=identity.managed_identity_resource_id,
        federatedClientId=identity.application_client_id,
        keyId=uri,
    )
    assert (await sql.protector(server))["uri"] == uri
    assert (await sql.get(server))["properties"]["keyId"] == uri


async def test_a_geo_secondary_must_know_the_key_first(
    wire: Wire,
    token: str,
    sql: SqlAdministrator,
    control: SandboxControl,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    server: str,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    vault, key, uri = key_of_customer
    secondary = await sql.create_server(name("contoso-sql"), location=REGION)
    await sql.create_failover_group(server, "group", secondary, [f"{server}/databases/orders"])
    seen = (await sql.get(f"{secondary}/failoverGroups"))["value"][0]["properties"]
    assert (seen["replicationRole"], seen["partnerServers"][0]["id"]) == ("Secondary", server)
    assert await sql.status(secondary, "orders") == "Online"
    named = await sql.add_key(server, uri)
    body = {"properties": {"serverKeyType": "AzureKeyVault", "serverKeyName": named, "autoRotationEnabled": True}}
    url = f"{ARM}{server}/encryptionProtector/current?{VERSION}"
    refused = await wire("PUT", url, token=token, body=body)
    assert (refused.status, refused.code) == (400, "KeyMaterialNotFoundOnRemoteServer")
    await sql.set_identity(secondary, identity)
    await sql.add_key(secondary, uri)
    assert (await wire("PUT", url, token=token, body=body)).status == 202
    assert (await sql.protector(server))["uri"] == uri
    second = await customer.new_version(vault, key)
    await control.advance(DAY)
    assert (await sql.protector(server))["uri"] == uri, "the secondary does not follow the key"
    await sql.set_protector(secondary, uri, auto_rotation=True)
    await control.advance(DAY)
    await control.advance(DAY)
    assert (await sql.protector(server))["uri"] == second
    assert (await sql.protector(secondary))["uri"] == second
    third = await sql.create_server(name("contoso-sql"), location="eastus")
    await sql.set_identity(third, identity)
    await sql.add_key(third, second)
    await sql.create_failover_group(secondary, "chain", third)
    chained = await wire(
        "PUT",
        url,
        token=token,
        body={"properties": {"serverKeyType": "AzureKeyVault", "serverKeyName": key_name(second)}},
    )
    assert (chained.status, chained.code) == (400, "SecurityAzureKeyVaultGeoChainError")


async def test_a_database_has_a_key_of_its_own(
    wire: Wire,
    token: str,
    sql: SqlAdministrator,
    control: SandboxControl,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    vault, key, uri = key_of_customer
    server = await sql.create_server(name("contoso-sql"))
    database = await sql.create_database(server, "orders")
    url = f"{ARM}{database}?{VERSION}"
    assigned = {"type": "UserAssigned", "userAssignedIdentities": {identity.managed_identity_resource_id: {}}}
    properties = {"encryptionProtector": uri, "federatedClientId": identity.application_client_id}
    nobody = await wire("PATCH", url, token=token, body={"properties": properties})
    assert (nobody.status, nobody.code) == (400, "AzureKeyVaultNoServerIdentity")
    system = await wire("PATCH", url, token=token, body={"identity": {"type": "SystemAssigned"}, "properties": properties})
    assert (system.status, system.code) == (400, "InvalidDatabaseIdentity")
    wanted = {**properties, "encryptionProtectorAutoRotation": True, "keys": {uri: {}}}
    await sql.patch(database, {"identity": assigned, "properties": wanted})
    found = (await sql.get(database))["properties"]
    assert (found["encryptionProtector"], found["encryptionProtectorAutoRotation"]) == (uri, True)
    assert "keys" not in found
    expanded = (await wire("GET", f"{url}&$expand=keys", token=token)).json["properties"]["keys"]
    assert list(expanded) == [uri]
    second = await customer.new_version(vault, key)
    await control.advance(DAY)
    assert (await sql.get(database))["properties"]["encryptionProtector"] == second
    await customer.disable(vault, key)
    await control.advance(60 * MINUTE)
    assert await sql.status(server, "orders") == "Inaccessible"
    await customer.enable(vault, key)
    assert (await wire("POST", f"{ARM}{database}/encryptionProtector/current/revalidate?{VERSION}", token=token)).status == 202
    assert await sql.status(server, "orders") == "Online"
    await sql.set_identity(server, identity)
    await sql.set_protector(server, uri)
    revert = f"{ARM}{database}/encryptionProtector/current/revert?{VERSION}"
    assert (await wire("POST", revert, token=token)).status == 409
    await sql.set_protector(server, None)
    assert (await wire("POST", revert, token=token)).status == 202
    assert "encryptionProtector" not in (await sql.get(database))["properties"]


@pytest.mark.parametrize(("version", "status"), [("2020-11-01-preview", 401), ("2021-11-01", 400), ("2025-01-01", 400)])
async def test_before_2021_11_01_a_refusal_of_the_vault_has_the_status_401(
    wire: Wire,
    token: str,
    customer: CustomerAdministrator,
    key_of_customer: tuple[str, str, str],
    shared_server: str,
    version: str,
    status: int,
) -> None:
    vault, key, uri = key_of_customer
    await customer.disable(vault, key)
    url = f"{ARM}{shared_server}/keys/{key_name(uri)}?api-version={version}"
    refused = await wire("PUT", url, token=token, body=server_key(uri))
    assert (refused.status, refused.code) == (status, "AzureKeyVaultKeyDisabled")


async def test_two_changes_of_a_protector_at_once_and_other_names_of_it_have_codes_of_their_own(
    wire: Wire, token: str, sql: SqlAdministrator, control: SandboxControl, protected: str
) -> None:
    await control.set_timings(sql_operation_seconds=100)
    name = (await sql.protector(protected))["serverKeyName"]
    body = {"properties": {"serverKeyType": "AzureKeyVault", "serverKeyName": name}}
    url = f"{ARM}{protected}/encryptionProtector/current?{VERSION}"
    assert (await wire("PUT", url, token=token, body=body)).status == 202
    again = await wire("PUT", url, token=token, body=body)
    assert (again.status, again.code) == (409, "EncryptionProtectorChangeInProgress")
    other = await wire("PUT", url.replace("current", "other"), token=token, body=body)
    assert (other.status, other.code) == (400, "InvalidEncryptionProtectorName")
    await control.advance(100)


async def test_a_server_that_becomes_an_identity_without_rights_on_the_key_is_refused_by_a_code_of_its_own(
    wire: Wire,
    token: str,
    customer: CustomerAdministrator,
    control: SandboxControl,
    identity: ProviderIdentity,
    protected: str,
    key_of_customer: tuple[str, str, str],
) -> None:
    await customer.revoke_grant(identity.application_client_id, key_of_customer[0])
    await control.advance(2)
    url = f"{ARM}{protected}?{VERSION}"
    properties = {"federatedClientId": identity.application_client_id}
    refused = await wire("PATCH", url, token=token, body={"properties": properties})
    assert (refused.status, refused.code) == (400, "UmiMissingAkvPermissions")
    await customer.grant(identity.application_client_id, key_of_customer[0])
    await control.advance(2)
    assert (await wire("PATCH", url, token=token, body={"properties": properties})).status == 202
