"""Nothing is put on a key that just failed the probe or lacks a hard prerequisite (law 1)."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.prerequisites.check import ALL_PREREQUISITES
from sandbox.azure.key_vault.access import CLIENT_ADDRESS
from sandbox.kubernetes.objects import condition, has
from tests.e2e.conftest import IDENTITY_CHECK_INTERVAL

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment


ON_THE_CONTROL_PLANE = ("VaultLock", "KeyLock", "TrustedServicesBypass", "NetworkProtection")


def entry_of(status: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next((entry for entry in status.get("prerequisites", ()) if entry["name"] == name), {})
    return found


def prerequisite(status: dict[str, Any], name: str) -> str:
    return str(entry_of(status, name).get("result"))


async def create_key(environment: Environment, name: str, body: dict[str, Any]) -> None:
    """A key with a body that the SDK would not send."""
    client = await environment.customer._key_client(environment.vault)  # noqa: SLF001 - the only way to its operations
    await client.create_key(name, **body)


async def test_every_prerequisite_is_told_as_pass_fail_or_unknown(environment: Environment) -> None:
    await environment.ready()
    key = await environment.key_until("Ready", has("PrerequisitesMet", "True", "Met"))
    told = {entry["name"]: entry["result"] for entry in key["prerequisites"]}
    assert told == dict.fromkeys(ALL_PREREQUISITES, "Pass") | dict.fromkeys(ON_THE_CONTROL_PLANE, "Unknown")
    assert "may grant the application Key Vault Reader" in entry_of(key, "VaultLock")["message"]
    assert key["vaultRegion"] == "westeurope"


async def test_the_told_grant_makes_the_vault_visible_and_its_lock_and_firewall_are_followed(environment: Environment) -> None:
    customer, vault = environment.customer, environment.customer.vault_id(environment.vault)
    await environment.ready()
    key = await environment.key_until("unseen", lambda seen: prerequisite(seen, "NetworkProtection") == "Unknown")
    command = shlex.split(entry_of(key, "NetworkProtection")["command"])
    told = dict(zip(command[4::2], command[5::2], strict=True))
    assert told["--assignee"] == environment.identity.application_client_id
    await customer.grant(told["--assignee"], environment.vault, role=told["--role"])
    seen = await environment.key_until("seen", lambda seen: prerequisite(seen, "NetworkProtection") == "Fail")
    assert "open to all networks" in entry_of(seen, "NetworkProtection")["message"]
    assert {prerequisite(seen, name) for name in ("VaultLock", "KeyLock")} == {"Fail"}
    assert prerequisite(seen, "TrustedServicesBypass") == "Pass"
    assert has("Ready")(seen), "what is only advised is told, and keeps nothing back"
    assert has("PrerequisitesMet", "True", "Warned")(seen)
    lock = await customer.lock(vault)
    await environment.key_until("locked", lambda seen: prerequisite(seen, "VaultLock") == "Pass")
    odd = await environment.control.inject(kind="alter", resource=lock, replace={"/properties": None})
    seen = await environment.key_until("not known", lambda seen: prerequisite(seen, "VaultLock") == "Unknown")
    assert "1 of the locks that Azure lists cannot be read" in entry_of(seen, "VaultLock")["message"]
    await environment.control.clear_fault(odd)
    await customer.set_firewall(environment.vault, addresses=[CLIENT_ADDRESS])
    await environment.key_until("met", has("PrerequisitesMet", "True", "Met"))
    await customer.unlock(lock)
    seen = await environment.key_until("unlocked", lambda seen: prerequisite(seen, "VaultLock") == "Fail")
    assert entry_of(seen, "VaultLock")["command"] == f"az lock create --name cmk --lock-type CanNotDelete --resource {vault}"


async def test_a_firewall_that_shuts_azures_services_out_is_told_before_it_hurts(
    environment: Environment, operator: Operator
) -> None:
    customer = environment.customer
    await environment.vault_with_key()
    await customer.grant(environment.identity.application_client_id, environment.vault, role="Key Vault Reader")
    await customer.set_firewall(environment.vault, bypass="None", addresses=[CLIENT_ADDRESS])
    await environment.account()
    await environment.apply_all()
    await environment.apply_key(prerequisites="Warn")
    key = await environment.key_until("refused", has("PrerequisitesMet", "False", "TrustedServicesBypassFailed"))
    assert has("KeyAccessible", "False", "FirewallBlocksServices")(key), "though the operator itself gets through"
    assert "the customer's administrator must enable it" in condition(key, "Stalled")["message"]
    assert "lostSince" not in key["access"], "nothing is on the key yet"
    await environment.resource_until("waiting", has("Ready", "False", "FirewallBlocksServices"))
    await operator.after_passes(2)
    assert await environment.writes() == []
    await customer.set_firewall(environment.vault, addresses=[CLIENT_ADDRESS])
    await environment.resource_until("Ready", has("Ready"))


async def test_a_region_without_failover_is_told_and_forbids_writes_only_where_the_manifest_requires_it(
    environment: Environment, operator: Operator
) -> None:
    await environment.vault_with_key(location="westus3")
    await environment.account()
    await environment.apply_all()
    await environment.resource_until("Ready", has("Ready"))
    key = await environment.key_until("told", lambda seen: prerequisite(seen, "RegionFailover") == "Fail")
    assert "does not fail over from westus3 to another region" in entry_of(key, "RegionFailover")["message"]
    assert (key["vaultRegion"], key["effective"]["regionFailover"]) == ("westus3", "Report")
    assert has("PrerequisitesMet", "True", "Warned")(key)
    await environment.apply_key(regionFailover="Require", prerequisites="Warn")
    await environment.key_until("required", has("PrerequisitesMet", "False", "RegionFailoverFailed"))
    await environment.account("more")
    since = await environment.position()
    await environment.apply_resource("more")
    await environment.resource_until("waiting", has("Ready", "False", "RegionFailoverFailed"), "more")
    await operator.after_passes(2)
    assert await environment.writes(since) == []
    await environment.apply_key(regionFailover="Report")
    await environment.resource_until("Ready", has("Ready"), "more")


async def test_a_vault_id_in_the_manifest_is_read_at_once_and_only_if_it_is_the_keys_own_vault(
    environment: Environment, operator: Operator
) -> None:
    customer, application = environment.customer, environment.identity.application_client_id
    await environment.vault_with_key()
    await customer.create_vault(f"{environment.vault}2")
    for vault in (environment.vault, f"{environment.vault}2"):
        await customer.grant(application, vault, role="Key Vault Reader")
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key(vaultResourceId=customer.vault_id(f"{environment.vault}2"))
    key = await environment.key_until("other", lambda seen: "another vault" in entry_of(seen, "VaultLock").get("message", ""))
    assert prerequisite(key, "VaultLock") == "Unknown", "the facts of another vault are never taken"
    own = customer.vault_id(environment.vault)
    await environment.apply_key(vaultResourceId=own)
    await environment.key_until("seen", lambda seen: prerequisite(seen, "VaultLock") == "Fail")
    since, began = await environment.position(), asyncio.get_running_loop().time()
    await operator.after_passes(8, "customermanagedkeys")
    asked = await environment.control.requests(since)
    seconds = asyncio.get_running_loop().time() - began
    reads = [
        request["path"].partition("?")[0]
        for request in asked
        if request["application"] == application and request["host"].startswith("management.")
    ]
    assert set(reads) <= {own, f"{own}/providers/Microsoft.Authorization/locks"}, "nothing is searched for"
    assert len(reads) <= 2 * (seconds / (0.9 * IDENTITY_CHECK_INTERVAL) + 1), "reads have an interval of their own"


async def test_a_disk_encryption_set_in_another_region_than_the_vault_is_named_at_the_key(environment: Environment) -> None:
    await environment.ready()
    scope = f"/subscriptions/{environment.provider.subscription_id}/resourceGroups/{environment.group}"
    creation = {"location": "North Europe", "encryptionType": "EncryptionAtRestWithCustomerKey"}
    await environment.apply_resource(
        "disks",
        resourceId=f"{scope}/providers/Microsoft.Compute/diskEncryptionSets/set",
        diskEncryptionSet=creation,
        mode="Observe",
    )
    key = await environment.key_until("told", lambda seen: prerequisite(seen, "VaultRegion") == "Fail")
    assert (
        "is in westeurope, but these disk encryption sets are not: disks (northeurope)"
        in entry_of(key, "VaultRegion")["message"]
    )
    assert has("Ready")(key), "everything else may use the key"


async def test_another_size_is_refused_under_enforce_and_used_under_warn(environment: Environment, operator: Operator) -> None:
    await environment.vault_with_key(size=3072)
    await environment.account()
    await environment.apply_all()
    key = await environment.key_until("refused", has("Ready", "False", "KeySizeFailed"))
    assert "3072 bits, not 2048" in condition(key, "Stalled")["message"]
    assert has("KeyAccessible", "True", "Accessible")(key), "the key can be reached, it is only not good enough"
    await environment.resource_until("waiting", has("Ready", "False", "KeySizeFailed"))
    await operator.after_passes(2)
    assert await environment.writes() == []
    await environment.apply_key(prerequisites="Warn")
    key = await environment.key_until("warned", has("PrerequisitesMet", "True", "Warned"))
    assert prerequisite(key, "KeySize") == "Fail", "it is still told"
    await environment.resource_until("Ready", has("Ready"))


@pytest.mark.parametrize("strictness", ["Enforce", "Warn"])
async def test_a_vault_without_purge_protection_is_never_used(
    environment: Environment, operator: Operator, strictness: str
) -> None:
    customer, application = environment.customer, environment.identity.application_client_id
    await customer.consent(application)
    await customer.create_vault(environment.vault, purge_protection=False)
    principal = await customer.principal_id(customer.client_id)
    await customer.assign_role(principal, "Key Vault Administrator", customer.vault_id(environment.vault))
    await customer.create_key(environment.vault, "cmk")
    await customer.grant(application, environment.vault)
    await environment.account()
    await environment.apply_all()
    await environment.apply_key(prerequisites=strictness)
    key = await environment.key_until("refused", has("Ready", "False", "PurgeProtectionFailed"))
    assert prerequisite(key, "PurgeProtection") == "Fail"
    await environment.resource_until("waiting", has("Ready", "False", "PurgeProtectionFailed"))
    await operator.after_passes(2)
    assert await environment.writes() == []
    protect = {"properties": {"enablePurgeProtection": True}}
    await customer.patch(customer.vault_id(environment.vault), "2026-02-01", protect)
    await environment.resource_until("Ready", has("Ready"))


async def test_a_refusal_of_azure_for_missing_purge_protection_names_the_customer(environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.account()
    await environment.control.inject(
        kind="status",
        status=400,
        code="KeyVaultPolicyError",
        message="Keyvault policy recoverable is not set",
        method="PATCH",
        path=environment.accounts["docs"],
    )
    await environment.apply_all()
    status = await environment.resource_until("refused", has("Ready", "False", "KeyVaultPolicyError"))
    assert "customer's administrator must enable both" in condition(status, "Stalled")["message"]
    await environment.control.clear_faults()
    await environment.resource_until("Ready", has("Ready"))


async def test_an_elliptic_curve_key_is_refused_even_under_warn(environment: Environment, operator: Operator) -> None:
    await environment.vault_with_key(key_type="EC")
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key(prerequisites="Warn")
    await environment.apply_resource()
    key = await environment.key_until("refused", has("PrerequisitesMet", "False", "KeyTypeFailed"))
    assert "the key is EC, not RSA" in condition(key, "PrerequisitesMet")["message"]
    assert "the key itself does not permit wrapKey" in condition(key, "Stalled")["message"], "a grant would not help"
    await environment.resource_until("waiting", has("Ready", "False"))
    await operator.after_passes(2)
    assert await environment.writes() == []


async def test_a_key_whose_operations_bar_wrapping_is_refused(environment: Environment, operator: Operator) -> None:
    await environment.vault_with_key()
    await create_key(environment, "signer", {"key_type": "RSA", "size": 2048, "key_operations": ["sign", "verify"]})
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key(keyUri=environment.key_uri(key="signer"), prerequisites="Warn")
    await environment.apply_resource()
    key = await environment.key_until("refused", has("PrerequisitesMet", "False", "KeyOperationsFailed"))
    assert "does not permit wrapKey and unwrapKey" in condition(key, "PrerequisitesMet")["message"]
    assert "the key itself does not permit wrapKey" in condition(key, "Stalled")["message"], "a grant would not help"
    await environment.resource_until("waiting", has("Ready", "False"))
    await operator.after_passes(2)
    assert await environment.writes() == []


async def test_a_pinned_version_that_is_disabled_is_never_written(environment: Environment, operator: Operator) -> None:
    first = await environment.ready()
    second = (await environment.customer.new_version(environment.vault, "cmk")).rsplit("/", 1)[-1]
    await environment.customer.disable(environment.vault, "cmk", second)
    since = await environment.position()
    await environment.apply_key(keyUri=environment.key_uri(second))
    await environment.key_until("disabled", has("KeyAccessible", "False", "Disabled"))
    status = await environment.resource_until("waiting", has("Ready", "False", "Disabled"))
    assert status["applied"]["version"] == first
    await operator.after_passes(2)
    assert await environment.writes(since) == []
    key = await environment.key_until("no loss", lambda seen: seen["access"]["state"] == "Disabled")
    assert "inaccessibleExpectedAt" not in key["access"], "the version in use is still accessible"
    await environment.customer.enable(environment.vault, "cmk", second)
    status = await environment.resource_until("Ready", has("Ready"))
    assert status["applied"]["version"] == second


async def test_an_account_is_not_moved_while_its_present_version_is_inaccessible(
    environment: Environment, operator: Operator
) -> None:
    # Azure must unwrap with the old version once more; a failed move would only look like progress.
    first = await environment.ready()
    second = (await environment.customer.new_version(environment.vault, "cmk")).rsplit("/", 1)[-1]
    await environment.customer.disable(environment.vault, "cmk", first)
    since = await environment.position()
    await environment.apply_key(keyUri=environment.key_uri(second))
    status = await environment.resource_until("blocked", has("Ready", "False", "OldVersionNotAccessible"))
    assert "must be accessible until the resource has moved" in condition(status, "Ready")["message"]
    await operator.after_passes(2)
    assert await environment.writes(since) == []
    await environment.customer.enable(environment.vault, "cmk", first)
    status = await environment.resource_until("Ready", has("Ready"))
    assert status["applied"]["version"] == second
