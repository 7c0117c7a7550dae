"""The real az CLI does the customer's side, and looks at the provider's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, SandboxControl
from sandbox.administrators.sql import PASSWORD
from sandbox.az_cli import Az, AzCommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sandbox.administrators import ProviderIdentity

# `control` gives the simulated Azure its times back: other tests use it afterwards.
pytestmark = [pytest.mark.az, pytest.mark.timeout(900), pytest.mark.usefixtures("control")]
ROLE = "Key Vault Crypto Service Encryption User"


def _logged_in(directory: Path, env: Mapping[str, str], side: str) -> Az:
    directory.mkdir()
    az = Az(directory, env)
    az(
        "login", "--service-principal", "--tenant", env[f"{side}_TENANT_ID"],
        "--username", env[f"{side}_ADMIN_CLIENT_ID"], "--password", env[f"{side}_ADMIN_CLIENT_SECRET"],
    )  # fmt: skip
    return az


def test_az_takes_the_customer_from_consent_to_a_rotated_key_and_the_provider_to_an_encrypted_account(
    env: Mapping[str, str], identity: ProviderIdentity, name: Callable[[str], str], tmp_path: Path
) -> None:
    vault, account = name("az-kv"), name("azaccount")

    async def prepared() -> None:
        async with ProviderAdministrator(env) as provider, CustomerAdministrator(env) as customer:
            await provider.create_storage_account(account)
            await customer.withdraw_consent(identity.application_client_id)

    asyncio.run(prepared())
    customer = _logged_in(tmp_path / "customer", env, "CUSTOMER")
    customer("group", "create", "--name", "rg-az", "--location", "westeurope")
    vault_id = customer(
        "keyvault", "create", "--name", vault, "--resource-group", "rg-az", "--enable-purge-protection", "true"
    )["id"]
    principal = customer("ad", "sp", "create", "--id", identity.application_client_id)
    assert principal["appId"] == identity.application_client_id
    granted = customer(
        "role", "assignment", "create", "--assignee", identity.application_client_id, "--role", ROLE, "--scope", vault_id
    )
    assert granted["principalId"] == principal["id"]
    lock = customer("lock", "create", "--name", "keep", "--lock-type", "CanNotDelete", "--resource", vault_id)
    assert lock["level"] == "CanNotDelete"
    with pytest.raises(AzCommandError, match="ScopeLocked"):
        customer("keyvault", "delete", "--name", vault, "--resource-group", "rg-az")
    listed = customer("resource", "list", "--resource-group", "rg-az")
    assert [(one["type"], one["name"]) for one in listed] == [("Microsoft.KeyVault/vaults", vault)]
    key = ("--vault-name", vault, "--name", "cmk")
    first = customer("keyvault", "key", "create", *key, "--kty", "RSA", "--size", "2048")["key"]["kid"]
    assert customer("keyvault", "key", "set-attributes", *key, "--enabled", "false")["attributes"]["enabled"] is False
    customer("keyvault", "key", "set-attributes", *key, "--enabled", "true")
    second = customer("keyvault", "key", "rotate", *key)
    assert second["key"]["kid"] != first
    assert customer("keyvault", "key", "show", *key)["attributes"]["recoveryLevel"] == "Recoverable"

    async def propagated() -> None:
        async with SandboxControl(env["SANDBOX_CONTROL"]) as control:
            await control.advance(2)

    asyncio.run(propagated())
    provider = _logged_in(tmp_path / "provider", env, "PROVIDER")
    where = ("--name", account, "--resource-group", identity.resource_group)
    updated = provider(
        "storage", "account", "update", *where,
        "--identity-type", "UserAssigned", "--user-identity-id", identity.managed_identity_resource_id,
        "--encryption-key-source", "Microsoft.Keyvault", "--encryption-key-vault", f"https://{vault}.vault.azure.net",
        "--encryption-key-name", "cmk", "--key-vault-user-identity-id", identity.managed_identity_resource_id,
        "--key-vault-federated-client-id", identity.application_client_id,
    )["encryption"]  # fmt: skip
    shown = provider("storage", "account", "show", *where)["encryption"]
    assert shown == updated
    assert shown["keySource"] == "Microsoft.Keyvault"
    assert shown["keyVaultProperties"]["currentVersionedKeyIdentifier"] == second["key"]["kid"]
    assert shown["encryptionIdentity"]["encryptionFederatedIdentityClientId"] == identity.application_client_id


def test_az_makes_a_disk_encryption_set_in_the_providers_subscription_and_moves_a_disk_of_a_deallocated_machine(
    env: Mapping[str, str], identity: ProviderIdentity, name: Callable[[str], str], tmp_path: Path
) -> None:
    vault, encryption_set, disk, machine = name("az-des-kv"), name("azdes"), name("azdisk"), name("azvm")

    async def prepared() -> tuple[str, str]:
        async with (
            SandboxControl(env["SANDBOX_CONTROL"]) as control,
            ProviderAdministrator(env) as provider,
            CustomerAdministrator(env) as customer,
        ):
            await control.set_timings(compute_operation_seconds=0)
            await customer.consent(identity.application_client_id)
            await customer.create_vault(vault)
            first = await customer.create_key(vault, "cmk")
            await customer.grant(identity.application_client_id, vault)
            await control.advance(2)
            await provider.compute.create_machine(machine, await provider.compute.create_disk(disk))
            return first, await customer.new_version(vault, "cmk")

    first, second = asyncio.run(prepared())
    az = _logged_in(tmp_path / "provider", env, "PROVIDER")
    group = ("--resource-group", identity.resource_group)
    made = az(
        "disk-encryption-set", "create", *group, "--name", encryption_set, "--location", "westeurope", "--key-url", first,
        "--mi-user-assigned", identity.managed_identity_resource_id, "--federated-client-id", identity.application_client_id,
    )  # fmt: skip
    assert (made["activeKey"]["keyUrl"], made["provisioningState"]) == (first, "Succeeded")
    move = ("disk", "update", *group, "--name", disk, "--disk-encryption-set", encryption_set)
    with pytest.raises(AzCommandError, match="attached to running VM"):
        az(*move, "--encryption-type", "EncryptionAtRestWithCustomerKey")
    az("vm", "deallocate", *group, "--name", machine)
    moved = az(*move, "--encryption-type", "EncryptionAtRestWithCustomerKey")
    assert moved["encryption"]["diskEncryptionSetId"].lower() == made["id"].lower()
    where = (*group, "--name", encryption_set)
    associated = az("disk-encryption-set", "list-associated-resources", "--disk-encryption-set-name", encryption_set, *group)
    assert associated == [moved["id"]]
    az("disk-encryption-set", "update", *where, "--key-url", second, "--enable-auto-key-rotation", "true")
    shown = az("disk-encryption-set", "show", *where)
    assert (shown["activeKey"]["keyUrl"], shown["previousKeys"][0]["keyUrl"]) == (second, first)
    assert shown["rotationToLatestKeyVersionEnabled"] is True


def test_az_puts_a_sql_server_on_the_customers_key_and_a_database_on_one_of_its_own(
    env: Mapping[str, str],
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
    tmp_path: Path,
) -> None:
    uri, server = key_of_customer[2], name("az-sql")
    provider = _logged_in(tmp_path / "provider", env, "PROVIDER")
    where = ("--resource-group", identity.resource_group)
    created = provider(
        "sql", "server", "create", "--name", server, *where, "--location", "westeurope",
        "--admin-user", "contoso", "--admin-password", PASSWORD,
        "--assign-identity", "--identity-type", "UserAssigned",
        "--user-assigned-identity-id", identity.managed_identity_resource_id,
        "--primary-user-assigned-identity-id", identity.managed_identity_resource_id,
        "--federated-client-id", identity.application_client_id,
    )  # fmt: skip
    assert created["federatedClientId"] == identity.application_client_id
    provider("sql", "server", "key", "create", "--server", server, *where, "--kid", uri)
    protector = provider(
        "sql", "server", "tde-key", "set", "--server", server, *where,
        "--server-key-type", "AzureKeyVault", "--kid", uri, "--auto-rotation-enabled", "true",
    )  # fmt: skip
    assert (protector["uri"], protector["autoRotationEnabled"]) == (uri, True)
    provider(
        "sql", "db", "create", "--name", "orders", "--server", server, *where,
        "--assign-identity", "--user-assigned-identity-id", identity.managed_identity_resource_id,
        "--encryption-protector", uri, "--federated-client-id", identity.application_client_id,
    )  # fmt: skip
    database = provider("sql", "db", "show", "--name", "orders", "--server", server, *where)
    assert (database["encryptionProtector"], database["status"]) == (uri, "Online")
    assert provider("sql", "server", "show", "--name", server, *where)["keyId"] == uri
    assert provider("sql", "db", "tde", "show", "--database", "orders", "--server", server, *where)["state"] == "Enabled"
    shown = provider("sql", "server", "tde-key", "show", "--server", server, *where)
    assert (shown["serverKeyType"], shown["uri"]) == ("AzureKeyVault", uri)
    keys = provider("sql", "server", "key", "list", "--server", server, *where)
    assert [one["serverKeyType"] for one in keys] == ["ServiceManaged", "AzureKeyVault"]
