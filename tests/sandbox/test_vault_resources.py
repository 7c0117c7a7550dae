"""What Resource Manager does around a vault: keys without a role on its data, and where its log goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.administrators import CustomerAdministrator

KEYS, WORKSPACES, SETTINGS = "2026-02-01", "2023-09-01", "2021-05-01-preview"
RSA = {"kty": "RSA", "keySize": 2048, "keyOps": ["wrapKey", "unwrapKey"]}
AUDIT = {"category": "AuditEvent", "enabled": True}


def code(refusal: pytest.ExceptionInfo[HttpResponseError]) -> tuple[int | None, str | None]:
    """Status and code of a refusal."""
    assert refusal.value.error is not None
    return refusal.value.status_code, refusal.value.error.code


@pytest.fixture
async def vault(customer: CustomerAdministrator, name: Callable[[str], str]) -> str:
    """A vault with purge protection; its ARM id."""
    fresh = name("arm-kv")
    await customer.create_vault(fresh)
    return customer.vault_id(fresh)


async def test_a_key_is_made_once_and_never_changed(customer: CustomerAdministrator, vault: str) -> None:
    wanted = [{"trigger": {"timeAfterCreate": "P180D"}, "action": {"type": "rotate"}}]
    policy = {"lifetimeActions": wanted, "attributes": {"expiryTime": "P365D"}}
    made = await customer.put(f"{vault}/keys/cmk", KEYS, {"properties": {**RSA, "rotationPolicy": policy}})
    properties = made["properties"]
    host = vault.rsplit("/", 1)[-1] + ".vault.azure.net"
    assert properties["keyUri"] == f"https://{host}/keys/cmk"
    assert properties["keyUriWithVersion"].startswith(f"https://{host}/keys/cmk/")
    assert properties["attributes"]["exp"] - properties["attributes"]["created"] == 365 * 86_400
    notice = {"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "notify"}}
    assert properties["rotationPolicy"]["lifetimeActions"] == [*wanted, notice], "Key Vault adds a notice of its own"
    again = await customer.put(f"{vault}/keys/cmk", KEYS, {"properties": {"kty": "RSA-HSM", "keySize": 4096}})
    assert again == made
    assert await customer.get(f"{vault}/keys/cmk", KEYS) == made
    assert (await customer.get(f"{vault}/keys", KEYS))["value"] == [made]


@pytest.mark.parametrize(
    ("properties", "refusal"),
    [
        ({**RSA, "keySize": 1024}, (400, "BadRequest")),
        ({**RSA, "kty": "oct"}, (400, "InvalidRequestContent")),
        ({**RSA, "size": 2048}, (400, "InvalidRequestContent")),
        ({**RSA, "kty": "RSA-HSM"}, (403, "Forbidden")),
        ({**RSA, "rotationPolicy": {"attributes": {"expiryTime": "P7D"}}}, (400, "BadRequest")),
    ],
)
async def test_a_key_that_cannot_be_is_refused(
    customer: CustomerAdministrator, vault: str, properties: dict[str, Any], refusal: tuple[int, str]
) -> None:
    with pytest.raises(HttpResponseError) as refused:
        await customer.put(f"{vault}/keys/cmk", KEYS, {"properties": properties})
    assert code(refused) == refusal


async def test_the_log_of_a_vault_goes_to_a_workspace_that_exists(
    customer: CustomerAdministrator, vault: str, name: Callable[[str], str]
) -> None:
    group = vault.split("/providers/", maxsplit=1)[0]
    workspace = f"{group}/providers/Microsoft.OperationalInsights/workspaces/{name('logs')}"
    setting = f"{vault}/providers/Microsoft.Insights/diagnosticSettings/cmk-audit"
    body = {"properties": {"workspaceId": workspace, "logs": [AUDIT]}}
    with pytest.raises(HttpResponseError) as missing:
        await customer.put(setting, SETTINGS, body)
    assert code(missing) == (404, "ResourceNotFound")
    await customer.put(workspace, WORKSPACES, {"location": "westeurope"})
    made = await customer.put(setting, SETTINGS, body)
    assert made["properties"]["workspaceId"] == workspace
    assert await customer.put(setting, SETTINGS, body) == made
    with pytest.raises(HttpResponseError) as taken:
        await customer.put(f"{setting}-2", SETTINGS, body)
    assert code(taken) == (409, "Conflict")
    with pytest.raises(HttpResponseError) as unknown:
        await customer.put(
            setting, SETTINGS, {"properties": {"workspaceId": workspace, "logs": [{**AUDIT, "category": "All"}]}}
        )
    assert code(unknown) == (400, "BadRequest")
    with pytest.raises(HttpResponseError) as elsewhere:
        await customer.put(f"{group}/providers/Microsoft.Insights/diagnosticSettings/cmk-audit", SETTINGS, body)
    assert code(elsewhere) == (400, "BadRequest")
