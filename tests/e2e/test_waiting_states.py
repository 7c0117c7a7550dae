"""What time or a person can mend is waited for, never final: races of grants, missing rights, locks and missing accounts (law 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.administrators.provider import AUDIENCE, IDENTITIES, ROLES
from sandbox.kubernetes.objects import condition, has

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

MINUTES = 600.0


async def test_a_role_that_is_on_its_way_to_the_vault_is_waited_for(environment: Environment, operator: Operator) -> None:
    await environment.vault_with_key(grant=False)
    await environment.account()
    await environment.control.advance(2 * MINUTES)
    await environment.control.set_timings(role_propagation_seconds=MINUTES)
    await environment.customer.grant(environment.identity.application_client_id, environment.vault)
    await environment.apply_all()
    key = await environment.key_until("denied", has("KeyAccessible", "False", "PermissionDenied"))
    message = condition(key, "KeyAccessible")["message"]
    assert "Key Vault Crypto Service Encryption User" in message
    assert "a new assignment takes some minutes" in message
    status = await environment.resource_until("waiting", has("Ready", "False", "PermissionDenied"))
    assert "Key Vault Crypto Service Encryption User" in condition(status, "Ready")["message"]
    await operator.after_passes(2)
    assert await environment.writes() == [], "nothing is put on a key that failed the probe"
    await environment.control.advance(MINUTES)
    await environment.resource_until("Ready", has("Ready"))
    assert len(await environment.writes()) == 1


async def test_a_role_that_reached_our_probe_but_not_azures_service_is_waited_for(environment: Environment) -> None:
    # Where the best-known peer leaves accounts stuck for ever: a 400 on the PATCH that is no fault of the request.
    await environment.vault_with_key()
    await environment.account()
    await environment.control.inject(
        kind="status",
        status=400,
        code="KeyVaultAuthenticationFailure",
        message="The operation failed because of authentication issue on the keyvault.",
        host="management.azure.com",
        method="PATCH",
        path=environment.accounts["docs"],
    )
    await environment.apply_all()
    status = await environment.resource_until("refused", has("Ready", "False", "KeyVaultAuthenticationFailure"))
    message = condition(status, "Ready")["message"]
    assert "customer's administrator must make sure" in message
    assert "a new assignment takes some minutes" in message
    assert has("KeyAccessible", "True", "Accessible")(status), "our own probe works"

    async def patched() -> list[int]:
        return [request["status"] for request in await environment.requests_about(environment.accounts["docs"], 0, "PATCH")]

    async def repeated() -> bool:
        return (await patched())[:2] == [400, 400]

    await environment.eventually("tried again", repeated)
    await environment.control.clear_faults()
    await environment.resource_until("Ready", has("Ready"))
    assert (await patched()).count(200) == 1


async def another_identity(environment: Environment, *, trusted_by_entra: bool, trusts_operator: bool) -> str:
    """A managed identity of this test's own, with or without the two federated credentials; its ARM id."""
    provider = environment.provider
    group = await provider.create_resource_group(environment.group)
    identity_id = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{environment.name}"
    properties = (await provider.put(identity_id, IDENTITIES, {"location": "westeurope"}))["properties"]
    if trusts_operator:
        await trust_operator(environment, identity_id)
    if trusted_by_entra:
        await trust_identity(environment, properties["principalId"])
    managed = {"resourceId": identity_id, "clientId": properties["clientId"]}
    await environment.apply_identity(managedIdentity=managed)
    return identity_id


async def trust_operator(environment: Environment, identity_id: str) -> None:
    """The federated credential for the operator's ServiceAccount on the managed identity."""
    issuer = environment.objects.cluster.issuer
    subject = "system:serviceaccount:cmk-operator-system:cmk-operator"
    credential = {"properties": {"issuer": issuer, "subject": subject, "audiences": [AUDIENCE]}}
    await environment.provider.put(f"{identity_id}/federatedIdentityCredentials/kubernetes", IDENTITIES, credential)


def credentials_of(application: str) -> str:
    return f"/applications(appId='{application}')/federatedIdentityCredentials"


async def trust_identity(environment: Environment, principal_id: str) -> None:
    """The federated credential for the managed identity on the application."""
    issuer = f"https://login.microsoftonline.com/{environment.provider.tenant_id}/v2.0"
    credential = {"name": environment.name, "issuer": issuer, "subject": principal_id, "audiences": [AUDIENCE]}
    path = credentials_of(environment.identity.application_client_id)
    await environment.provider.graph.json("POST", path, credential)


@pytest.fixture
async def own_credential(environment: Environment) -> Any:
    """Takes the test's federated credential off the application again: it may hold twenty."""
    yield
    path = credentials_of(environment.identity.application_client_id)
    for one in (await environment.provider.graph.json("GET", path))["value"]:
        if one["name"] == environment.name:
            await environment.provider.graph.json("DELETE", f"{path}/{one['id']}")


async def identity_until(environment: Environment, what: str, test: Any) -> dict[str, Any]:
    return await environment.objects.until(what, "FederatedIdentity", environment.name, test)


async def test_an_operator_that_cannot_sign_in_is_told_as_the_providers_side_and_heals(
    environment: Environment, own_credential: None
) -> None:
    await environment.vault_with_key()
    await environment.apply_all()
    identity_id = await another_identity(environment, trusted_by_entra=True, trusts_operator=False)
    status = await identity_until(environment, "not signed in", has("Authenticated", "False", "OperatorNotAuthenticated"))
    assert "provider's administrator must check the managed identity" in condition(status, "Stalled")["message"]
    key = await environment.key_until("unknown", has("KeyAccessible", "Unknown", "OperatorNotAuthenticated"))
    assert "inaccessibleExpectedAt" not in key["access"], "Azure's own services need no sign-in of ours"
    assert has("Stalled", "True", "OperatorNotAuthenticated")(key)
    await trust_operator(environment, identity_id)
    await identity_until(environment, "signed in", has("Authenticated"))
    await environment.key_until("Ready", has("Ready"))


async def test_an_application_that_does_not_trust_the_identity_is_told_as_the_providers_side_and_heals(
    environment: Environment, own_credential: None
) -> None:
    await environment.vault_with_key()
    await environment.apply_all()
    identity_id = await another_identity(environment, trusted_by_entra=False, trusts_operator=True)
    key = await environment.key_until("broken", has("KeyAccessible", "False", "IdentityBroken"))
    message = condition(key, "KeyAccessible")["message"]
    assert "AADSTS700213" in message
    assert "provider's administrator must check issuer, subject and audience" in message
    principal = (await environment.provider.get(identity_id, IDENTITIES))["properties"]["principalId"]
    # A new credential is refused with AADSTS70021 for some minutes.
    await environment.control.set_timings(federated_credential_replication_seconds=MINUTES)
    await trust_identity(environment, principal)
    key = await environment.key_until("replicating", lambda seen: "AADSTS70021:" in str(seen) or "AADSTS70021)" in str(seen))
    assert has("KeyAccessible", "False", "IdentityBroken")(key)
    assert "a new one takes some minutes" in condition(key, "KeyAccessible")["message"]
    await environment.control.advance(MINUTES)
    await environment.key_until("Ready", has("Ready"))


async def test_a_federated_credential_that_is_removed_while_tokens_are_cached_is_seen_and_heals(
    environment: Environment, operator: Operator
) -> None:
    await environment.ready()
    path = credentials_of(environment.identity.application_client_id)
    listed = (await environment.provider.graph.json("GET", path))["value"]
    (credential,) = [one for one in listed if one["name"] == "managed-identity"]
    since = await environment.position()
    await environment.provider.graph.json("DELETE", f"{path}/{credential['id']}")
    try:
        key = await environment.key_until("broken", has("KeyAccessible", "False", "IdentityBroken"))
        assert key["access"]["inaccessibleExpectedAt"]
        await environment.resource_until("broken", has("Ready", "False", "IdentityBroken"))
    finally:
        kept = {name: credential[name] for name in ("name", "issuer", "subject", "audiences")}
        await environment.provider.graph.json("POST", path, kept)
    await environment.resource_until("Ready", has("Ready"))
    await environment.key_until("Ready", has("Ready"))
    assert await environment.writes(since) == []


async def give_roles_back(environment: Environment) -> None:
    """All that the operator has in the subscription: other tests need the rest of them."""
    for role in ROLES:
        await environment.provider.assign_role(
            environment.identity.managed_identity_principal_id, role, environment.provider.subscription
        )


async def test_an_account_that_the_operator_may_not_write_is_told_and_done_once_it_may(environment: Environment) -> None:
    provider, principal = environment.provider, environment.identity.managed_identity_principal_id
    await environment.vault_with_key()
    await environment.account()
    await provider.withdraw_roles(principal, provider.subscription)
    try:
        await provider.assign_role(principal, "Reader", provider.subscription)
        await environment.apply_all()
        status = await environment.resource_until("refused", has("Ready", "False", "AuthorizationFailed"))
        assert "such as Storage Account Contributor" in condition(status, "Stalled")["message"]
        assert has("Encrypted", "False", "AuthorizationFailed")(status)
    finally:
        await provider.withdraw_roles(principal, provider.subscription)
        await give_roles_back(environment)
    await environment.resource_until("Ready", has("Ready"))


async def test_an_account_that_the_operator_may_not_even_read_is_told_and_done_once_it_may(environment: Environment) -> None:
    provider, principal = environment.provider, environment.identity.managed_identity_principal_id
    await environment.vault_with_key()
    await environment.account()
    await provider.withdraw_roles(principal, provider.subscription)
    try:
        await environment.apply_all()
        status = await environment.resource_until("refused", has("Ready", "False", "AuthorizationFailed"))
        assert has("Encrypted", "Unknown", "AuthorizationFailed")(status)
    finally:
        await give_roles_back(environment)
    await environment.resource_until("Ready", has("Ready"))


async def test_a_managed_identity_that_the_operator_may_not_attach_is_told_and_done_once_it_may(
    environment: Environment,
) -> None:
    provider, principal = environment.provider, environment.identity.managed_identity_principal_id
    identity_id = environment.identity.managed_identity_resource_id
    await environment.vault_with_key()
    await environment.account()
    await provider.withdraw_roles(principal, identity_id)
    try:
        await environment.apply_all()
        status = await environment.resource_until("refused", has("Ready", "False", "LinkedAuthorizationFailed"))
        assert "must assign it Managed Identity Operator" in condition(status, "Stalled")["message"]
    finally:
        await provider.assign_role(principal, "Managed Identity Operator", identity_id)
    await environment.resource_until("Ready", has("Ready"))


async def test_a_read_only_lock_is_told_and_the_account_is_done_once_it_is_lifted(environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.account()
    lock = await environment.provider.lock(environment.accounts["docs"], level="ReadOnly")
    await environment.apply_all()
    status = await environment.resource_until("locked", has("Ready", "False", "ScopeLocked"))
    assert "a ReadOnly lock forbids changes" in condition(status, "Stalled")["message"]
    await environment.provider.unlock(lock)
    await environment.resource_until("Ready", has("Ready"))


@pytest.mark.parametrize("missing", ["account", "group"])
async def test_an_account_that_does_not_exist_yet_is_told_and_done_once_it_is_created(
    environment: Environment, missing: str
) -> None:
    await environment.vault_with_key()
    if missing == "account":
        await environment.provider.create_resource_group(environment.group)
    name = f"{environment.name}docs"
    environment.accounts["docs"] = environment.provider.storage_account_id(name, environment.group)
    await environment.apply_all()
    reason = {"account": "ResourceNotFound", "group": "ResourceGroupNotFound"}[missing]
    status = await environment.resource_until("missing", has("Ready", "False", reason))
    assert "the provider's administrator must create it" in condition(status, "Stalled")["message"]
    await environment.account()
    await environment.resource_until("Ready", has("Ready"))


async def test_an_account_that_is_deleted_under_a_ready_resource_is_told(environment: Environment) -> None:
    await environment.ready()
    await environment.provider.delete_storage_account(environment.accounts["docs"])
    status = await environment.resource_until("missing", has("Ready", "False", "ResourceNotFound"))
    assert has("Encrypted", "Unknown", "ResourceNotFound")(status)
    await environment.account()
    await environment.resource_until("Ready", has("Ready"))
