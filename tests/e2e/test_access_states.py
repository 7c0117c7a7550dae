"""Whether a key can be reached: from each cause to what status says, to who must act, and back without a restart (laws 2, 3, 6)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.azure.entra.directory import KEY_VAULT_APP_ID
from sandbox.kubernetes.objects import condition, has

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.environment import Environment

    MakeEnvironment = Callable[[], Awaitable[Environment]]
    Act = Callable[[Environment], Awaitable[object]]

DAY = 86_400.0
CUSTOMER = "customer's administrator"


@dataclass(frozen=True)
class Loss:
    """One way to lose a key, the state it is told as, words of the message, and the way back."""

    state: str
    message: str
    cause: Act
    remedy: Act
    timings: tuple[tuple[str, bool], ...] = ()


async def disable(environment: Environment) -> None:
    await environment.customer.disable(environment.vault, "cmk")


async def enable(environment: Environment) -> None:
    await environment.customer.enable(environment.vault, "cmk")


async def expire(environment: Environment) -> None:
    await environment.customer.set_expiry(environment.vault, "cmk", datetime.now(UTC) - timedelta(minutes=1))


async def prolong(environment: Environment) -> None:
    await environment.customer.set_expiry(environment.vault, "cmk", await environment.control.now() + 365 * DAY)


async def postpone(environment: Environment) -> None:
    begin = datetime.fromtimestamp(await environment.control.now() + 30 * DAY, UTC)
    await environment.customer.set_validity(environment.vault, "cmk", not_before=begin)


async def activate(environment: Environment) -> None:
    begin = datetime.now(UTC) - timedelta(minutes=1)
    await environment.customer.set_validity(environment.vault, "cmk", not_before=begin)


async def delete(environment: Environment) -> None:
    await environment.customer.delete_key(environment.vault, "cmk")


async def recover(environment: Environment) -> None:
    await environment.customer.recover_key(environment.vault, "cmk")


async def grant(environment: Environment) -> None:
    application = environment.identity.application_client_id
    vault = await environment.customer.get(environment.customer.vault_id(environment.vault), "2026-02-01")
    if vault["properties"]["enableRbacAuthorization"]:
        await environment.customer.grant(application, environment.vault)
    else:
        await environment.customer.set_access_policy(application, environment.vault)


async def revoke(environment: Environment) -> None:
    application = environment.identity.application_client_id
    vault = await environment.customer.get(environment.customer.vault_id(environment.vault), "2026-02-01")
    if vault["properties"]["enableRbacAuthorization"]:
        await environment.customer.revoke_grant(application, environment.vault)
    else:
        await environment.customer.set_access_policy(application, environment.vault, ())


async def withdraw_consent(environment: Environment) -> None:
    await environment.customer.withdraw_consent(environment.identity.application_client_id)


async def consent(environment: Environment) -> None:
    await environment.customer.consent(environment.identity.application_client_id)
    await grant(environment)


async def block(environment: Environment) -> None:
    await environment.customer.set_application_enabled(environment.identity.application_client_id, enabled=False)


async def unblock(environment: Environment) -> None:
    await environment.customer.set_application_enabled(environment.identity.application_client_id, enabled=True)


async def demand_assignment(environment: Environment) -> None:
    await environment.customer.demand_assignment(KEY_VAULT_APP_ID, demanded=True)


async def end_assignment(environment: Environment) -> None:
    await environment.customer.demand_assignment(KEY_VAULT_APP_ID, demanded=False)


async def disable_key_vault(environment: Environment) -> None:
    await environment.customer.set_application_enabled(KEY_VAULT_APP_ID, enabled=False)


async def enable_key_vault(environment: Environment) -> None:
    await environment.customer.set_application_enabled(KEY_VAULT_APP_ID, enabled=True)


LOSSES = {
    "disabled": Loss("Disabled", "must enable it", disable, enable),
    "disabled and not even readable": Loss(
        "Disabled", "must enable it", disable, enable, (("get_of_disabled_key_is_refused", True),)
    ),
    "expired": Loss("Expired", "must create a new version or extend its expiry", expire, prolong),
    "not yet valid": Loss("NotYetValid", "must move its activation date", postpone, activate),
    "deleted": Loss("Deleted", "can be recovered until ", delete, recover),
    "revoked": Loss("PermissionDenied", "Key Vault refuses get by ", revoke, grant),
    "consent withdrawn": Loss("ConsentMissing", "AADSTS700016", withdraw_consent, consent),
    "consent withdrawn, as an invalid client": Loss(
        "ConsentMissing", "AADSTS7000229", withdraw_consent, consent, (("missing_principal_is_an_invalid_client", True),)
    ),
    "application disabled": Loss("ConsentMissing", "must enable its enterprise application", block, unblock),
}


@pytest.mark.parametrize("cause", LOSSES)
async def test_a_lost_key_is_told_with_its_cause_and_owner_and_heals_by_itself(
    another_environment: MakeEnvironment, cause: str
) -> None:
    loss = LOSSES[cause]
    kinds_of_vault = [True] if loss.state == "ConsentMissing" else [True, False]
    environments = [await another_environment() for _ in kinds_of_vault]
    checks = [lose_and_heal(one, loss, rbac=rbac) for one, rbac in zip(environments, kinds_of_vault, strict=True)]
    await asyncio.gather(*checks)


async def lose_and_heal(environment: Environment, loss: Loss, *, rbac: bool) -> None:
    version = await environment.ready(rbac=rbac)
    await environment.control.set_timings(**dict(loss.timings))
    before = await environment.encryption()
    since = await environment.position()
    began = datetime.now(UTC).replace(microsecond=0)
    await loss.cause(environment)
    try:
        key = await environment.key_until("lost", has("KeyAccessible", "False", loss.state))
        assert key["access"]["state"] == loss.state
        assert began <= datetime.fromisoformat(key["access"]["since"]) <= datetime.now(UTC)
        expected = datetime.fromisoformat(key["access"]["inaccessibleExpectedAt"]) - began
        assert timedelta(minutes=9) < expected < timedelta(minutes=11)
        message = condition(key, "KeyAccessible")["message"]
        assert loss.message in message
        assert CUSTOMER in message
        assert has("Ready", "False", loss.state)(key)
        assert has("Stalled", "True", loss.state)(key)
        assert key["activeVersion"] == version, "what was active stays known"
        status = await environment.resource_until("lost", has("KeyAccessible", "False", loss.state))
        assert has("Ready", "False", loss.state)(status)
        assert has("Stalled", "True", loss.state)(status)
        assert has("Encrypted", "True")(status), "the account is on the key, reachable or not"
        assert status["applied"]["version"] == version
    finally:
        await loss.remedy(environment)
    key = await environment.key_until("accessible", has("KeyAccessible", "True", "Accessible"))
    assert "inaccessibleExpectedAt" not in key["access"]
    assert condition(key, "Stalled") == {}
    await environment.resource_until("Ready", has("Ready"))
    assert await environment.writes(since, environment.accounts["docs"]) == [], "a lost key is no reason to touch the account"
    assert await environment.encryption() == before


TAKEN_BACK = {
    "AADSTS700016": (withdraw_consent, consent),
    "AADSTS7000229": (withdraw_consent, consent),
    "AADSTS7000112": (block, unblock),
    "AADSTS501051": (demand_assignment, end_assignment),
    "AADSTS500014": (disable_key_vault, enable_key_vault),
}


@pytest.mark.parametrize("code", TAKEN_BACK)
async def test_a_consent_that_is_taken_back_is_revoked_not_pending(environment: Environment, code: str) -> None:
    cause, remedy = TAKEN_BACK[code]
    await environment.ready()
    await environment.control.set_timings(missing_principal_is_an_invalid_client=code == "AADSTS7000229")
    await tenant_until(environment, "Granted", has("ConsentGranted", "True", "Granted"))
    await cause(environment)
    try:
        status = await tenant_until(environment, "Revoked", has("ConsentGranted", "False", "Revoked"))
        assert status["consent"]["state"] == "Revoked"
        assert code in condition(status, "ConsentGranted")["message"]
        assert status["consent"]["url"] in condition(status, "ConsentGranted")["message"]
        key = await environment.key_until("no consent", has("ConsentGranted", "False"))
        assert has("KeyAccessible", "False", "ConsentMissing")(key)
        assert key["access"]["inaccessibleExpectedAt"]
    finally:
        await remedy(environment)
    await tenant_until(environment, "Granted", has("ConsentGranted", "True", "Granted"))
    await environment.resource_until("Ready", has("Ready"))


async def tenant_until(environment: Environment, what: str, test: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    return await environment.objects.until(what, "CustomerTenant", environment.name, test)


@pytest.mark.parametrize("as_an_invalid_client", [False, True])
async def test_before_the_customer_consents_the_state_is_pending_with_the_page_to_open(
    environment: Environment,
    as_an_invalid_client: bool,  # noqa: FBT001 - pytest hands it over
) -> None:
    await environment.control.set_timings(missing_principal_is_an_invalid_client=as_an_invalid_client)
    application = environment.identity.application_client_id
    await environment.customer.consent(application)
    await environment.customer.withdraw_consent(application)
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key()
    pending = has("ConsentGranted", "False", "Pending")
    # The application's name comes from Graph by way of the identity, perhaps a moment after the tenant's own first pass.
    status = await tenant_until(
        environment, "Pending, with a name", lambda seen: pending(seen) and "displayName" in seen.get("application", {})
    )
    page = f"https://login.microsoftonline.com/{environment.customer.tenant_id}/adminconsent?client_id={application}"
    assert status["consent"] | {"since": ""} == {"state": "Pending", "url": page, "since": ""}
    assert status["application"] == {"clientId": application, "displayName": environment.identity.application_name}
    assert page in condition(status, "Stalled")["message"]
    key = await environment.key_until("no consent", has("KeyAccessible", "False", "ConsentMissing"))
    assert "inaccessibleExpectedAt" not in key["access"], "nothing is on the key yet"
    await environment.vault_with_key()
    await tenant_until(environment, "Granted", has("Ready"))
    await environment.key_until("Ready", has("Ready"))


@pytest.mark.parametrize("missing", ["wrapKey", "unwrapKey"])
async def test_a_policy_that_lacks_one_permission_is_told_by_its_name(environment: Environment, missing: str) -> None:
    await environment.ready(rbac=False)
    application = environment.identity.application_client_id
    permissions = {"get", "wrapKey", "unwrapKey"} - {missing}
    await environment.customer.set_access_policy(application, environment.vault, sorted(permissions))

    def named(seen: dict[str, Any]) -> bool:
        # The policy is replaced by two requests: between them the application may do nothing.
        denied = has("KeyAccessible", "False", "PermissionDenied")(seen)
        return denied and f"Key Vault refuses {missing} by access policy" in condition(seen, "KeyAccessible")["message"]

    await environment.key_until("denied, by name", named)
    await grant(environment)
    await environment.resource_until("Ready", has("Ready"))


async def test_a_key_whose_retention_has_ended_is_purged(environment: Environment) -> None:
    await environment.ready()
    await delete(environment)
    await environment.key_until("deleted", has("KeyAccessible", "False", "Deleted"))
    await environment.control.advance(91 * DAY)
    key = await environment.key_until("purged", has("KeyAccessible", "False", "Purged"))
    assert key["access"]["inaccessibleExpectedAt"]
    status = await environment.resource_until("purged", has("KeyAccessible", "False", "Purged"))
    assert status["applied"]["keyUri"].startswith(environment.key_uri())


async def test_a_key_that_never_existed_is_told_and_its_resource_waits(environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key(keyUri=environment.key_uri(key="missing"))
    await environment.apply_resource()
    key = await environment.key_until("missing", has("KeyAccessible", "False", "Purged"))
    assert "purged or never existed" in condition(key, "KeyAccessible")["message"]
    assert "inaccessibleExpectedAt" not in key["access"]
    await environment.resource_until("waiting", has("Ready", "False", "Purged"))
    await environment.customer.create_key(environment.vault, "missing")
    await environment.resource_until("Ready", has("Ready"))


@pytest.mark.parametrize("vault", ["RBAC", "access policy"])
async def test_a_version_that_does_not_exist_is_told_apart_from_a_missing_key(environment: Environment, vault: str) -> None:
    version = await environment.vault_with_key(rbac=vault == "RBAC")
    await environment.account()
    await environment.apply_all()
    await environment.apply_key(keyUri=environment.key_uri("0" * 32))
    key = await environment.key_until("missing", has("KeyAccessible", "False", "VersionMissing"))
    assert "platform engineer must correct the version in keyUri" in condition(key, "KeyAccessible")["message"]
    await environment.apply_key(keyUri=environment.key_uri(version))
    await environment.resource_until("Ready", has("Ready"))


async def test_a_vault_of_another_tenant_gets_no_token(environment: Environment) -> None:
    provider, name = environment.provider, f"{environment.name}-own"
    await environment.customer.consent(environment.identity.application_client_id)
    group = await provider.create_resource_group(environment.group)
    properties = {"tenantId": provider.tenant_id, "sku": {"family": "A", "name": "standard"}, "enableRbacAuthorization": True}
    vault = {"location": "westeurope", "properties": properties}
    await provider.put(f"{group}/providers/Microsoft.KeyVault/vaults/{name}", "2026-02-01", vault)
    await environment.apply_identity()
    await environment.apply_tenant(allowedVaults=[f"{name}.vault.azure.net"])
    since = await environment.position()
    await environment.apply_key(keyUri=environment.key_uri(vault=name))
    key = await environment.key_until("refused", has("KeyAccessible", "False", "VaultInAnotherTenant"))
    message = condition(key, "KeyAccessible")["message"]
    assert provider.tenant_id in message
    assert "platform engineer must correct keyUri" in message
    answered = {request["status"] for request in await environment.requests_about(name, since) if "/keys/" in request["path"]}
    assert answered == {401}, "only the challenge was ever asked for"


async def test_a_firewall_that_blocks_the_probe_says_nothing_about_azures_own_services(environment: Environment) -> None:
    # Law 6 and design section 2: Unknown, never False and never silently True.
    await environment.ready()
    account = environment.accounts["docs"].rsplit("/", 1)[-1]
    await environment.provider.put_blob(account, "letters", "letter.txt", b"Dear customer")
    since = await environment.position()
    await environment.customer.set_firewall(environment.vault)
    key = await environment.key_until("unknown", has("KeyAccessible", "Unknown", "FirewallBlocksProbe"))
    assert "says nothing about Azure's trusted services" in condition(key, "KeyAccessible")["message"]
    assert "inaccessibleExpectedAt" not in key["access"]
    await environment.resource_until("unknown", has("KeyAccessible", "Unknown", "FirewallBlocksProbe"))
    await environment.control.advance(3600)
    assert await environment.provider.get_blob(account, "letters", "letter.txt") == b"Dear customer"
    await environment.customer.set_firewall(environment.vault, public=False)
    key = await environment.key_until("no public access", lambda seen: "no public network" in str(seen))
    assert has("KeyAccessible", "Unknown", "FirewallBlocksProbe")(key)
    await environment.customer.set_firewall(environment.vault, default_action="Allow")
    await environment.resource_until("Ready", has("Ready"))
    assert await environment.writes(since) == []


async def test_a_recovered_vault_has_lost_its_role_assignments_and_heals_after_the_grant(environment: Environment) -> None:
    await environment.ready()
    since = await environment.position()
    await environment.customer.delete_vault(environment.vault)
    key = await environment.key_until("unreachable", has("KeyAccessible", "Unknown", "VaultUnreachable"))
    assert key["access"]["inaccessibleExpectedAt"], "if Azure's services cannot reach it either, data becomes inaccessible"
    assert has("Reconciling", "True", "VaultUnreachable")(key)
    await environment.resource_until("unreachable", has("KeyAccessible", "Unknown", "VaultUnreachable"))
    assert "must recover, then grant again" in condition(key, "KeyAccessible")["message"]
    await environment.customer.recover_vault(environment.vault)
    key = await environment.key_until("recovered", has("KeyAccessible", "False", "PermissionDenied"))
    message = condition(key, "KeyAccessible")["message"]
    assert "must assign the role Key Vault Crypto Service Encryption User" in message
    assert "a vault that was deleted and recovered has lost its assignments" in message
    await environment.customer.grant(environment.identity.application_client_id, environment.vault)
    await environment.resource_until("Ready", has("Ready"))
    assert await environment.writes(since) == []


OUTAGES: dict[str, dict[str, Any]] = {
    "500": {"kind": "status", "status": 500, "code": "InternalServerError"},
    "503": {"kind": "status", "status": 503, "code": "ServiceUnavailable"},
    "a gateway's 403": {"kind": "status", "status": 403, "body": "<html>Forbidden</html>"},
    "a gateway's 404": {"kind": "status", "status": 404, "body": "<html>Not Found</html>"},
    "reset": {"kind": "reset"},
    "a truncated answer": {"kind": "truncate"},
}


async def test_no_outage_of_a_vault_is_ever_taken_for_a_revocation(another_environment: MakeEnvironment) -> None:
    # Law 6.
    environments = {outage: await another_environment() for outage in OUTAGES}
    await asyncio.gather(*(survive(environment, OUTAGES[outage]) for outage, environment in environments.items()))


async def survive(environment: Environment, outage: dict[str, Any]) -> None:
    version = await environment.ready()
    await environment.key_until("in use", lambda seen: seen.get("usedBy"))
    fault = await environment.control.inject(host=f"{environment.vault}.vault.azure.net", **outage)
    key = await environment.key_until("unknown", has("KeyAccessible", "Unknown"))
    assert key["access"]["state"] in {"VaultUnreachable", "Unknown"}, outage
    assert condition(key, "Stalled") == {}, "nobody is to blame"
    assert key["activeVersion"] == version
    status = await environment.resource_until("unknown", has("KeyAccessible", "Unknown"))
    assert condition(status, "Stalled") == {}
    await environment.control.clear_fault(fault)
    await environment.resource_until("Ready", has("Ready"))
    assert len(await environment.writes(account=environment.accounts["docs"])) == 1


REFUSALS = {
    # What Entra answers, and what a tenant that has not consented and a tenant that had are said to be.
    (401, 7000229, "invalid_client"): ("ConsentMissing", "Pending"),
    (400, 500011, "invalid_resource"): ("ConsentMissing", "Pending"),
    (400, 50105, "invalid_grant"): ("ConsentMissing", "Pending"),
    (400, 900432, "invalid_request"): ("IdentityBroken", "Unknown"),
    (400, 7002139, "invalid_client"): ("IdentityBroken", "Unknown"),
    (400, 123456, "unauthorized_client"): ("EntraRefused", "Unknown"),
}


async def refuse_tokens(environment: Environment, status: int, code: int, error: str) -> str:
    """Entra's refusal of every token of the customer's tenant, as its own body."""
    description = (
        f"AADSTS{code}: The tenant has chosen to refuse. Trace ID: 1 Correlation ID: 2 Timestamp: 2026-11-24 12:00:00Z"
    )
    return await environment.control.inject(
        kind="status",
        status=status,
        host="login.microsoftonline.com",
        path=f"{environment.customer.tenant_id}/oauth2/v2.0/token",
        method="POST",
        body={"error": error, "error_description": description, "error_codes": [code], "error_uri": "https://login/error"},
    )


@pytest.mark.parametrize("answer", REFUSALS, ids=lambda answer: str(answer[1]))
async def test_a_refusal_of_entra_is_never_an_outage(environment: Environment, answer: tuple[int, int, str]) -> None:
    state, before_consent = REFUSALS[answer]
    await environment.vault_with_key()
    await environment.account()
    fault = await refuse_tokens(environment, *answer)
    await environment.apply_all()
    status = await tenant_until(environment, "refused", lambda seen: condition(seen, "Stalled"))
    assert status["consent"]["state"] == before_consent
    await environment.control.clear_fault(fault)
    await environment.resource_until("Ready", has("Ready"))
    await tenant_until(environment, "Granted", has("ConsentGranted", "True", "Granted"))
    fault = await refuse_tokens(environment, *answer)
    status = await tenant_until(environment, "refused", lambda seen: condition(seen, "Stalled"))
    assert status["consent"]["state"] == ("Revoked" if state == "ConsentMissing" else "Granted")
    key = await environment.key_until("lost", has("KeyAccessible", "False", state))
    message = condition(key, "KeyAccessible")["message"]
    assert f"AADSTS{answer[1]}" in message
    assert key["access"]["inaccessibleExpectedAt"]
    if state == "EntraRefused":
        assert "The tenant has chosen to refuse" in message
    await environment.control.clear_fault(fault)
    await environment.resource_until("Ready", has("Ready"))
    await tenant_until(environment, "Granted", has("ConsentGranted", "True", "Granted"))


async def test_an_outage_of_entra_takes_no_consent_away(environment: Environment) -> None:
    # Law 6.
    await environment.ready()
    await tenant_until(environment, "Granted", has("ConsentGranted", "True", "Granted"))
    fault = await environment.control.inject(kind="status", host="login.microsoftonline.com", status=503)
    status = await tenant_until(environment, "Unknown", has("ConsentGranted", "Unknown", "Unknown"))
    assert status["consent"]["state"] == "Granted"
    assert condition(status, "Stalled") == {}
    key = await environment.objects.get("CustomerManagedKey", "cmk", environment.namespace)
    assert not has("KeyAccessible", "False")(key["status"])
    await environment.control.clear_fault(fault)
    await tenant_until(environment, "Granted", has("ConsentGranted", "True", "Granted"))
    await environment.resource_until("Ready", has("Ready"))
