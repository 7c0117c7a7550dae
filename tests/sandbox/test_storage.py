"""Storage accounts on customers' keys: the PATCH, its refusals, rotation, loss and healing, with data that is really encrypted."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity.aio import ClientAssertionCredential, ClientSecretCredential
from azure.mgmt.storage.aio import StorageManagementClient
from azure.storage.blob.aio import BlobServiceClient

from sandbox.administrators.rest import connection
from tests.sandbox.conftest import encryption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.conftest import Protected, Wire
    from tests.sandbox.issuer import Issuer

STORAGE = "2026-09-01"
DAY = 86_400


def refusal_of(error: HttpResponseError) -> tuple[int | None, str | None]:
    assert error.error is not None
    return error.status_code, error.error.code


def properties_of(account: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = account["properties"]["encryption"]
    return found


async def test_the_operators_own_sdk_and_identity_put_an_account_on_the_customers_key(
    env: Mapping[str, str],
    identity: ProviderIdentity,
    provider: ProviderAdministrator,
    issuer: Issuer,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    vault, key, key_id = key_of_customer
    account = name("contoso")
    await provider.create_storage_account(account)
    credential = ClientAssertionCredential(
        env["PROVIDER_TENANT_ID"], identity.managed_identity_client_id, issuer.token, **connection(env)
    )
    async with credential, StorageManagementClient(credential, env["SUBSCRIPTION_ID"], **connection(env)) as client:
        body: Any = encryption(identity, vault, key)
        updated = await client.storage_accounts.update("rg-contoso", account, body)
        listed = [one.name async for one in client.storage_accounts.list()]
    assert account in listed
    assert updated.encryption is not None
    assert updated.encryption.key_source == "Microsoft.Keyvault"
    found = updated.encryption.key_vault_properties
    assert found is not None
    assert (found.key_name, found.key_version, found.key_vault_uri) == (key, "", f"https://{vault}.vault.azure.net")
    assert found.current_versioned_key_identifier == key_id
    assert found.last_key_rotation_timestamp is not None
    assert updated.identity is not None
    assert updated.identity.type == "UserAssigned"


async def test_the_wire_format_is_azures(
    provider: ProviderAdministrator, identity: ProviderIdentity, protected: Protected
) -> None:
    account = await provider.storage_account(protected.account_id)
    block = properties_of(account)
    assert block["keyvaultproperties"].keys() == {
        "keyname",
        "keyversion",
        "keyvaulturi",
        "currentVersionedKeyIdentifier",
        "lastKeyRotationTimestamp",
    }
    moment, _, fraction = block["keyvaultproperties"]["lastKeyRotationTimestamp"].partition(".")
    assert (len(moment), len(fraction), fraction[-1]) == (19, 8, "Z")
    assert "/resourcegroups/" in block["identity"]["userAssignedIdentity"]
    assert block["identity"]["federatedIdentityClientId"] == identity.application_client_id
    assert account["identity"]["type"] == "UserAssigned"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"keySource": "Microsoft.Somewhere"}, 400, "UnknownEncryptionKeySource"),
        ({"keySource": None}, 400, "MissingEncryptionKeySource"),
        ({"keyvaultproperties": {}}, 400, "InvalidValuesForRequestParameters"),
        (
            {"keyvaultproperties": {"keyname": "k", "keyvaulturi": "https://example.com"}},
            400,
            "InvalidValuesForRequestParameters",
        ),
        (
            {"keyvaultproperties": {"keyname": "k", "keyvaulturi": "http://v.vault.azure.net"}},
            400,
            "InvalidValuesForRequestParameters",
        ),
        *(
            ({"keyvaultproperties": {"keyname": "k", "keyvaulturi": uri}}, 400, "InvalidValuesForRequestParameters")
            for uri in (
                "https://contoso.vault.azure.net/keys",
                "https://contoso.vault.azure.net?a=b",
                "https://contoso.vault.azure.net#a",
                "https://me@contoso.vault.azure.net",
                "https://contoso.vault.azure.net:8443",
                "https://contoso.vault.azure.net:443",
                "https://a.contoso.vault.azure.net",
                "https://vault.azure.net",
                "https://contoso.vault.azure.cn",
                "https://contoso.vault.azure.net.example.com",
                "https://-contoso.vault.azure.net",
                "https://contoso.vault.azure.net\\",
                " https://contoso.vault.azure.net",
                "contoso",
            )
        ),
        (
            {"keyvaultproperties": {"keyname": "k", "keyvaulturi": "https://none.vault.azure.net/"}},
            404,
            "KeyVaultVaultNotFound",
        ),
        ({"keyvaultproperties": {"keyname": "k", "keyvaulturi": "https://none.vault.azure.net"}}, 404, "KeyVaultVaultNotFound"),
        ({"identity": {}}, 400, "InvalidRequest"),
        ({"services": {"queue": {"keyType": "Account"}, "blob": {"enabled": False}}}, 400, "InvalidValuesForRequestParameters"),
    ],
)
async def test_a_wrong_encryption_block_is_refused_and_changes_nothing(
    provider: ProviderAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
    changes: dict[str, Any],
    status: int,
    code: str,
) -> None:
    vault, key, _ = key_of_customer
    account = await provider.create_storage_account(name("wrong"))
    with pytest.raises(HttpResponseError) as refusal:
        await provider.patch(account, STORAGE, encryption(identity, vault, key, **changes))
    assert refusal_of(refusal.value) == (status, code)
    after = await provider.storage_account(account)
    assert properties_of(after)["keySource"] == "Microsoft.Storage"
    assert "identity" not in after


async def test_each_broken_link_of_the_trust_path_has_its_own_refusal(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    control: SandboxControl,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    vault, key, _ = key_of_customer
    account = await provider.create_storage_account(name("links"))
    body = encryption(identity, vault, key)

    async def refused(changed: dict[str, Any]) -> tuple[int | None, str | None, str]:
        with pytest.raises(HttpResponseError) as refusal:
            await provider.patch(account, STORAGE, changed)
        return *refusal_of(refusal.value), str(refusal.value)

    assert (await refused({"properties": body["properties"]}))[:2] == (400, "InvalidRequest")
    stranger = {**properties_of(body)["identity"], "federatedIdentityClientId": str(uuid.uuid4())}
    status, code, message = await refused(encryption(identity, vault, key, identity=stranger))
    assert (status, code) == (403, "GatewayAuthenticationFailed")
    assert "AADSTS700016" in message
    assert (await refused(encryption(identity, vault, "none")))[:2] == (400, "KeyVaultEncryptionKeyNotFound")
    assert (await refused(encryption(identity, vault, key, "0" * 32)))[:2] == (400, "KeyVaultEncryptionKeyNotFound")

    await customer.disable(vault, key)
    assert (await refused(body))[:2] == (400, "KeyVaultEncryptionKeyNotFound")
    await customer.enable(vault, key)

    await customer.set_firewall(vault, bypass="None")
    assert (await refused(body))[:2] == (400, "KeyVaultAuthenticationFailure")
    await customer.set_firewall(vault)  # the bypass lets trusted services in, whoever else is shut out

    await customer.revoke_grant(identity.application_client_id, vault)
    await control.advance(2)
    assert (await refused(body))[:2] == (400, "KeyVaultAuthenticationFailure")
    await customer.grant(identity.application_client_id, vault)
    assert (await refused(body))[:2] == (400, "KeyVaultAuthenticationFailure")
    await control.advance(2)

    await customer.withdraw_consent(identity.application_client_id)
    assert (await refused(body))[:2] == (403, "GatewayAuthenticationFailed")
    await customer.consent(identity.application_client_id)
    await control.advance(2)
    # A new service principal is another principal: the old grant is not its own.
    assert (await refused(body))[:2] == (400, "KeyVaultAuthenticationFailure")
    await customer.grant(identity.application_client_id, vault)
    await control.advance(2)
    assert properties_of(await provider.patch(account, STORAGE, body))["keySource"] == "Microsoft.Keyvault"


async def test_a_vault_without_purge_protection_is_refused_and_so_is_an_ec_key(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    control: SandboxControl,
    identity: ProviderIdentity,
    name: Callable[[str], str],
) -> None:
    account = await provider.create_storage_account(name("unfit"))
    for purge_protection, kind, code in (
        (False, "RSA", "KeyVaultPolicyError"),
        (True, "EC", "InvalidValuesForRequestParameters"),
    ):
        vault = name("unfit-kv")
        await customer.create_vault(vault, purge_protection=purge_protection)
        await customer.create_key(vault, "cmk", key_type=kind)
        await customer.grant(identity.application_client_id, vault)
        await control.advance(2)
        with pytest.raises(HttpResponseError) as refusal:
            await provider.patch(account, STORAGE, encryption(identity, vault, "cmk"))
        assert refusal_of(refusal.value) == (400, code)


async def test_user_assigned_drops_the_system_identity_and_a_patch_takes_an_identity_away_only_by_null(
    provider: ProviderAdministrator, identity: ProviderIdentity, name: Callable[[str], str]
) -> None:
    group = await provider.create_resource_group("rg-contoso")
    other = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name('other')}"
    await provider.put(other, "2024-11-30", {"location": "westeurope"})
    both = {"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {other: {}}}
    account = await provider.create_storage_account(name("ids"), identity=both)
    before = (await provider.storage_account(account))["identity"]
    assert before["type"] == "SystemAssigned,UserAssigned"
    assert before["principalId"]
    mine = identity.managed_identity_resource_id
    with pytest.raises(HttpResponseError, match="Too many user-assigned identities specified on the resource"):
        await provider.patch(account, STORAGE, {"identity": {"type": "UserAssigned", "userAssignedIdentities": {mine: {}}}})
    assert (await provider.storage_account(account))["identity"] == before
    changed = {"type": "UserAssigned", "userAssignedIdentities": {mine: {}, other: None}}
    after = await provider.patch(account, STORAGE, {"identity": changed})
    assert "principalId" not in after["identity"]
    assert [one.lower() for one in after["identity"]["userAssignedIdentities"]] == [mine.lower()]
    for wrong, code in (
        ({f"{mine}x": {}, mine: None}, "FailedIdentityOperation"),
        ({mine: {"a": "b"}}, "InvalidIdentityValues"),
    ):
        with pytest.raises(HttpResponseError, match=code):
            await provider.patch(account, STORAGE, {"identity": {"type": "UserAssigned", "userAssignedIdentities": wrong}})
    replaced = await provider.put(
        account,
        STORAGE,
        {
            "location": "westeurope",
            "kind": "StorageV2",
            "sku": {"name": "Standard_LRS"},
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {other: {}}},
        },
    )
    assert [one.lower() for one in replaced["identity"]["userAssignedIdentities"]] == [other.lower()], "a PUT replaces the map"


def body_of(kind: str, sku: str, **properties: object) -> dict[str, Any]:
    return {"location": "westeurope", "kind": kind, "sku": {"name": sku}, "properties": properties}


@pytest.mark.parametrize(
    ("kind", "sku"),
    [
        ("StorageV2", "Premium_ZRS"),
        ("BlobStorage", "Standard_ZRS"),
        ("BlobStorage", "Premium_LRS"),
        ("BlockBlobStorage", "Standard_LRS"),
        ("FileStorage", "Standard_LRS"),
        ("Storage", "Standard_GZRS"),
    ],
)
async def test_a_sku_that_its_kind_does_not_have_is_refused(
    provider: ProviderAdministrator, name: Callable[[str], str], kind: str, sku: str
) -> None:
    await provider.create_resource_group("rg-contoso")
    with pytest.raises(HttpResponseError, match="Values for request parameters are invalid: kind, sku"):
        await provider.put(provider.storage_account_id(name("sku")), STORAGE, body_of(kind, sku))


@pytest.mark.parametrize(
    ("kind", "sku", "change", "words"),
    [
        ("StorageV2", "Standard_LRS", {"sku": {"name": "Standard_RAGRS"}}, None),
        ("StorageV2", "Standard_GZRS", {"sku": {"name": "Standard_RAGZRS"}}, None),
        ("StorageV2", "Standard_LRS", {"sku": {"name": "Premium_LRS"}}, "invalid: sku"),
        ("StorageV2", "Premium_LRS", {"sku": {"name": "Standard_LRS"}}, "invalid: sku"),
        ("StorageV2", "Standard_LRS", {"sku": {"name": "Standard_ZRS"}}, "invalid: sku"),
        ("StorageV2", "Standard_ZRS", {"sku": {"name": "Standard_GZRS"}}, "invalid: sku"),
        ("BlockBlobStorage", "Premium_LRS", {"sku": {"name": "Premium_ZRS"}}, "invalid: sku"),
        ("Storage", "Standard_LRS", {"kind": "StorageV2"}, None),
        ("BlobStorage", "Standard_GRS", {"kind": "StorageV2"}, None),
        ("StorageV2", "Standard_LRS", {"kind": "BlobStorage"}, "invalid: kind"),
        ("BlockBlobStorage", "Premium_LRS", {"kind": "StorageV2"}, "invalid: kind"),
        ("FileStorage", "Premium_LRS", {"kind": "BlockBlobStorage"}, "invalid: kind"),
        ("StorageV2", "Standard_LRS", {"properties": {"isHnsEnabled": True}}, "'isHnsEnabled' was specified in the input"),
        ("StorageV2", "Standard_LRS", {"properties": {"isHnsEnabled": False}}, None),
        ("StorageV2", "Standard_LRS", {"tags": {str(number): "" for number in range(51)}}, "InvalidTags"),
        ("StorageV2", "Standard_LRS", {"tags": {"k" * 129: ""}}, "MaxTagKeyLengthExceeded"),
        ("StorageV2", "Standard_LRS", {"tags": {"k" * 128: ""}}, None),
    ],
)
async def test_what_of_an_account_may_change(
    provider: ProviderAdministrator, name: Callable[[str], str], kind: str, sku: str, change: dict[str, Any], words: str | None
) -> None:
    await provider.create_resource_group("rg-contoso")
    account = provider.storage_account_id(name("change"))
    before = await provider.put(account, STORAGE, body_of(kind, sku))
    whole = {**body_of(kind, sku), **change}
    for method, body in (("PUT", whole), ("PATCH", change)):
        call = provider.arm.json(method, f"{account}?api-version={STORAGE}", body)
        if words is None:
            after = await call
            assert after["kind"] == change.get("kind", kind)
            assert after["sku"]["name"] == change.get("sku", {"name": sku})["name"]
            continue
        with pytest.raises(HttpResponseError, match=words):
            await call
        assert await provider.storage_account(account) == before


async def test_the_key_and_the_identity_that_accesses_it_change_one_after_the_other(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    protected: Protected,
) -> None:
    await customer.create_key(protected.vault, "other")
    own = {"userAssignedIdentity": identity.managed_identity_resource_id, "federatedIdentityClientId": str(uuid.uuid4())}
    with pytest.raises(HttpResponseError, match="cannot be updated in a single operation") as refusal:
        await provider.patch(protected.account_id, STORAGE, encryption(identity, protected.vault, "other", identity=own))
    assert refusal_of(refusal.value) == (400, "TooManyUpdateParametersSpecified")
    moved = properties_of(await provider.patch(protected.account_id, STORAGE, encryption(identity, protected.vault, "other")))
    assert moved["keyvaultproperties"]["keyname"] == "other"


async def test_a_refused_change_leaves_nothing_behind(
    provider: ProviderAdministrator, identity: ProviderIdentity, name: Callable[[str], str]
) -> None:
    account = await provider.create_storage_account(name("whole"))
    before = await provider.storage_account(account)
    for encryption_block in (
        {"services": {"blob": {"keyType": "Account"}, "table": {"keyType": "Account"}}, "keySource": "Microsoft.Storage"},
        {"services": {"queue": {"keyType": "Service"}}, "keySource": "Microsoft.Keyvault"},
    ):
        with pytest.raises(HttpResponseError):
            await provider.patch(account, STORAGE, {"tags": {"a": "b"}, "properties": {"encryption": encryption_block}})
    assert await provider.storage_account(account) == before


async def test_the_identity_that_reaches_the_key_cannot_be_taken_away(
    provider: ProviderAdministrator, protected: Protected
) -> None:
    with pytest.raises(HttpResponseError, match="Missing pre-requisites"):
        await provider.patch(protected.account_id, STORAGE, {"identity": {"type": "None"}})
    assert (await provider.storage_account(protected.account_id))["identity"]["type"] == "UserAssigned"


async def test_a_version_stays_until_it_is_changed_and_an_empty_one_means_automatic(
    provider: ProviderAdministrator, customer: CustomerAdministrator, identity: ProviderIdentity, protected: Protected
) -> None:
    version = protected.key_id.rsplit("/", 1)[-1]
    account, vault, key = protected.account_id, protected.vault, protected.key
    await provider.patch(account, STORAGE, encryption(identity, vault, key, version))
    second = await customer.new_version(vault, key)
    kept = properties_of(await provider.patch(account, STORAGE, encryption(identity, vault, key, None)))["keyvaultproperties"]
    assert (kept["keyversion"], kept["currentVersionedKeyIdentifier"]) == (version, protected.key_id)
    automatic = properties_of(await provider.patch(account, STORAGE, encryption(identity, vault, key, "")))[
        "keyvaultproperties"
    ]
    assert (automatic["keyversion"], automatic["currentVersionedKeyIdentifier"]) == ("", second)


async def test_an_automatic_version_is_followed_once_a_day_and_the_data_stays_readable(
    provider: ProviderAdministrator, customer: CustomerAdministrator, control: SandboxControl, protected: Protected
) -> None:
    await provider.put_blob(protected.account, "data", "a", b"before")
    before = properties_of(await provider.storage_account(protected.account_id))["keyvaultproperties"]
    second = await customer.new_version(protected.vault, protected.key)
    await control.advance(DAY / 2)
    assert properties_of(await provider.storage_account(protected.account_id))["keyvaultproperties"] == before
    await control.advance(DAY / 2)
    third = await customer.new_version(protected.vault, protected.key)
    after = properties_of(await provider.storage_account(protected.account_id))["keyvaultproperties"]
    assert after["currentVersionedKeyIdentifier"] == second, "the check saw what there was when it was due, not later"
    assert after["lastKeyRotationTimestamp"] > before["lastKeyRotationTimestamp"]
    await customer.disable(protected.vault, protected.key, protected.key_id.rsplit("/", 1)[-1])
    await control.advance(700)
    assert await provider.get_blob(protected.account, "data", "a") == b"before"
    await control.advance(DAY)
    followed = properties_of(await provider.storage_account(protected.account_id))["keyvaultproperties"]
    assert followed["currentVersionedKeyIdentifier"] == third


async def test_the_expiry_of_the_key_is_shown(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    control: SandboxControl,
    identity: ProviderIdentity,
    protected: Protected,
) -> None:
    expiry = int(await control.now()) + 90 * DAY
    await customer.set_expiry(protected.vault, protected.key, expiry)
    shown = properties_of(
        await provider.patch(protected.account_id, STORAGE, encryption(identity, protected.vault, protected.key))
    )
    assert shown["keyvaultproperties"]["currentVersionedKeyExpirationTimestamp"].endswith(".0000000Z")


async def test_a_lost_key_is_noticed_after_a_while_blocks_all_data_and_heals_at_once(
    provider: ProviderAdministrator, customer: CustomerAdministrator, control: SandboxControl, protected: Protected
) -> None:
    await provider.put_blob(protected.account, "data", "a", b"secret")
    shown = await provider.storage_account(protected.account_id)
    await customer.disable(protected.vault, protected.key)
    assert await provider.get_blob(protected.account, "data", "a") == b"secret"
    await control.advance(601)
    for call in (
        provider.get_blob(protected.account, "data", "a"),
        provider.put_blob(protected.account, "data", "b", b"more"),
        provider.delete_blob(protected.account, "data", "a"),
    ):
        with pytest.raises(HttpResponseError) as refusal:
            await call
        assert refusal.value.status_code == 403
        assert getattr(refusal.value, "error_code", None) == "KeyVaultEncryptionKeyNotFound"
    assert await provider.storage_account(protected.account_id) == shown, "a GET of the account is no proof of access"
    await customer.enable(protected.vault, protected.key)
    assert await provider.get_blob(protected.account, "data", "a") == b"secret"


async def test_each_loss_has_the_data_planes_own_code(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    control: SandboxControl,
    identity: ProviderIdentity,
    protected: Protected,
) -> None:
    await provider.put_blob(protected.account, "data", "a", b"secret")
    application = identity.application_client_id

    async def code() -> str | None:
        await control.advance(601)
        try:
            await provider.get_blob(protected.account, "data", "a")
        except HttpResponseError as error:
            return f"{error.status_code} {getattr(error, 'error_code', '')}"
        return None

    await customer.revoke_grant(application, protected.vault)
    assert await code() == "403 KeyVaultEncryptionKeyNotFound"
    await customer.grant(application, protected.vault)
    assert await code() is None
    await customer.delete_key(protected.vault, protected.key)
    assert await code() == "403 KeyVaultEncryptionKeyNotFound"
    await customer.recover_key(protected.vault, protected.key)
    assert await code() is None
    await customer.delete_vault(protected.vault)
    assert await code() == "403 KeyVaultVaultNotFound"
    await customer.recover_vault(protected.vault)
    assert await code() == "403 KeyVaultEncryptionKeyNotFound", "its role assignments died with it"
    await customer.grant(application, protected.vault)
    assert await code() is None
    await customer.set_application_enabled(application, enabled=False)
    assert await code() == "403 KeyVaultAccessTokenCannotBeAcquired"
    await customer.set_application_enabled(application, enabled=True)
    assert await code() is None
    await customer.set_firewall(protected.vault, bypass="None")
    assert await code() == "403 KeyVaultEncryptionKeyNotFound"
    await customer.set_firewall(protected.vault, bypass="AzureServices")
    assert await code() is None


async def test_reverting_needs_the_key(
    provider: ProviderAdministrator, customer: CustomerAdministrator, protected: Protected
) -> None:
    await provider.put_blob(protected.account, "data", "a", b"secret")
    revert = {"properties": {"encryption": {"keySource": "Microsoft.Storage"}}}
    await customer.disable(protected.vault, protected.key)
    with pytest.raises(HttpResponseError) as refusal:
        await provider.patch(protected.account_id, STORAGE, revert)
    assert refusal_of(refusal.value) == (400, "KeyVaultEncryptionKeyNotFound")
    await customer.enable(protected.vault, protected.key)
    reverted = properties_of(await provider.patch(protected.account_id, STORAGE, revert))
    assert reverted["keySource"] == "Microsoft.Storage"
    assert "keyvaultproperties" not in reverted
    assert "identity" not in reverted
    await customer.disable(protected.vault, protected.key)
    assert await provider.get_blob(protected.account, "data", "a") == b"secret"


async def test_creation_is_a_long_running_operation(
    env: Mapping[str, str], control: SandboxControl, name: Callable[[str], str]
) -> None:
    await control.set_timings(storage_create_seconds=0.5)
    account = name("slow")
    async with (
        ClientSecretCredential(
            env["PROVIDER_TENANT_ID"], env["PROVIDER_ADMIN_CLIENT_ID"], env["PROVIDER_ADMIN_CLIENT_SECRET"], **connection(env)
        ) as credential,
        StorageManagementClient(credential, env["SUBSCRIPTION_ID"], **connection(env)) as client,
    ):
        body: Any = {"location": "West Europe", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
        poller = await client.storage_accounts.begin_create("rg-contoso", account, body)
        with pytest.raises(ResourceExistsError, match="StorageAccountOperationInProgress"):
            await client.storage_accounts.update("rg-contoso", account, {"tags": {}})
        created = await poller.result()
        assert created.provisioning_state == "Succeeded"
        with pytest.raises(HttpResponseError, match="AccountNameInvalid"):
            await client.storage_accounts.begin_create("rg-contoso", "Not-Valid", body)
        await client.storage_accounts.delete("rg-contoso", account)
        with pytest.raises(ResourceNotFoundError):
            await client.storage_accounts.get_properties("rg-contoso", account)


async def test_a_list_comes_in_pages_of_uneven_sizes_and_of_none(
    env: Mapping[str, str], provider: ProviderAdministrator, control: SandboxControl, name: Callable[[str], str]
) -> None:
    group = name("rg-pages")
    await provider.create_resource_group(group)
    names = {name("paged") for _ in range(6)}
    for one in names:
        await provider.create_storage_account(one, resource_group=group)
    await control.set_timings(list_page_size=2)
    await control.clear_requests()
    async with (
        ClientSecretCredential(
            env["PROVIDER_TENANT_ID"], env["PROVIDER_ADMIN_CLIENT_ID"], env["PROVIDER_ADMIN_CLIENT_SECRET"], **connection(env)
        ) as credential,
        StorageManagementClient(credential, env["SUBSCRIPTION_ID"], **connection(env)) as client,
    ):
        pages = [
            [one.name async for one in page] async for page in client.storage_accounts.list_by_resource_group(group).by_page()
        ]
    assert {one for page in pages for one in page} == names
    assert [len(page) for page in pages] == [2, 0, 1, 2, 0, 1], "some pages have nothing but the way to the next"
    counts = {(one["method"], one["operation"], one["status"]): one["count"] for one in await control.counts()}
    assert counts["GET", "storageAccounts", 200] == 6


async def test_blobs_need_a_data_role_and_a_token_for_storage(
    env: Mapping[str, str],
    identity: ProviderIdentity,
    issuer: Issuer,
    provider: ProviderAdministrator,
    wire: Wire,
    protected: Protected,
) -> None:
    await provider.put_blob(protected.account, "data", "folder/a b.txt", b"0123456789")
    url = f"https://{protected.account}.blob.core.windows.net"
    anonymous = await wire("GET", f"{url}/data/a", headers={"x-ms-version": "2024-11-04"})
    assert (anonymous.status, anonymous.headers["x-ms-error-code"]) == (401, "NoAuthenticationInformation")
    assert env["PROVIDER_TENANT_ID"] in anonymous.headers["WWW-Authenticate"]
    client_id = identity.managed_identity_client_id
    async with (
        ClientAssertionCredential(env["PROVIDER_TENANT_ID"], client_id, issuer.token, **connection(env)) as credential,
        BlobServiceClient(url, credential=credential, retry_total=0, **connection(env)) as client,
    ):
        with pytest.raises(HttpResponseError) as refusal:
            await client.get_blob_client("data", "folder/a b.txt").download_blob()
        assert getattr(refusal.value, "error_code", None) == "AuthorizationPermissionMismatch"
        token = (await credential.get_token("https://management.azure.com/.default")).token
    wrong = await wire("GET", f"{url}/data/a", token=token, headers={"x-ms-version": "2024-11-04"})
    assert (wrong.status, wrong.headers["x-ms-error-code"]) == (401, "InvalidAuthenticationInfo")


async def test_the_blob_client_works_unmodified(env: Mapping[str, str], protected: Protected) -> None:
    async with (
        ClientSecretCredential(
            env["PROVIDER_TENANT_ID"], env["PROVIDER_ADMIN_CLIENT_ID"], env["PROVIDER_ADMIN_CLIENT_SECRET"], **connection(env)
        ) as credential,
        BlobServiceClient(
            f"https://{protected.account}.blob.core.windows.net", credential=credential, **connection(env)
        ) as client,
    ):
        container = await client.create_container("things", metadata={"colour": "red"})
        assert (await container.get_container_properties()).metadata == {"colour": "red"}
        blob = await container.upload_blob("folder/a b.txt", b"0123456789", metadata={"kind": "digits"})
        with pytest.raises(ResourceExistsError):
            await container.upload_blob("folder/a b.txt", b"other")
        assert (await blob.get_blob_properties()).metadata == {"kind": "digits"}
        assert await (await blob.download_blob(offset=2, length=3)).readall() == b"234"
        empty = await container.upload_blob("empty", b"")
        assert await (await empty.download_blob()).readall() == b""
        assert [one.name async for one in container.list_blobs()] == ["empty", "folder/a b.txt"]
        assert [one.name async for one in container.list_blobs(name_starts_with="folder/")] == ["folder/a b.txt"]
        await blob.delete_blob()
        assert not await blob.exists()
        await container.delete_container()
        assert not await container.exists()
