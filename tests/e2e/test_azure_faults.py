"""Azure throttles, fails, hangs up and loses answers; nothing is lost, repeated or concluded from it (laws 5 to 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes.objects import condition, has

if TYPE_CHECKING:
    from tests.environment import Environment

ARM = "management.azure.com"
ODD_MESSAGE = "The account 6f1c2d3e-0000-4000-8000-123456789abc is\u202e not\tin a state for that.\r\nRequestId:9b2d7c1e-1111-4222-8333-444455556666"
PATCH_FAULTS: dict[str, dict[str, Any]] = {
    "500": {"kind": "status", "status": 500, "code": "InternalServerError"},
    "503": {"kind": "status", "status": 503, "code": "ServiceUnavailable"},
    "a gateway's page": {"kind": "status", "status": 502, "body": "<html>Bad Gateway</html>"},
    "409": {"kind": "status", "status": 409, "code": "StorageAccountOperationInProgress"},
    "reset": {"kind": "reset"},
    "truncated": {"kind": "truncate"},
}


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("fault", PATCH_FAULTS)
async def test_a_patch_that_fails_is_done_in_the_end_and_recorded_once(environment: Environment, fault: str, lost: str) -> None:
    version = await environment.vault_with_key()
    await environment.account()
    after_effect = lost == "answer" or fault == "truncated"
    account = environment.accounts["docs"]
    await environment.control.inject(
        **PATCH_FAULTS[fault], host=ARM, method="PATCH", path=account, times=1, after_effect=after_effect
    )
    await environment.apply_all()
    status = await environment.resource_until("Ready", has("Ready"))
    assert status["applied"]["version"] == version
    (rotation,) = status["rotations"]
    assert rotation["to"] == environment.key_uri(version)
    patches = await environment.requests_about(account, 0, "PATCH")
    assert len(patches) <= 2
    assert (await environment.encryption())["keyvaultproperties"]["currentVersionedKeyIdentifier"] == rotation["to"]


@pytest.mark.parametrize(
    ("method", "path", "encrypted"), [("PATCH", None, "False"), ("GET", "storageAccounts", "Unknown")], ids=["patch", "list"]
)
async def test_a_code_that_is_not_known_is_quoted_and_stops_nothing(
    environment: Environment, method: str, path: str | None, encrypted: str
) -> None:
    version = await environment.vault_with_key()
    await environment.account()
    odd = {"kind": "status", "status": 400, "code": "2-odd.code", "message": ODD_MESSAGE}
    fault = await environment.control.inject(**odd, host=ARM, method=method, path=path or environment.accounts["docs"])
    await environment.apply_all()
    status = await environment.resource_until("refused", has("Ready", "False", "AzureRefused"))
    stalled = condition(status, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "AzureRefused")
    assert "(2-odd.code): the provider's administrator must check the resource: " in stalled["message"]
    assert stalled["message"].endswith("'The account … is not in a state for that'")
    assert has("Encrypted", encrypted, "AzureRefused")(status)
    await environment.control.clear_fault(fault)
    status = await environment.resource_until("Ready", has("Ready"))
    assert status["applied"]["version"] == version


@pytest.mark.parametrize("fault", ["500", "a gateway's page", "reset", "truncated"])
async def test_a_read_that_fails_leaves_what_is_known_and_heals(environment: Environment, fault: str) -> None:
    version = await environment.ready()
    since = await environment.position()
    injected = await environment.control.inject(**PATCH_FAULTS[fault], host=ARM, method="GET", path="storageAccounts")
    status = await environment.resource_until("not read", has("Encrypted", "Unknown"))
    assert condition(status, "Stalled") == {}, "nobody need act on an outage"
    assert status["applied"]["version"] == version, "what was known stays"
    await environment.control.clear_fault(injected)
    status = await environment.resource_until("Ready", has("Ready"))
    assert len(status["rotations"]) == 1
    assert await environment.writes(since) == []


async def test_what_is_throttled_is_left_alone_as_long_as_it_asks(environment: Environment) -> None:
    await environment.ready()
    await environment.key_until("in use", lambda seen: seen.get("usedBy"))
    host = f"{environment.vault}.vault.azure.net"
    lists = {"host": ARM, "method": "GET", "path": "storageAccounts", "code": "TooManyRequests", "retry_after": 8}
    arm = await environment.control.inject(kind="status", status=429, times=1, **lists)
    vault = await environment.control.inject(kind="status", status=429, code="Throttled", host=host, retry_after=7, times=1)
    key = await environment.key_until("throttled", has("KeyAccessible", "Unknown"))
    assert condition(key, "Stalled") == {}, "nobody need act"
    status = await environment.resource_until("throttled", has("Encrypted", "Unknown"))
    assert condition(status, "Stalled") == {}
    await environment.key_until("accessible", has("KeyAccessible"))
    await environment.resource_until("Ready", has("Ready"))
    refused = {one["fault"]: one for one in await environment.control.requests() if one["fault"]}
    calls = await environment.operator_requests(host, refused[vault]["n"])
    assert min(one["time"] for one in calls) - refused[vault]["time"] >= 7
    reads = await environment.operator_requests("/storageAccounts", refused[arm]["n"], "GET")
    assert min(one["time"] for one in reads) - refused[arm]["time"] >= 8
    assert len(reads) < 4, "and then not all at once"


async def test_a_throttled_patch_waits_as_told_and_is_then_done_once(environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.account()
    account = environment.accounts["docs"]
    await environment.control.inject(
        kind="status", status=429, code="TooManyRequests", host=ARM, method="PATCH", path=account, retry_after=6, times=1
    )
    await environment.apply_all()
    await environment.resource_until("Ready", has("Ready"))
    refused, done = await environment.requests_about(account, 0, "PATCH")
    assert (refused["status"], done["status"]) == (429, 200)
    assert done["time"] - refused["time"] >= 6


@pytest.mark.parametrize("fault", ["503", "reset", "truncated"])
async def test_an_entra_that_fails_is_tried_again_until_a_new_customer_is_served(environment: Environment, fault: str) -> None:
    await environment.vault_with_key()
    await environment.account()
    injected = await environment.control.inject(**PATCH_FAULTS[fault], host="login.microsoftonline.com", method="POST")
    await environment.apply_all()
    tenant = await environment.objects.until("unknown", "CustomerTenant", environment.name, has("ConsentGranted", "Unknown"))
    assert condition(tenant, "Stalled") == {}
    await environment.control.clear_fault(injected)
    await environment.resource_until("Ready", has("Ready"))
    await environment.objects.until("granted", "CustomerTenant", environment.name, has("Ready"))


async def test_answers_that_never_come_are_given_up_and_asked_for_again(environment: Environment) -> None:
    version = await environment.ready()
    await environment.key_until("in use", lambda seen: seen.get("usedBy"))
    since = await environment.position()
    host = f"{environment.vault}.vault.azure.net"
    hanging = [
        await environment.control.inject(kind="hang", host=host),
        await environment.control.inject(kind="hang", host=ARM, path="storageAccounts"),
    ]
    key = await environment.objects.until(
        "unreachable",
        "CustomerManagedKey",
        "cmk",
        has("KeyAccessible", "Unknown", "VaultUnreachable"),
        environment.namespace,
        patience=60,
    )
    assert key["activeVersion"] == version
    for fault in hanging:
        await environment.control.clear_fault(fault)
    await environment.objects.until("Ready", "EncryptedResource", "docs", has("Ready"), environment.namespace, patience=60)
    assert await environment.writes(since) == []
