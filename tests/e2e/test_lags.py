"""What Azure accepts at once and shows later is waited for, with a bound: no false loss, no false purge, no endless wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes.objects import condition, has
from tests.e2e.test_waiting_states import (
    another_identity,
    credentials_of,
    identity_until,
    own_credential,
    trust_identity,
    trust_operator,
)

if TYPE_CHECKING:
    from tests.environment import Environment

__all__ = ["own_credential"]  # the fixture of the other module
LAG = 600.0
TRANSITION = "BeingDeletedOrRecovered"


async def events_of(environment: Environment) -> set[str]:
    """The reasons of all events about the key."""
    path = f"/apis/events.k8s.io/v1/namespaces/{environment.namespace}/events"
    found = (await environment.objects.call("GET", path))["items"]
    return {one["reason"] for one in found if one["regarding"]["kind"] == "CustomerManagedKey"}


async def test_a_key_is_never_told_as_purged_while_its_deletion_or_recovery_has_not_shown(environment: Environment) -> None:
    await environment.ready()
    await environment.control.set_timings(deleted_key_appears_seconds=LAG, recovered_key_appears_seconds=LAG)
    await environment.customer.begin_delete_key(environment.vault, "cmk")
    key = await environment.key_until("being deleted", has("KeyAccessible", "False", TRANSITION))
    lost = key["access"]["lostSince"]
    assert key["access"]["inaccessibleExpectedAt"], "the key is gone, whatever becomes of it"
    assert "counts as purged" in condition(key, "Stalled")["message"]
    await environment.control.advance(LAG)
    key = await environment.key_until("deleted", has("KeyAccessible", "False", "Deleted"))
    assert key["access"]["lostSince"] == lost
    await environment.customer.begin_recover_key(environment.vault, "cmk")
    key = await environment.key_until("being recovered", has("KeyAccessible", "False", TRANSITION))
    assert key["access"]["lostSince"] == lost, "it is lost until it shows"
    await environment.control.advance(LAG)
    await environment.resource_until("Ready", has("Ready"))
    key = await environment.key_until("Ready", has("Ready"))
    assert "lostSince" not in key["access"]
    assert "KeyPurged" not in await events_of(environment)


async def test_a_key_whose_deletion_may_not_be_read_is_missing_and_not_purged(environment: Environment) -> None:
    await environment.ready()
    refused = {"kind": "status", "status": 403, "code": "Forbidden", "path": "^/deletedkeys/"}
    await environment.control.inject(host=f"{environment.vault}.vault.azure.net", **refused)
    await environment.customer.begin_delete_key(environment.vault, "cmk")
    key = await environment.key_until("missing", has("KeyAccessible", "False", "Missing"))
    assert "does not say whether it can be recovered" in condition(key, "Stalled")["message"]
    await environment.control.clear_faults()
    await environment.key_until("deleted", has("KeyAccessible", "False", "Deleted"))
    await environment.customer.recover_key(environment.vault, "cmk")
    await environment.resource_until("Ready", has("Ready"))


@pytest.mark.parametrize("operation", ["wrapkey", "unwrapkey"])
async def test_a_version_that_the_vault_shows_but_does_not_find_is_no_loss(environment: Environment, operation: str) -> None:
    await environment.ready()
    unfound = {"kind": "status", "status": 404, "code": "KeyNotFound", "path": f"/{operation}", "message": "not found"}
    fault = await environment.control.inject(host=f"{environment.vault}.vault.azure.net", **unfound)
    key = await environment.key_until("replicating", has("KeyAccessible", "Unknown", "VersionReplicating"))
    assert f"does not find it for {operation[:-3]}Key" in condition(key, "Reconciling")["message"]
    assert "lostSince" not in key["access"]
    await environment.control.clear_fault(fault)
    await environment.key_until("Ready", has("Ready"))
    await environment.resource_until("Ready", has("Ready"))


async def test_a_credential_that_was_added_again_is_waited_for_and_what_was_lost_stays_lost(
    environment: Environment, own_credential: None
) -> None:
    del own_credential
    identity_id = await another_identity(environment, trusted_by_entra=True, trusts_operator=False)
    principal = await _attach(environment, identity_id)
    await trust_operator(environment, identity_id)  # after the grants, which are in new tokens only
    await environment.vault_with_key()
    await environment.account()
    await environment.apply_tenant()
    await environment.apply_key()
    await environment.apply_resource()
    await environment.resource_until("Ready", has("Ready"))
    path = credentials_of(environment.identity.application_client_id)
    listed = (await environment.provider.graph.json("GET", path))["value"]
    (credential,) = [one for one in listed if one["name"] == environment.name]
    await environment.provider.graph.json("DELETE", f"{path}/{credential['id']}")
    key = await environment.key_until("broken", has("KeyAccessible", "False", "IdentityBroken"))
    lost, stops = key["access"]["lostSince"], key["access"]["inaccessibleExpectedAt"]
    await identity_until(environment, "not federated", has("ApplicationFederated", "False"))
    await environment.control.advance(LAG)  # the operator's own credential is old by then
    await environment.control.set_timings(federated_credential_replication_seconds=LAG)
    await trust_identity(environment, principal)
    key = await environment.key_until("replicating", has("KeyAccessible", "Unknown", "CredentialReplicating"))
    assert (key["access"]["lostSince"], key["access"]["inaccessibleExpectedAt"]) == (lost, stops)
    await environment.control.advance(LAG)
    key = await environment.key_until("Ready", has("Ready"))
    assert "lostSince" not in key["access"]


async def _attach(environment: Environment, identity_id: str) -> str:
    """Let the operator attach the identity and write as it; its principal id."""
    provider, subscription = environment.provider, environment.provider.subscription
    found: dict[str, Any] = await provider.get(identity_id, "2024-11-30")
    principal: str = found["properties"]["principalId"]
    await provider.assign_role(principal, "Storage Account Contributor", subscription)
    await provider.assign_role(principal, "Managed Identity Operator", identity_id)
    # Without it nothing shows that the application has a fitting credential, so a refusal is no delay.
    await provider.grant_graph_role(principal, "Application.Read.All")
    return principal
