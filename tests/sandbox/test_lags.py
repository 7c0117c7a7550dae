"""What Azure takes over at once and shows later: each delay is a timing, and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import HttpResponseError
from azure.keyvault.keys.aio import KeyClient

from sandbox.administrators.rest import connection
from tests.sandbox.test_key_vault import application, reason, use

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from azure.core.credentials_async import AsyncTokenCredential

    from sandbox.administrators import CustomerAdministrator, ProviderIdentity, SandboxControl

__all__ = ["application"]  # the fixture of the other module
LAG = 600.0


async def refusal(call: Awaitable[object]) -> tuple[int | None, str]:
    with pytest.raises(HttpResponseError) as refused:
        await call
    return reason(refused.value)


async def test_a_deleted_key_is_nowhere_for_a_while_and_is_neither_made_nor_recovered_nor_purged_then(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    control: SandboxControl,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, _ = key_of_customer
    await control.set_timings(deleted_key_appears_seconds=LAG)
    await customer.begin_delete_key(vault, key)
    async with KeyClient(f"https://{vault}.vault.azure.net", application, **connection(env)) as client:
        assert await refusal(client.get_key(key)) == (404, "KeyNotFound")
        assert await refusal(client.get_deleted_key(key)) == (404, "KeyNotFound")
        assert key not in [one.name async for one in client.list_deleted_keys()]
        for act in (
            customer.begin_recover_key(vault, key),
            customer.purge_key(vault, key),
            customer.call_vault(vault, "POST", f"/keys/{key}/create", {"kty": "RSA"}),
        ):
            assert await refusal(act) == (409, "ObjectIsBeingDeleted")
        await control.advance(LAG)
        assert (await client.get_deleted_key(key)).scheduled_purge_date is not None
        assert key in [one.name async for one in client.list_deleted_keys()]


async def test_a_recovered_key_is_nowhere_for_a_while(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    control: SandboxControl,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, _ = key_of_customer
    await customer.delete_key(vault, key)
    await control.set_timings(recovered_key_appears_seconds=LAG)
    await customer.begin_recover_key(vault, key)
    async with KeyClient(f"https://{vault}.vault.azure.net", application, **connection(env)) as client:
        assert await refusal(client.get_key(key)) == (404, "KeyNotFound")
        assert await refusal(client.get_deleted_key(key)) == (404, "KeyNotFound")
        assert key not in [one.name async for one in client.list_properties_of_keys()]
        assert await refusal(customer.begin_delete_key(vault, key)) == (409, "ObjectIsBeingRecovered")
        await control.advance(LAG)
        await use(env, application, vault, key)


async def test_who_may_not_get_keys_sees_404_until_a_deletion_shows_and_403_after(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    control: SandboxControl,
    name: Callable[[str], str],
) -> None:
    # azure-keyvault-keys waits for a deletion by this difference: DeleteRecoverPollingMethod.
    vault = name("blind-kv")
    await customer.create_vault(vault)
    await customer.create_key(vault, "cmk")
    await control.set_timings(deleted_key_appears_seconds=LAG, recovered_key_appears_seconds=LAG)
    async with KeyClient(f"https://{vault}.vault.azure.net", application, **connection(env)) as client:
        assert await refusal(client.get_key("cmk")) == (403, "ForbiddenByRbac")
        await customer.begin_delete_key(vault, "cmk")
        assert await refusal(client.get_deleted_key("cmk")) == (404, "KeyNotFound")
        await control.advance(LAG)
        assert await refusal(client.get_deleted_key("cmk")) == (403, "ForbiddenByRbac")
        await customer.begin_recover_key(vault, "cmk")
        assert await refusal(client.get_key("cmk")) == (404, "KeyNotFound")
        await control.advance(LAG)
        assert await refusal(client.get_key("cmk")) == (403, "ForbiddenByRbac")


async def test_the_data_plane_of_a_recovered_vault_answers_later(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    control: SandboxControl,
    key_of_customer: tuple[str, str, str],
) -> None:
    vault, key, _ = key_of_customer
    await customer.delete_vault(vault)
    await control.set_timings(recovered_vault_appears_seconds=LAG)
    await customer.recover_vault(vault)
    assert await refusal(use(env, application, vault, key)) == (404, "VaultNotFound")
    await control.advance(LAG)
    assert await refusal(use(env, application, vault, key)) == (403, "ForbiddenByRbac")


async def test_the_data_plane_follows_firewall_and_policies_later_than_resource_manager_shows_them(
    env: Mapping[str, str],
    application: AsyncTokenCredential,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    control: SandboxControl,
    name: Callable[[str], str],
) -> None:
    vault = name("late-kv")
    await customer.create_vault(vault, rbac=False)
    await customer.create_key(vault, "cmk")
    await control.set_timings(vault_settings_propagation_seconds=LAG)
    await customer.set_access_policy(identity.application_client_id, vault)
    assert len((await customer.get(customer.vault_id(vault), "2026-02-01"))["properties"]["accessPolicies"]) == 2
    assert await refusal(use(env, application, vault, "cmk")) == (403, "ForbiddenByPolicy")
    await control.advance(LAG)
    await use(env, application, vault, "cmk")
    await customer.set_firewall(vault)
    await use(env, application, vault, "cmk")
    await control.advance(LAG)
    assert await refusal(use(env, application, vault, "cmk")) == (403, "ForbiddenByFirewall")
    await customer.set_firewall(vault, default_action="Allow")
    assert await refusal(use(env, application, vault, "cmk")) == (403, "ForbiddenByFirewall")
    await control.advance(LAG)
    await use(env, application, vault, "cmk")
    await customer.set_access_policy(identity.application_client_id, vault, ())
    await use(env, application, vault, "cmk")
    await control.advance(LAG)
    assert await refusal(use(env, application, vault, "cmk")) == (403, "ForbiddenByPolicy")
