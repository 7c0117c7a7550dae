"""Data beside a customer's key: encryption scopes, queues and tables, unencrypted databases, confidential machines' disks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity
    from sandbox.administrators.compute import ComputeAdministrator
    from tests.sandbox.conftest import Protected

STORAGE = "2026-09-01"
CONFIDENTIAL = "ConfidentialVmEncryptedWithCustomerKey"
CONFIDENTIAL_DISK = "ConfidentialVM_DiskEncryptedWithCustomerKey"


def code_of(error: HttpResponseError) -> tuple[int | None, str | None]:
    assert error.error is not None
    return error.status_code, error.error.code


async def test_an_encryption_scope_has_a_key_of_its_own_and_is_never_deleted(
    provider: ProviderAdministrator, key_of_customer: tuple[str, str, str], protected: Protected
) -> None:
    account, (vault, key, key_id) = protected.account_id, key_of_customer
    plain = await provider.create_encryption_scope(account, "logs")
    assert (await provider.get(plain, STORAGE))["properties"]["source"] == "Microsoft.Storage"
    own = await provider.create_encryption_scope(account, "own-key", f"https://{vault}.vault.azure.net/keys/{key}")
    shown = (await provider.get(own, STORAGE))["properties"]
    assert (shown["source"], shown["state"]) == ("Microsoft.KeyVault", "Enabled")
    assert shown["keyVaultProperties"]["currentVersionedKeyIdentifier"] == key_id
    listed = (await provider.get(f"{account}/encryptionScopes", STORAGE))["value"]
    assert [one["name"] for one in listed] == ["logs", "own-key"]
    await provider.create_encryption_scope(account, "logs", state="disabled")
    assert (await provider.get(plain, STORAGE))["properties"]["state"] == "Disabled"
    with pytest.raises(HttpResponseError) as refusal:
        await provider.delete(plain, STORAGE)
    assert refusal.value.status_code == 405


@pytest.mark.parametrize(
    ("scope", "key_uri", "more", "refused"),
    [
        ("-logs", None, {}, "InvalidValuesForRequestParameters"),
        ("lo", None, {}, "InvalidValuesForRequestParameters"),
        ("lo--gs", None, {}, "InvalidValuesForRequestParameters"),
        ("Logs", None, {}, "InvalidValuesForRequestParameters"),
        ("logs", "https://example.com/keys/k", {}, "InvalidValuesForRequestParameters"),
        ("logs", "https://none.vault.azure.net/keys/k", {}, "KeyVaultVaultNotFound"),
        ("logs", None, {"source": "Microsoft.Elsewhere"}, "InvalidValuesForRequestParameters"),
        ("logs", None, {"state": "Paused"}, "InvalidValuesForRequestParameters"),
        ("logs", None, {"color": "red"}, "InvalidRequestContent"),
    ],
)
async def test_a_wrong_encryption_scope_is_refused(
    provider: ProviderAdministrator,
    protected: Protected,
    scope: str,
    key_uri: str | None,
    more: dict[str, object],
    refused: str,
) -> None:
    with pytest.raises(HttpResponseError) as refusal:
        await provider.create_encryption_scope(protected.account_id, scope, key_uri, **more)
    assert code_of(refusal.value)[1] == refused


async def test_queues_and_tables_are_under_the_account_s_key_only_if_the_account_was_made_so(
    provider: ProviderAdministrator, name: Callable[[str], str]
) -> None:
    covered = await provider.create_storage_account(name("covered"), under_account_key=("queue", "table"))
    services = (await provider.storage_account(covered))["properties"]["encryption"]["services"]
    assert {one: services[one]["keyType"] for one in services} == dict.fromkeys(("blob", "file", "queue", "table"), "Account")
    plain = await provider.create_storage_account(name("plain"))
    assert (await provider.storage_account(plain))["properties"]["encryption"]["services"].keys() == {"blob", "file"}
    for account, wanted in ((plain, "Account"), (covered, "Service")):
        body = {"properties": {"encryption": {"services": {"queue": {"keyType": wanted}}}}}
        with pytest.raises(HttpResponseError) as refusal:
            await provider.patch(account, STORAGE, body)
        assert code_of(refusal.value) == (400, "InvalidValuesForRequestParameters")
    with pytest.raises(HttpResponseError) as refusal:
        await provider.create_storage_account(name("old"), kind="Storage", under_account_key=("queue",))
    assert code_of(refusal.value) == (400, "InvalidValuesForRequestParameters")
    blobs = await provider.create_storage_account(name("blobs"), kind="BlobStorage")
    assert "queue" not in (await provider.storage_account(blobs))["properties"]["primaryEndpoints"]


async def test_transparent_data_encryption_is_switched_for_each_database_and_never_for_master(
    provider: ProviderAdministrator, name: Callable[[str], str]
) -> None:
    sql = provider.sql
    server = await sql.create_server(name("sql"))
    orders = await sql.create_database(server, "orders")
    listed = (await sql.get(f"{server}/databases"))["value"]
    assert {one["name"]: one["kind"].endswith("system") for one in listed} == {"master": True, "orders": False}
    state = f"{orders}/transparentDataEncryption/current"
    assert (await sql.get(state))["properties"]["state"] == "Enabled"
    await sql.set_encryption(orders, on=False)
    assert (await sql.get(state))["properties"]["state"] == "Disabled"
    master = f"{server}/databases/master"
    assert (await sql.get(f"{master}/transparentDataEncryption/current"))["properties"]["state"] == "Disabled"
    with pytest.raises(HttpResponseError):
        await sql.set_encryption(master, on=True)
    with pytest.raises(HttpResponseError):
        await sql.get(f"{orders}/transparentDataEncryption/other")


async def test_an_unencrypted_database_outlives_the_loss_of_the_key(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    control: Any,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    vault, key, key_id = key_of_customer
    sql = provider.sql
    server = await sql.create_server(name("sql"))
    await sql.create_database(server, "orders")
    open_one = await sql.create_database(server, "plain")
    await sql.set_identity(server, identity)
    await sql.set_protector(server, key_id)
    await sql.set_encryption(open_one, on=False)
    await customer.disable(vault, key)
    await control.advance(1200)
    assert (await sql.status(server, "orders"), await sql.status(server, "plain")) == ("Inaccessible", "Online")


async def confidential(
    provider: ProviderAdministrator, identity: ProviderIdentity, key_id: str, name: str
) -> tuple[ComputeAdministrator, str]:
    compute = provider.compute
    made = await compute.create_encryption_set(
        name,
        key_id,
        identity=identity.managed_identity_resource_id,
        application_client_id=identity.application_client_id,
        encryptionType=CONFIDENTIAL,
        automatic=True,
    )
    return compute, made


async def test_a_confidential_set_never_rotates_by_itself_and_takes_a_key_only_while_its_machines_are_stopped(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    control: Any,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    vault, key, key_id = key_of_customer
    compute, encryption_set = await confidential(provider, identity, key_id, name("set"))
    disk = await compute.create_confidential_disk(name("os"), encryption_set)
    machine = await compute.create_machine(name("vm"), system=disk)
    shown = (await compute.disk(disk))["properties"]
    assert shown["securityProfile"] == {"securityType": CONFIDENTIAL_DISK, "secureVMDiskEncryptionSetId": encryption_set}
    assert shown["encryption"] == {"type": "EncryptionAtRestWithPlatformKey"}
    assert await compute.protected_by(encryption_set) == [disk]
    newer = await customer.new_version(vault, key)
    await control.advance(8000)
    assert (await compute.disk(encryption_set))["properties"]["activeKey"]["keyUrl"] == key_id, "no automatic rotation"
    body = {"properties": {"activeKey": {"keyUrl": newer}}}
    with pytest.raises(HttpResponseError) as refusal:
        await provider.patch(encryption_set, "2026-03-02", body)
    assert code_of(refusal.value) == (409, "OperationNotAllowed")
    await compute.deallocate(machine)
    await provider.patch(encryption_set, "2026-03-02", body)
    await control.advance(1)
    moved = (await compute.disk(encryption_set))["properties"]
    assert moved["activeKey"]["keyUrl"] == newer
    assert moved["previousKeys"] == []
    await customer.disable(vault, key)
    with pytest.raises(HttpResponseError):
        await compute.start(machine)


@pytest.mark.parametrize(
    ("security", "refused"),
    [
        ({"securityType": CONFIDENTIAL_DISK}, "InvalidParameter"),
        ({"securityType": "TrustedLaunch", "secureVMDiskEncryptionSetId": "SET"}, "InvalidParameter"),
        ({"securityType": CONFIDENTIAL_DISK, "secureVMDiskEncryptionSetId": "PLAIN"}, "InvalidParameter"),
        ({"securityType": "Confidential"}, "InvalidRequestContent"),
    ],
)
async def test_a_wrong_security_profile_is_refused(
    provider: ProviderAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
    security: dict[str, str],
    refused: str,
) -> None:
    _, _, key_id = key_of_customer
    compute, encryption_set = await confidential(provider, identity, key_id, name("set"))
    plain = await compute.create_encryption_set(
        name("plain"),
        key_id,
        identity=identity.managed_identity_resource_id,
        application_client_id=identity.application_client_id,
    )
    sets = {"SET": encryption_set, "PLAIN": plain}
    with pytest.raises(HttpResponseError) as refusal:
        await compute.create_disk(name("os"), security={key: sets.get(value, value) for key, value in security.items()})
    assert code_of(refusal.value) == (400, refused)
    with pytest.raises(HttpResponseError):
        await compute.create_disk(name("data"), encryption_set=encryption_set)


async def test_a_blob_in_a_scope_outlives_the_account_s_key_and_ends_with_its_own(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    control: Any,
    name: Callable[[str], str],
    protected: Protected,
) -> None:
    account, vault, key = protected.account_id, protected.vault, name("own")
    await customer.create_key(vault, key)
    await provider.create_encryption_scope(account, "plain")
    await provider.create_encryption_scope(account, "own", f"https://{vault}.vault.azure.net/keys/{key}")
    for scope in (None, "plain", "own"):
        await provider.put_blob(protected.account, "data", f"in-{scope}", b"x", scope=scope)
    await customer.disable(vault, protected.key)
    await control.advance(1200)
    with pytest.raises(HttpResponseError) as refusal:
        await provider.get_blob(protected.account, "data", "in-None")
    assert refusal.value.status_code == 403
    assert await provider.get_blob(protected.account, "data", "in-plain") == b"x", "the account's key does not protect it"
    assert await provider.get_blob(protected.account, "data", "in-own") == b"x"
    await customer.disable(vault, key)
    with pytest.raises(HttpResponseError) as refusal:
        await provider.get_blob(protected.account, "data", "in-own")
    assert refusal.value.status_code == 403
    await provider.create_encryption_scope(account, "plain", state="Disabled")
    with pytest.raises(HttpResponseError) as refusal:
        await provider.get_blob(protected.account, "data", "in-plain")
    assert refusal.value.status_code == 403
    with pytest.raises(HttpResponseError):
        await provider.put_blob(protected.account, "data", "in-none", b"x", scope="none")
