"""Azure's own words reach people: codes that are not known, and texts that stand for a decision somebody must take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.administrators.provider import IDENTITIES, STORAGE
from sandbox.kubernetes.objects import condition, has
from tests.e2e.test_waiting_states import own_credential, trust_identity

if TYPE_CHECKING:
    from tests.environment import Environment

__all__ = ["own_credential"]
ARM = "management.azure.com"


async def test_a_refusal_of_key_vault_with_an_unknown_code_is_no_known_lack_of_permission(environment: Environment) -> None:
    await environment.ready()
    body = {
        "error": {
            "code": "Forbidden",
            "message": "The request violates a rule of the year 2031.",
            "innererror": {"code": "ForbiddenByRuleOf2031"},
        }
    }
    fault = await environment.control.inject(kind="status", status=403, host=f"{environment.vault}.*", path="/keys/", body=body)
    key = await environment.key_until("refused", has("KeyAccessible", "Unknown", "VaultRefused"))
    message = condition(key, "KeyAccessible")["message"]
    assert "(ForbiddenByRuleOf2031): 'The request violates a rule of the year" in message
    assert "customer's administrator must look the code up" in message
    assert key["access"]["inaccessibleExpectedAt"]
    assert has("Stalled", "True", "VaultRefused")(key)
    await environment.control.clear_fault(fault)
    await environment.resource_until("Ready", has("Ready"))


async def test_an_unlisted_code_of_a_read_keeps_azures_sentence_and_says_that_the_read_is_refused(
    environment: Environment,
) -> None:
    await environment.vault_with_key()
    await environment.account()
    said = "The account is under a legal hold of the year 2031."
    fault = await environment.control.inject(
        kind="status", status=409, host=ARM, method="GET", path="/storageAccounts", code="HeldIn2031", message=said
    )
    await environment.apply_all()
    status = await environment.resource_until("refused", has("Ready", "False", "AzureRefused"))
    message = condition(status, "Ready")["message"]
    assert "Azure refuses the read of " in message
    assert "(HeldIn2031): the provider's administrator must check the resource: 'The account is under a legal hold" in message
    await environment.control.clear_fault(fault)
    await environment.resource_until("Ready", has("Ready"))


async def test_an_account_that_takes_no_second_identity_names_the_one_that_is_there(environment: Environment) -> None:
    await environment.vault_with_key()
    group = await environment.provider.create_resource_group(environment.group)
    other, _ = await another_identity(environment, group)
    account = await environment.account(identity={"type": "UserAssigned", "userAssignedIdentities": {other: {}}})
    await environment.apply_all()
    status = await environment.resource_until("refused", has("Ready", "False", "TooManyUserAssignedIdentities"))
    message = condition(status, "Ready")["message"]
    assert f"already has the user-assigned identity {environment.name}" in message
    assert "platform engineer must either have" in message
    assert "Too many user-assigned identities" in message
    shown = await environment.provider.storage_account(account)
    assert [one.lower() for one in shown["identity"]["userAssignedIdentities"]] == [other.lower()], "nothing was taken away"
    await environment.provider.patch(account, STORAGE, {"identity": {"type": "None"}})
    await environment.resource_until("Ready", has("Ready"))


async def test_an_account_that_takes_identity_and_key_only_one_after_the_other_is_moved_in_two_requests(
    environment: Environment, own_credential: None
) -> None:
    await environment.control.set_timings(storage_user_assigned_identities=2)
    await environment.vault_with_key()
    group = await environment.provider.create_resource_group(environment.group)
    other, principal = await another_identity(environment, group)
    await trust_identity(environment, principal)
    await environment.customer.create_key(environment.vault, "other")
    account = await environment.account(identity={"type": "UserAssigned", "userAssignedIdentities": {other: {}}})
    encryption = {
        "keySource": "Microsoft.Keyvault",
        "keyvaultproperties": {
            "keyname": "other",
            "keyversion": "",
            "keyvaulturi": f"https://{environment.vault}.vault.azure.net",
        },
        "identity": {
            "userAssignedIdentity": other,
            "federatedIdentityClientId": environment.identity.application_client_id,
        },
    }
    await environment.allowed(lambda: put_on_key(environment, account, encryption))
    since = await environment.position()
    await environment.apply_all()
    await environment.resource_until("Ready", has("Ready"))
    assert [one["status"] for one in await environment.requests_about(account, since, "PATCH")] == [400, 200, 200]
    now = await environment.encryption()
    assert now["keyvaultproperties"]["keyname"] == "cmk"
    assert now["identity"]["userAssignedIdentity"].lower() == environment.identity.managed_identity_resource_id.lower()


async def test_an_old_key_that_cannot_be_reached_is_named_and_not_the_new_one(environment: Environment) -> None:
    await environment.vault_with_key()
    old = await environment.customer.create_key(environment.vault, "former")
    own = environment.identity.managed_identity_resource_id
    account = await environment.account(identity={"type": "UserAssigned", "userAssignedIdentities": {own: {}}})
    encryption = {
        "keySource": "Microsoft.Keyvault",
        "keyvaultproperties": {
            "keyname": "former",
            "keyversion": "",
            "keyvaulturi": f"https://{environment.vault}.vault.azure.net",
        },
        "identity": {
            "userAssignedIdentity": own,
            "federatedIdentityClientId": environment.identity.application_client_id,
        },
    }
    await environment.allowed(lambda: put_on_key(environment, account, encryption))
    await environment.customer.disable(environment.vault, "former")
    await environment.apply_all()
    status = await environment.resource_until("refused", has("Ready", "False", "OldKeyNotAccessible"))
    message = condition(status, "Ready")["message"]
    assert f"{old} in vault {environment.vault}.vault.azure.net" in message
    assert "its owner, whom the provider's administrator can find" in message
    await environment.apply_key("former", keyUri=environment.key_uri(key="former"))
    await environment.key_until("disabled", has("KeyAccessible", "False", "Disabled"), "former")
    tenant = f"the customer's administrator of CustomerTenant {environment.name} must make it accessible again"
    await environment.resource_until("owned", lambda seen: tenant in condition(seen, "Ready")["message"])
    await environment.customer.enable(environment.vault, "former")
    await environment.resource_until("Ready", has("Ready"))


async def another_identity(environment: Environment, group: str) -> tuple[str, str]:
    """A managed identity that the operator may attach: its ARM id and its principal's object id."""
    other = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{environment.name}"
    principal = (await environment.provider.put(other, IDENTITIES, {"location": "westeurope"}))["properties"]["principalId"]
    operator = environment.identity.managed_identity_principal_id
    await environment.provider.assign_role(operator, "Managed Identity Operator", other)
    return other, principal


async def put_on_key(environment: Environment, account: str, encryption: object) -> str:
    await environment.provider.patch(account, STORAGE, {"properties": {"encryption": encryption}})
    return account
