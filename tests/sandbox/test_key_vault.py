"""Key Vault: the vault as a resource, and its keys by the real KeyClient and CryptographyClient."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.identity import ClientSecretCredential as BlockingCredential
from azure.identity.aio import ClientAssertionCredential, ClientSecretCredential
from azure.keyvault.keys import KeyClient as BlockingKeyClient
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient as BlockingCryptographyClient
from azure.keyvault.keys.crypto import EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm

from sandbox.administrators.rest import blocking_connection, connection
from sandbox.azure.timings import Timings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from azure.core.credentials_async import AsyncTokenCredential

    from sandbox.administrators import CustomerAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.conftest import Wire
    from tests.sandbox.issuer import Issuer

WRAPPED = "A" * 342  # 256 bytes in base64url
API = "api-version=2025-07-01"


def reason(error: HttpResponseError) -> tuple[int | None, str]:
    """The status and the innermost code."""
    assert error.error is not None
    inner: Any = error.error.innererror or {}
    return error.status_code, str(inner.get("code") or error.error.code)


@pytest.fixture
async def application(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer
) -> AsyncIterator[AsyncTokenCredential]:
    """The provider's multitenant application, in the customer's tenant."""
    tenant, app_id = env["CUSTOMER_TENANT_ID"], identity.application_client_id
    async with ClientAssertionCredential(tenant, app_id, issuer.token, **connection(env)) as credential:
        yield credential


async def use(
    env: Mapping[str, str], credential: AsyncTokenCredential, vault: str, key: str, version: str = ""
) -> dict[str, Any]:
    """What a probe does: get, remote wrap, remote unwrap; the unwrapped bytes have to be those that were wrapped."""
    async with KeyClient(f"https://{vault}.vault.azure.net", credential, retry_total=0, **connection(env)) as client:
        found = await client.get_key(key, version or None)
        wrapped = await _remote(env, credential, str(found.id), "wrapkey", "AAECAw")
        unwrapped = await _remote(env, credential, str(found.id), "unwrapkey", wrapped["value"])
        assert unwrapped["value"] == "AAECAw"
        return wrapped


async def _remote(
    env: Mapping[str, str], credential: AsyncTokenCredential, key_id: str, operation: str, value: str
) -> dict[str, Any]:
    from sandbox.administrators.rest import AzureRest  # noqa: PLC0415 - only this helper speaks REST

    async with AzureRest(credential, key_id, "https://vault.azure.net/.default", env) as client:
        return await client.json("POST", f"/{operation}?{API}", {"alg": "RSA-OAEP-256", "value": value})


async def test_the_blocking_clients_work_unmodified(
    env: Mapping[str, str], customer: CustomerAdministrator, name: Callable[[str], str]
) -> None:
    vault = name("sync-kv")
    await customer.create_vault(vault)
    credential = BlockingCredential(
        env["CUSTOMER_TENANT_ID"],
        env["CUSTOMER_ADMIN_CLIENT_ID"],
        env["CUSTOMER_ADMIN_CLIENT_SECRET"],
        **blocking_connection(env),
    )

    def story() -> None:
        with (
            credential,
            BlockingKeyClient(f"https://{vault}.vault.azure.net", credential, **blocking_connection(env)) as client,
        ):
            key = client.create_rsa_key("all", size=3072)
            assert key.key_type == "RSA"
            assert len(getattr(key.key, "n")) == 384  # noqa: B009 - the SDK does not type its fields
            with BlockingCryptographyClient(key, credential, **blocking_connection(env)) as crypto:
                wrapped = crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep, b"secret").encrypted_key
                assert crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep, wrapped).key == b"secret"
                sealed = crypto.encrypt(EncryptionAlgorithm.rsa_oaep_256, b"text").ciphertext
                assert crypto.decrypt(EncryptionAlgorithm.rsa_oaep_256, sealed).plaintext == b"text"
                signature = crypto.sign(SignatureAlgorithm.ps256, b"d" * 32).signature
                assert crypto.verify(SignatureAlgorithm.ps256, b"d" * 32, signature).is_valid
            latest = client.get_cryptography_client("all")
            signature = latest.sign(SignatureAlgorithm.rs256, b"d" * 32).signature
            assert latest.verify(SignatureAlgorithm.rs256, b"d" * 32, signature).is_valid, "no version is named"
            curve = client.create_ec_key("curve", curve="P-384")
            with BlockingCryptographyClient(curve, credential, **blocking_connection(env)) as crypto:
                signature = crypto.sign(SignatureAlgorithm.es384, b"d" * 48).signature
                assert crypto.verify(SignatureAlgorithm.es384, b"d" * 48, signature).is_valid
            client.rotate_key("all")
            assert len(list(client.list_properties_of_key_versions("all"))) == 2
            assert {one.name for one in client.list_properties_of_keys()} == {"all", "curve"}
            client.begin_delete_key("curve").wait()
            assert [one.name for one in client.list_deleted_keys()] == ["curve"]
            client.begin_recover_deleted_key("curve").wait()
            assert client.get_key("curve").properties.enabled

    await asyncio.to_thread(story)


async def test_many_versions_come_in_pages_of_at_most_25(
    env: Mapping[str, str], customer: CustomerAdministrator, name: Callable[[str], str], wire: Wire
) -> None:
    vault = name("paged-kv")
    await customer.create_vault(vault)
    async with (
        ClientSecretCredential(
            env["CUSTOMER_TENANT_ID"], env["CUSTOMER_ADMIN_CLIENT_ID"], env["CUSTOMER_ADMIN_CLIENT_SECRET"], **connection(env)
        ) as credential,
        KeyClient(f"https://{vault}.vault.azure.net", credential, **connection(env)) as client,
    ):
        for _ in range(27):
            await client.create_ec_key("many")
        assert len([one async for one in client.list_properties_of_key_versions("many")]) == 27
        token = (await credential.get_token("https://vault.azure.net/.default")).token
        reply = await wire("GET", f"https://{vault}.vault.azure.net/keys/many/versions?{API}&maxresults=26", token=token)
    assert (reply.status, reply.code) == (400, "BadParameter")


async def test_the_list_of_keys_shows_each_latest_version_in_pages_whose_links_name_the_port(
    env: Mapping[str, str], customer: CustomerAdministrator, name: Callable[[str], str], wire: Wire
) -> None:
    vault = name("listed-kv")
    await customer.create_vault(vault)
    host = f"https://{vault}.vault.azure.net"
    async with (
        ClientSecretCredential(
            env["CUSTOMER_TENANT_ID"], env["CUSTOMER_ADMIN_CLIENT_ID"], env["CUSTOMER_ADMIN_CLIENT_SECRET"], **connection(env)
        ) as credential,
        KeyClient(host, credential, **connection(env)) as client,
    ):
        for number in range(25):
            await client.create_ec_key(f"key-{number}", tags={"number": str(number)})
        newest = await client.create_ec_key("key-3", enabled=False)
        shown = {one.name: one async for one in client.list_properties_of_keys()}
        token = (await credential.get_token("https://vault.azure.net/.default")).token
        first = await wire("GET", f"{host}/keys?{API}", token=token)
        pages = [first.json]
        while pages[-1]["nextLink"] is not None:
            pages.append((await wire("GET", pages[-1]["nextLink"], token=token)).json)
        forged = await wire("GET", f"{host}/keys?{API}&$skiptoken=25", token=token)
    assert len(shown) == 25
    assert shown["key-4"].tags == {"number": "4"}
    assert (shown["key-3"].enabled, shown["key-3"].updated_on) == (False, newest.properties.updated_on)
    assert shown["key-3"].version is None
    assert {one["kid"] for one in first.json["value"]} == {f"{host}/keys/key-{number}" for number in range(25)}
    assert first.json["nextLink"].startswith(f"{host}:443/keys?{API}&$skiptoken=")
    assert [len(one["value"]) for one in pages] == [25, 0, 0], "a full page says that more may come, and so does an empty one"
    assert (forged.status, forged.code) == (400, "BadParameter")


async def test_a_role_on_the_vault_lists_its_keys_and_one_on_a_key_does_not(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    control: SandboxControl,
    identity: ProviderIdentity,
    name: Callable[[str], str],
) -> None:
    vault = name("scoped-kv")
    await customer.create_vault(vault)
    await customer.create_key(vault, "cmk")
    await customer.grant(identity.application_client_id, vault, key="cmk")
    async with KeyClient(f"https://{vault}.vault.azure.net", application, **connection(env)) as client:
        with pytest.raises(HttpResponseError) as refusal:
            _ = [one async for one in client.list_properties_of_keys()]
        assert reason(refusal.value) == (403, "ForbiddenByRbac")
        await customer.grant(identity.application_client_id, vault)
        await control.advance(10)
        assert [one.name async for one in client.list_properties_of_keys()] == ["cmk"]


async def test_the_challenge_tells_the_tenant_of_the_vault(
    wire: Wire, env: Mapping[str, str], key_of_customer: tuple[str, str, str]
) -> None:
    vault, key, _ = key_of_customer
    reply = await wire("GET", f"https://{vault}.vault.azure.net/keys/{key}?{API}")
    assert (reply.status, reply.code) == (401, "Unauthorized")
    assert reply.json["error"]["message"] == "AKV10000: Request is missing a Bearer, PoP, or MTLS_POP token."
    tenant = env["CUSTOMER_TENANT_ID"]
    expected = f'Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="https://vault.azure.net"'
    assert reply.headers["WWW-Authenticate"] == expected


async def test_a_token_of_another_tenant_or_audience_is_refused(
    wire: Wire, env: Mapping[str, str], key_of_customer: tuple[str, str, str]
) -> None:
    vault, key, _ = key_of_customer
    for side, scope, code in (("PROVIDER", "vault.azure.net", "AKV10032"), ("CUSTOMER", "management.azure.com", "AKV10022")):
        credential = ClientSecretCredential(
            env[f"{side}_TENANT_ID"], env[f"{side}_ADMIN_CLIENT_ID"], env[f"{side}_ADMIN_CLIENT_SECRET"], **connection(env)
        )
        async with credential:
            token = (await credential.get_token(f"https://{scope}/.default")).token
        reply = await wire("GET", f"https://{vault}.vault.azure.net/keys/{key}?{API}", token=token)
        assert reply.status == 401
        assert reply.json["error"]["message"].startswith(code)


async def test_an_unknown_api_version_or_field_is_refused(
    wire: Wire, env: Mapping[str, str], key_of_customer: tuple[str, str, str]
) -> None:
    vault, key, _ = key_of_customer
    credential = ClientSecretCredential(
        env["CUSTOMER_TENANT_ID"], env["CUSTOMER_ADMIN_CLIENT_ID"], env["CUSTOMER_ADMIN_CLIENT_SECRET"], **connection(env)
    )
    async with credential:
        token = (await credential.get_token("https://vault.azure.net/.default")).token
    base = f"https://{vault}.vault.azure.net/keys/{key}"
    for method, url, body in (
        ("GET", base, None),
        ("GET", f"{base}?api-version=1.0", None),
        ("POST", f"{base}/create?{API}", {"kty": "RSA", "size": 2048}),
        ("POST", f"{base}/create?{API}", {"kty": "RSA", "key_size": 1024}),
        ("POST", f"{base}/create?{API}", {"kty": "oct"}),
        ("POST", f"{base}/wrapkey?{API}", {"alg": "RSA-OAEP-256", "value": "AAEC", "extra": 1}),
        ("POST", f"{base}/wrapkey?{API}", {"alg": "ROT13", "value": "AAEC"}),
        ("POST", f"{base}/unwrapkey?{API}", {"alg": "RSA-OAEP-256", "value": WRAPPED}),
    ):
        reply = await wire(method, url, token=token, body=body)
        assert (reply.status, reply.code) == (400, "BadParameter"), (method, url, body)


async def test_the_granted_application_can_get_wrap_and_unwrap_but_not_create(
    env: Mapping[str, str], application: AsyncTokenCredential, key_of_customer: tuple[str, str, str]
) -> None:
    vault, key, key_id = key_of_customer
    assert (await use(env, application, vault, key))["kid"] == key_id
    async with KeyClient(f"https://{vault}.vault.azure.net", application, **connection(env)) as client:
        assert [one.id async for one in client.list_properties_of_key_versions(key)] == [key_id]
        with pytest.raises(HttpResponseError) as refusal:
            await client.create_rsa_key("mine")
    assert reason(refusal.value) == (403, "ForbiddenByRbac")


async def test_without_a_grant_the_refusal_is_by_rbac_and_without_a_policy_by_policy(
    env: Mapping[str, str], application: AsyncTokenCredential, customer: CustomerAdministrator, name: Callable[[str], str]
) -> None:
    for rbac, code in ((True, "ForbiddenByRbac"), (False, "ForbiddenByPolicy")):
        vault = name("closed-kv")
        await customer.create_vault(vault, rbac=rbac)
        await customer.create_key(vault, "cmk")
        with pytest.raises(HttpResponseError) as refusal:
            await use(env, application, vault, "cmk")
        assert reason(refusal.value) == (403, code)


async def test_a_policy_of_get_wrap_unwrap_suffices_and_forbids_listing(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    name: Callable[[str], str],
) -> None:
    vault = name("policy-kv")
    await customer.create_vault(vault, rbac=False)
    await customer.create_key(vault, "cmk")
    await customer.set_access_policy(identity.application_client_id, vault)
    await use(env, application, vault, "cmk")
    async with KeyClient(f"https://{vault}.vault.azure.net", application, **connection(env)) as client:
        with pytest.raises(HttpResponseError) as refusal:
            _ = [one async for one in client.list_properties_of_key_versions("cmk")]
    assert reason(refusal.value) == (403, "ForbiddenByPolicy")
    assert "does not have keys list permission" in str(refusal.value)
    await customer.set_access_policy(identity.application_client_id, vault, ())
    with pytest.raises(HttpResponseError, match="does not have keys get permission"):
        await use(env, application, vault, "cmk")


async def test_a_role_on_one_key_opens_that_key_only(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    control: SandboxControl,
    name: Callable[[str], str],
) -> None:
    vault = name("scoped-kv")
    await customer.create_vault(vault)
    for key in ("cmk", "cmk2"):
        await customer.create_key(vault, key)
    await customer.grant(identity.application_client_id, vault, key="cmk")
    await control.advance(2)
    await use(env, application, vault, "cmk")
    with pytest.raises(HttpResponseError, match="ForbiddenByRbac"):
        await use(env, application, vault, "cmk2")


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ({}, "ForbiddenByFirewall"),
        ({"bypass": "None"}, "ForbiddenByFirewall"),
        ({"default_action": "Allow", "public": False}, "ForbiddenByConnection"),
        ({"addresses": ["203.0.113.0/24"]}, None),
        ({"addresses": ["198.51.100.7"]}, "ForbiddenByFirewall"),
        ({"default_action": "Allow"}, None),
    ],
)
async def test_the_firewall_judges_the_clients_address(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    key_of_customer: tuple[str, str, str],
    rules: dict[str, Any],
    code: str | None,
) -> None:
    vault, key, _ = key_of_customer
    await customer.set_firewall(vault, **rules)
    if code is None:
        await use(env, application, vault, key)
        return
    with pytest.raises(HttpResponseError) as refusal:
        await use(env, application, vault, key)
    assert reason(refusal.value) == (403, code)


async def test_a_disabled_key_is_shown_and_refused_with_KeyDisabled(  # noqa: N802 - Azure's own word
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    control: SandboxControl,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, key_id = key_of_customer
    wrapped = await use(env, application, vault, key)
    await customer.disable(vault, key)
    async with KeyClient(f"https://{vault}.vault.azure.net", application, **connection(env)) as client:
        assert (await client.get_key(key)).properties.enabled is False
        # Nobody needs the private key to wrap, so it goes on: Azure/azure-sdk-for-python#45342.
        assert (await _remote(env, application, key_id, "wrapkey", "AAECAw"))["value"]
        await control.set_timings(disabled_key_wraps_seconds=0)
        for operation, value in (("wrapkey", "AAECAw"), ("unwrapkey", wrapped["value"])):
            with pytest.raises(HttpResponseError) as refusal:
                await _remote(env, application, key_id, operation, value)
            assert reason(refusal.value) == (403, "KeyDisabled")
        await control.set_timings(get_of_disabled_key_is_refused=True)
        with pytest.raises(HttpResponseError) as refusal:
            await client.get_key(key)
        assert reason(refusal.value) == (403, "KeyDisabled")
    await customer.enable(vault, key)
    await use(env, application, vault, key)


async def test_outside_its_validity_a_key_unwraps_and_does_not_wrap(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    control: SandboxControl,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, key_id = key_of_customer
    wrapped = await use(env, application, vault, key)
    now = datetime.fromtimestamp(await control.now(), UTC)
    for not_before, expires in ((None, now - timedelta(seconds=5)), (now + timedelta(days=30), now + timedelta(days=60))):
        await customer.set_validity(vault, key, not_before=not_before, expires=expires)
        with pytest.raises(HttpResponseError) as refusal:
            await _remote(env, application, key_id, "wrapkey", "AAECAw")
        assert reason(refusal.value) == (403, "Forbidden")
        assert (await _remote(env, application, key_id, "unwrapkey", wrapped["value"]))["value"] == "AAECAw"
    await control.advance(31 * 86_400)
    await use(env, application, vault, key)


async def test_a_deleted_key_is_not_found_until_it_is_recovered_and_purge_protection_keeps_it(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, _ = key_of_customer
    await customer.delete_key(vault, key)
    async with KeyClient(f"https://{vault}.vault.azure.net", application, **connection(env)) as client:
        with pytest.raises(ResourceNotFoundError) as refusal:
            await client.get_key(key)
        assert reason(refusal.value) == (404, "KeyNotFound")
        deleted = await client.get_deleted_key(key)
        assert deleted.scheduled_purge_date is not None
        assert deleted.deleted_date is not None
        assert (deleted.scheduled_purge_date - deleted.deleted_date).days == 90
    with pytest.raises(HttpResponseError) as refused_creation:
        await customer.create_key(vault, key)
    assert reason(refused_creation.value) == (409, "ObjectIsDeletedButRecoverable")
    with pytest.raises(HttpResponseError) as refused_purge:
        await customer.purge_key(vault, key)
    assert refused_purge.value.status_code == 403
    await customer.recover_key(vault, key)
    await use(env, application, vault, key)


async def test_retention_ends_with_virtual_time(
    customer: CustomerAdministrator, control: SandboxControl, name: Callable[[str], str]
) -> None:
    vault = name("short-kv")
    await customer.create_vault(vault, purge_protection=False, retention_days=7)
    for key in ("purged", "expired"):
        await customer.create_key(vault, key)
        await customer.delete_key(vault, key)
    await customer.purge_key(vault, "purged")
    with pytest.raises(ResourceNotFoundError):
        await customer.recover_key(vault, "purged")
    await control.advance(7 * 86_400 + 1)
    with pytest.raises(ResourceNotFoundError):
        await customer.recover_key(vault, "expired")


async def test_a_purged_key_comes_back_from_its_backup_under_its_old_id_and_never_over_another(
    env: Mapping[str, str], customer: CustomerAdministrator, name: Callable[[str], str]
) -> None:
    vault = name("backup-kv")
    await customer.create_vault(vault, purge_protection=False, retention_days=7)
    made = await customer.create_key(vault, "cmk")
    backup = await customer.back_up_key(vault, "cmk")
    with pytest.raises(HttpResponseError) as exists:
        await customer.restore_key(vault, backup)
    assert exists.value.status_code == 409
    await customer.delete_key(vault, "cmk")
    with pytest.raises(HttpResponseError) as refused:
        await customer.restore_key(vault, backup)
    assert reason(refused.value) == (409, "ObjectIsDeletedButRecoverable")
    await customer.purge_key(vault, "cmk")
    assert await customer.restore_key(vault, backup) == made
    with pytest.raises(HttpResponseError) as foreign:
        await customer.restore_key(vault, b"not a backup")
    assert foreign.value.status_code == 400


@pytest.mark.parametrize(
    ("purge_protection", "days", "level"),
    [
        (True, 90, "Recoverable"),
        (True, 7, "CustomizedRecoverable"),
        (False, 90, "Recoverable+Purgeable"),
        (False, 30, "CustomizedRecoverable+Purgeable"),
    ],
)
async def test_the_recovery_level_tells_of_purge_protection(
    env: Mapping[str, str],
    customer: CustomerAdministrator,
    name: Callable[[str], str],
    purge_protection: bool,  # noqa: FBT001 - a column of the table
    days: int,
    level: str,
) -> None:
    vault = name("level-kv")
    await customer.create_vault(vault, purge_protection=purge_protection, retention_days=days)
    await customer.create_key(vault, "cmk", key_type="EC")
    async with (
        ClientSecretCredential(
            env["CUSTOMER_TENANT_ID"], env["CUSTOMER_ADMIN_CLIENT_ID"], env["CUSTOMER_ADMIN_CLIENT_SECRET"], **connection(env)
        ) as credential,
        KeyClient(f"https://{vault}.vault.azure.net", credential, **connection(env)) as client,
    ):
        properties = (await client.get_key("cmk")).properties
    assert (properties.recovery_level, properties.recoverable_days) == (level, days)


async def test_a_rotation_policy_gives_new_versions_their_expiry(
    customer: CustomerAdministrator,
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, first = key_of_customer
    await customer.set_rotation_policy(vault, key, expires_in="P90D")
    with pytest.raises(HttpResponseError, match="28 days"):
        await customer.set_rotation_policy(vault, key, expires_in="P7D")
    second = await customer.new_version(vault, key)
    async with KeyClient(f"https://{vault}.vault.azure.net", application, **connection(env)) as client:
        assert (await client.get_key(key, first.rsplit("/", 1)[-1])).properties.expires_on is None
        latest = await client.get_key(key)
    assert latest.id == second
    assert latest.properties.expires_on is not None
    assert latest.properties.created_on is not None
    assert (latest.properties.expires_on - latest.properties.created_on).days == 90


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"enablePurgeProtection": False}, "BadRequest"),
        ({"enableSoftDelete": False}, "BadRequest"),
        ({"softDeleteRetentionInDays": 30}, "BadRequest"),
        ({"networkAcls": {"bypass": "Everyone"}}, "BadRequest"),
        ({"networkAcls": {"allow": "all"}}, "InvalidRequestContent"),
        ({"networkAcls": {"ipRules": [{"value": "fd00::1"}]}}, "BadRequest"),
        ({"networkAcls": {"ipRules": [{"value": "10.1.2.3"}]}}, "BadRequest"),
        ({"networkAcls": {"virtualNetworkRules": [{"id": "subnet"}]}}, "BadRequest"),
        ({"networkAcls": {"virtualNetworkRules": [{"subnet": "subnet"}]}}, "InvalidRequestContent"),
    ],
)
async def test_what_a_vault_cannot_become_is_refused(
    customer: CustomerAdministrator, key_of_customer: tuple[str, str, str], properties: dict[str, Any], code: str
) -> None:
    with pytest.raises(HttpResponseError) as refusal:
        await customer.patch(customer.vault_id(key_of_customer[0]), "2026-02-01", {"properties": properties})
    assert refusal.value.status_code == 400
    assert refusal.value.error is not None
    assert refusal.value.error.code == code


async def test_purge_protection_is_absent_while_it_is_off(customer: CustomerAdministrator, name: Callable[[str], str]) -> None:
    vault = name("bare-kv")
    await customer.create_vault(vault, purge_protection=False)
    shown = await customer.get(customer.vault_id(vault), "2026-02-01")
    assert "enablePurgeProtection" not in shown["properties"]
    assert "networkAcls" not in shown["properties"]
    assert shown["properties"]["enableSoftDelete"] is True


async def test_a_deleted_vault_can_be_recovered_but_its_name_not_reused(
    env: Mapping[str, str],
    customer: CustomerAdministrator,
    application: AsyncTokenCredential,
    key_of_customer: tuple[str, str, str],
    identity: ProviderIdentity,
    control: SandboxControl,
) -> None:
    vault, key, _ = key_of_customer
    await customer.delete_vault(vault)
    with pytest.raises(HttpResponseError) as gone:
        await use(env, application, vault, key)
    assert reason(gone.value) == (404, "VaultNotFound"), "its name still resolves"
    with pytest.raises(HttpResponseError, match="ConflictError"):
        await customer.create_vault(vault)
    await customer.recover_vault(vault)
    with pytest.raises(HttpResponseError) as lost:
        await use(env, application, vault, key)
    assert reason(lost.value) == (403, "ForbiddenByRbac"), "its role assignments died with it"
    roles = await customer.get(f"{customer.vault_id(vault)}/providers/Microsoft.Authorization/roleAssignments", "2022-04-01")
    assert not [one for one in roles["value"] if vault in one["properties"]["scope"]]
    await customer.grant(identity.application_client_id, vault)
    await control.advance((await control.timings())["role_propagation_seconds"])
    await use(env, application, vault, key)


async def test_access_policies_outlive_the_deletion_of_a_vault(
    customer: CustomerAdministrator, identity: ProviderIdentity, name: Callable[[str], str]
) -> None:
    vault = name("kv")
    await customer.create_vault(vault, rbac=False)
    await customer.set_access_policy(identity.application_client_id, vault)
    before = (await customer.get(customer.vault_id(vault), "2026-02-01"))["properties"]["accessPolicies"]
    await customer.delete_vault(vault)
    await customer.recover_vault(vault)
    assert (await customer.get(customer.vault_id(vault), "2026-02-01"))["properties"]["accessPolicies"] == before


@pytest.mark.parametrize(
    ("version", "properties", "rbac"),
    [
        ("2026-02-01", {}, True),
        ("2026-02-01", {"accessPolicies": []}, True),
        ("2026-02-01", {"enableRbacAuthorization": False, "accessPolicies": []}, False),
        ("2026-02-01", {"enableRbacAuthorization": False}, None),
        ("2025-05-01", {}, None),
        ("2025-05-01", {"accessPolicies": []}, False),
        ("2025-05-01", {"enableRbacAuthorization": True}, True),
    ],
)
async def test_a_new_vault_is_an_rbac_vault_by_default_from_2026_02_01_on(
    customer: CustomerAdministrator,
    name: Callable[[str], str],
    version: str,
    properties: dict[str, Any],
    rbac: bool | None,  # noqa: FBT001 - a column of the table
) -> None:
    vault = customer.vault_id(name("kv"))
    await customer.create_resource_group(customer.resource_group)
    basis = {"tenantId": customer.tenant_id, "sku": {"family": "A", "name": "standard"}}
    body = {"location": "westeurope", "properties": {**basis, **properties}}
    if rbac is None:
        with pytest.raises(HttpResponseError, match="accessPolicies"):
            await customer.put(vault, version, body)
        return
    made = (await customer.put(vault, version, body))["properties"]
    # A model that nobody ever named is not shown (recordings of 2024-11-01), and means access policies.
    assert made.get("enableRbacAuthorization", False) is rbac
    assert ("enableRbacAuthorization" in made) is (rbac or "enableRbacAuthorization" in properties)
    updated = await customer.put(vault, "2026-02-01", {"location": "westeurope", "properties": {**basis, "accessPolicies": []}})
    assert updated["properties"].get("enableRbacAuthorization", False) is rbac, "an update changes no model"


async def test_a_vault_in_failover_is_read_only(
    env: Mapping[str, str],
    customer: CustomerAdministrator,
    application: AsyncTokenCredential,
    key_of_customer: tuple[str, str, str],
    control: SandboxControl,
    wire: Wire,
) -> None:
    vault, key, _ = key_of_customer
    await control.fail_over(vault)
    await use(env, application, vault, key)
    assert await customer.back_up_key(vault, key)
    client = await customer._key_client(vault)  # noqa: SLF001 - its calls take the number of retries
    writes: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: client.rotate_key(key, retry_total=0),
        lambda: client.create_rsa_key("another", retry_total=0),
        lambda: client.update_key_properties(key, enabled=False, retry_total=0),
        lambda: client.delete_key(key, retry_total=0),
    )
    for write in writes:
        with pytest.raises(HttpResponseError, match="the service is currently in a read-only state") as refused:
            await write()
        assert reason(refused.value) == (503, "ServiceUnavailable")
    url = f"https://management.azure.com{customer.vault_id(vault)}"
    side = (env["CUSTOMER_TENANT_ID"], env["CUSTOMER_ADMIN_CLIENT_ID"], env["CUSTOMER_ADMIN_CLIENT_SECRET"])
    async with ClientSecretCredential(*side, **connection(env)) as credential:
        token = (await credential.get_token("https://management.azure.com/.default")).token
    rules = {"properties": {"networkAcls": {"defaultAction": "Deny"}}}
    made = {"properties": {"kty": "RSA"}}
    for method, path, body in (("PATCH", "", rules), ("DELETE", "", None), ("PUT", "/keys/new", made)):
        answer = await wire(method, f"{url}{path}?api-version=2026-02-01", token=token, body=body)
        assert (answer.status, answer.code) == (503, "ServiceUnavailable")
    await control.fail_over(vault, to_the_pair=False)
    assert await customer.new_version(vault, key)
    with pytest.raises(ValueError, match="no such vault"):
        await control.fail_over("never-was")


def test_older_control_plane_versions_end_on_27_february_2027() -> None:
    assert Timings().older_vault_versions_end_at == datetime(2027, 2, 27, tzinfo=UTC).timestamp()


async def test_older_control_plane_versions_are_refused_once_they_have_ended(
    customer: CustomerAdministrator, control: SandboxControl, name: Callable[[str], str]
) -> None:
    vault = name("kv")
    await customer.create_vault(vault)
    await customer.get(customer.vault_id(vault), "2025-05-01")
    await control.set_timings(older_vault_versions_end_at=await control.now())
    with pytest.raises(HttpResponseError) as ended:
        await customer.get(customer.vault_id(vault), "2025-05-01")
    assert reason(ended.value) == (400, "NoRegisteredProviderFound")
    assert "The supported api-versions are '2026-02-01, 2026-05-15'." in str(ended.value)
    await customer.get(customer.vault_id(vault), "2026-02-01")
    shown = await customer.get(f"{customer.subscription}/providers/Microsoft.KeyVault", "2024-11-01")
    kinds = {one["resourceType"]: one["apiVersions"] for one in shown["resourceTypes"]}
    assert kinds["vaults"] == ["2026-05-15", "2026-02-01"]


async def test_a_vault_that_never_existed_has_no_name(env: Mapping[str, str], application: AsyncTokenCredential) -> None:
    with pytest.raises((ServiceRequestError, ServiceResponseError)):
        await use(env, application, f"never-{uuid.uuid4().hex[:8]}", "cmk")


async def test_without_consent_no_token_reaches_the_vault(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer, key_of_customer: tuple[str, str, str]
) -> None:
    vault, key, _ = key_of_customer
    tenant = env["CUSTOMER_TENANT_ID"]
    async with ClientAssertionCredential(
        tenant, identity.managed_identity_client_id, issuer.token, **connection(env)
    ) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS700016"):
            await use(env, credential, vault, key)
