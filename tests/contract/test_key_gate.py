"""A key that may only be wrapped and unwrapped with, through the real SDKs, against the simulated Key Vault and Entra."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from cmk_operator.azure.key_gate import (
    LARGEST_PAYLOAD,
    ApplicationAccess,
    KeyGate,
    Purpose,
    RegisteredAccess,
    Unwrapped,
    VaultAccess,
    Wrapped,
)
from cmk_operator.azure.registered_application import RegisteredApplication
from cmk_operator.core.access.state import KeyAttributes
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.identifiers.key_uri import KeyUri, parse_key_uri
from cmk_operator.core.organization.credential import CertificateCredential, ClientSecret
from cmk_operator.core.organization.verdict import Operation, VerdictKind, judge
from tests.certificates import Made, rsa_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cmk_operator.core.organization.credential import Credential
    from cmk_operator.core.organization.verdict import Verdict
    from sandbox.administrators import OwnRegistration
    from tests.contract.world import World

PAYLOAD = secrets.token_bytes(64)
DENIED, UNAVAILABLE, INVALID = VerdictKind.DENIED, VerdictKind.UNAVAILABLE, VerdictKind.INVALID


def uri(world: World, name: str = "cmk") -> KeyUri:
    return parse_key_uri(f"https://{world.vault}.vault.azure.net/keys/{name}")


def by_application(world: World, clock: Callable[[], float] | None = None) -> KeyGate:
    access = ApplicationAccess(world.chain, world.customer.tenant_id)
    return KeyGate(world.session, access, monotonic=clock) if clock else KeyGate(world.session, access)


async def key_by_policy(world: World, application: str, *permissions: str, size: int = 2048) -> None:
    """A vault with access policies, which can grant wrapKey and unwrapKey alone."""
    await world.customer.create_vault(world.vault, rbac=False)
    await world.customer.create_key(world.vault, "cmk", size=size)
    await world.customer.set_access_policy(application, world.vault, permissions or ("wrapKey", "unwrapKey"))


async def wrapped(gate: KeyGate, key: KeyUri) -> Wrapped:
    found = await gate.wrap(key, PAYLOAD, purpose=Purpose.PROBE)
    assert isinstance(found, Wrapped), found
    return found


async def unwrapped(gate: KeyGate, what: Wrapped) -> bytes | AzureFailure:
    found = await gate.unwrap(what.kid, what.algorithm, what.ciphertext, purpose=Purpose.PROBE)
    return found.plaintext if isinstance(found, Unwrapped) else found


async def refused(gate: KeyGate, what: Wrapped, *, own: bool = False) -> Verdict:
    found = await unwrapped(gate, what)
    assert isinstance(found, AzureFailure)
    return judge(found, own_registration=own)


async def operations(world: World, since: int) -> list[tuple[str, str]]:
    """Method and last part of each request to the vault."""
    found = await world.control.requests(since)
    return [(one["method"], one["path"].partition("?")[0].rsplit("/", 1)[-1]) for one in found if ".vault." in one["host"]]


async def last_request(world: World) -> int:
    return int((await world.control.requests())[-1]["n"])


@pytest.mark.parametrize("size", [2048, 3072, 4096])
async def test_a_key_of_any_size_is_used_with_wrap_and_unwrap_alone_and_is_never_read(world: World, size: int) -> None:
    await key_by_policy(world, world.identity.application_client_id, size=size)
    since = await last_request(world)
    gate = by_application(world)
    first = await wrapped(gate, uri(world))
    assert (first.kid.versionless, len(first.ciphertext), first.vault_region) == (uri(world), size // 8, "westeurope")
    assert first.request_id
    assert await unwrapped(gate, first) == PAYLOAD
    assert set(await operations(world, since)) == {("POST", "wrapkey"), ("POST", "unwrapkey")}


async def test_the_answer_of_a_versionless_wrap_tells_the_version_and_a_rotation_shows(world: World) -> None:
    version = await world.key()
    gate = by_application(world)
    before = await wrapped(gate, uri(world))
    assert before.kid == uri(world).at(version)
    newer = await world.newer()
    after = await wrapped(gate, uri(world))
    assert after.kid == uri(world).at(newer)
    pinned = await wrapped(gate, uri(world).at(version))
    assert pinned.kid.version == version
    assert [await unwrapped(gate, one) for one in (before, after, pinned)] == [PAYLOAD] * 3


async def test_the_version_that_another_did_not_wrap_is_neither_denied_nor_lost(world: World) -> None:
    await world.key()
    gate = by_application(world)
    before = await wrapped(gate, uri(world))
    newer = await world.newer()
    found = await gate.unwrap(uri(world).at(newer), before.algorithm, before.ciphertext, purpose=Purpose.DATA_KEY)
    assert isinstance(found, AzureFailure)
    assert (found.status, found.code) == (400, "BadParameter")
    verdict = judge(found)
    assert (verdict.kind, verdict.reason, verdict.refuses) == (INVALID, Reason.KEY_DOES_NOT_FIT, False)


async def test_the_purpose_is_told_to_the_vault_s_own_log(world: World) -> None:
    await world.key()
    gate = by_application(world)
    await wrapped(gate, uri(world))
    since = await last_request(world)
    await gate.wrap(uri(world), PAYLOAD, purpose=Purpose.REWRAP)
    (request,) = await world.control.requests(since)
    assert request["user_agent"].startswith("rewrap cmk-operator azsdk-python-keyvault-keys")


async def disable(world: World) -> None:
    await world.customer.disable(world.vault, "cmk")


async def enable(world: World) -> None:
    await world.customer.enable(world.vault, "cmk")


async def delete(world: World) -> None:
    await world.customer.delete_key(world.vault, "cmk")


async def recover(world: World) -> None:
    await world.customer.recover_key(world.vault, "cmk")


async def revoke(world: World) -> None:
    await world.customer.revoke_grant(world.identity.application_client_id, world.vault)


async def grant(world: World) -> None:
    await world.customer.grant(world.identity.application_client_id, world.vault)


async def close(world: World) -> None:
    await world.customer.set_firewall(world.vault)


async def open_(world: World) -> None:
    await world.customer.set_firewall(world.vault, default_action="Allow")


@pytest.mark.parametrize(
    ("lose", "give_back", "reason"),
    [
        (disable, enable, Reason.DISABLED),
        (delete, recover, Reason.MISSING),
        (revoke, grant, Reason.PERMISSION_DENIED),
        (close, open_, Reason.FIREWALL_BLOCKS_PROBE),
    ],
)
async def test_each_way_in_which_an_organization_refuses_is_denied_and_comes_back_by_itself(
    world: World,
    lose: Callable[[World], Awaitable[None]],
    give_back: Callable[[World], Awaitable[None]],
    reason: Reason,
) -> None:
    await world.key()
    gate = by_application(world)
    kept = await wrapped(gate, uri(world))
    await lose(world)
    try:
        verdict = await refused(gate, kept)
        assert (verdict.kind, verdict.reason, verdict.actor) == (DENIED, reason, Actor.CUSTOMER_ADMINISTRATOR)
        assert "must" in verdict.message
    finally:
        await give_back(world)
    assert await unwrapped(gate, kept) == PAYLOAD


async def test_a_withdrawn_consent_shows_at_the_next_sign_in_and_a_new_one_counts_from_the_next(world: World) -> None:
    application = world.identity.application_client_id
    await world.key()
    gate = by_application(world)
    kept = await wrapped(gate, uri(world))
    await world.customer.withdraw_consent(application)
    try:
        failure = await gate.sign_in()
        assert failure is not None
        assert judge(failure, Operation.SIGN_IN).reason is Reason.CONSENT_MISSING
        verdict = await refused(gate, kept)
        assert (verdict.kind, verdict.reason) == (DENIED, Reason.CONSENT_MISSING), "the old token is dropped"
    finally:
        await world.customer.consent(application)
    await grant(world)  # the new principal has another id
    assert await unwrapped(gate, kept) == PAYLOAD


async def test_one_sign_in_explains_all_refusals_of_a_while(world: World) -> None:
    await world.key()
    now = 0.0
    gate = by_application(world, lambda: now)
    kept = await wrapped(gate, uri(world))
    await revoke(world)
    since = await last_request(world)

    async def sign_ins() -> int:
        hosts = [one["host"] for one in await world.control.requests(since)]
        return sum(host.startswith("login.") for host in hosts)

    await refused(gate, kept)
    await refused(gate, kept)
    first = await sign_ins()
    assert first > 0
    for _ in range(4):
        assert (await refused(gate, kept)).reason is Reason.PERMISSION_DENIED
    assert await sign_ins() == first
    now += 16.0
    await refused(gate, kept)
    assert await sign_ins() == first + 1


async def test_an_expired_key_still_unwraps_and_what_it_wraps_no_longer_says_so(world: World) -> None:
    await world.key()
    gate = by_application(world)
    kept = await wrapped(gate, uri(world))
    await world.customer.set_expiry(world.vault, "cmk", datetime.now(UTC) - timedelta(days=1))
    assert await unwrapped(gate, kept) == PAYLOAD
    found = await gate.wrap(uri(world), PAYLOAD, purpose=Purpose.NEW_DATA_KEY)
    assert isinstance(found, AzureFailure)
    verdict = judge(found, Operation.WRAP)
    assert (verdict.kind, verdict.reason, verdict.refuses) == (INVALID, Reason.EXPIRED, False)
    assert "must create a new version" in verdict.message


@pytest.mark.parametrize(
    ("status", "code"), [(503, "ServiceUnavailable"), (500, ""), (403, ""), (404, ""), (404, "VaultNotFound")]
)
async def test_an_outage_of_the_vault_is_no_refusal(world: World, status: int, code: str) -> None:
    await world.key()
    gate = by_application(world)
    kept = await wrapped(gate, uri(world))
    await world.control.inject(kind="status", host=uri(world).vault_host, path="unwrapkey", status=status, code=code)
    verdict = await refused(gate, kept)
    assert (verdict.kind, verdict.refuses, verdict.retryable) == (UNAVAILABLE, False, True)


async def test_a_throttled_vault_says_how_long_to_wait_and_nothing_is_sent_before(world: World) -> None:
    await world.key()
    gate = by_application(world)
    kept = await wrapped(gate, uri(world))
    await world.control.inject(kind="status", status=429, code="Throttled", host=uri(world).vault_host, retry_after=30, times=1)
    verdict = await refused(gate, kept)
    assert (verdict.kind, verdict.retry_after) == (VerdictKind.THROTTLED, 30.0)
    since = await last_request(world)
    assert (await refused(gate, kept)).kind is VerdictKind.THROTTLED
    assert await operations(world, since) == []


async def test_a_vault_of_another_tenant_gets_no_token(world: World) -> None:
    await world.key()
    stranger = KeyGate(world.session, ApplicationAccess(world.chain, world.provider_admin.tenant_id))
    found = await stranger.wrap(uri(world), PAYLOAD, purpose=Purpose.ACCEPTANCE)
    assert isinstance(found, AzureFailure)
    verdict = judge(found, Operation.WRAP)
    assert (verdict.kind, verdict.reason) == (DENIED, Reason.VAULT_IN_ANOTHER_TENANT)
    assert world.customer.tenant_id in verdict.message


@pytest.mark.parametrize("size", [1, LARGEST_PAYLOAD])
async def test_what_may_be_wrapped_is_what_the_smallest_key_can_hold(world: World, size: int) -> None:
    await world.key()
    gate = by_application(world)
    value = secrets.token_bytes(size)
    found = await gate.wrap(uri(world), value, purpose=Purpose.PROBE)
    assert isinstance(found, Wrapped)
    assert await unwrapped(gate, found) == value
    with pytest.raises(ValueError, match="wrap takes"):
        await gate.wrap(uri(world), b"", purpose=Purpose.PROBE)
    with pytest.raises(ValueError, match="wrap takes"):
        await gate.wrap(uri(world), bytes(LARGEST_PAYLOAD + 1), purpose=Purpose.PROBE)


async def test_another_algorithm_is_refused_before_anything_is_sent(world: World) -> None:
    await world.key()
    gate = by_application(world)
    kept = await wrapped(gate, uri(world))
    since = await last_request(world)
    found = await gate.unwrap(kept.kid, "RSA1_5", kept.ciphertext, purpose=Purpose.DATA_KEY)
    assert isinstance(found, AzureFailure)
    assert judge(found).kind is INVALID
    assert await operations(world, since) == []


def registered(world: World, registration: OwnRegistration, *credentials: Credential) -> VaultAccess:
    cloud = CLOUDS[CloudName.PUBLIC]
    return RegisteredAccess(RegisteredApplication(cloud, world.customer.tenant_id, registration.client_id, tuple(credentials)))


async def own_registration(world: World, *certificates: bytes) -> OwnRegistration:
    made = await world.customer.register(f"{world.name} encryption", *certificates)
    await key_by_policy(world, made.client_id)
    return made


async def test_an_own_registration_signs_in_by_secret_or_certificate(world: World) -> None:
    certificate = Made(rsa_key(1))
    registration = await own_registration(world, certificate.der)
    _, secret = await world.customer.add_secret(registration)
    for credential in (ClientSecret(secret), CertificateCredential(certificate.pem)):
        gate = KeyGate(world.session, registered(world, registration, credential))
        assert await gate.sign_in() is None
        assert await unwrapped(gate, await wrapped(gate, uri(world))) == PAYLOAD


async def test_each_credential_that_entra_does_not_accept_is_named_for_what_it_is(world: World) -> None:
    certificate, stranger = Made(rsa_key(1)), Made(rsa_key(2))
    old = Made(rsa_key(3), datetime.now(UTC) - timedelta(days=9), datetime.now(UTC) - timedelta(days=1))
    registration = await own_registration(world, certificate.der, old.der)
    _, expired = await world.customer.add_secret(registration, ends=datetime.now(UTC) - timedelta(days=1))
    for credential, reason, words in (
        (ClientSecret(expired), Reason.CREDENTIAL_EXPIRED, "AADSTS7000222"),
        (ClientSecret("wrong"), Reason.CREDENTIAL_REFUSED, "AADSTS7000215"),
        (CertificateCredential(stranger.pem), Reason.CREDENTIAL_REFUSED, "AADSTS700027"),
        (CertificateCredential(old.pem), Reason.CREDENTIAL_EXPIRED, "AADSTS700027"),
    ):
        failure = await KeyGate(world.session, registered(world, registration, credential)).sign_in()
        assert failure is not None
        assert failure.stage is Stage.APPLICATION_TOKEN
        verdict = judge(failure, Operation.SIGN_IN, own_registration=True)
        assert (verdict.kind, verdict.reason, verdict.actor) == (DENIED, reason, Actor.CUSTOMER_ADMINISTRATOR), credential
        assert words in verdict.message
        assert "must create a new one" in verdict.message
        assert "wrong" not in verdict.message


async def test_the_second_credential_takes_over_without_a_failed_call(world: World) -> None:
    registration = await own_registration(world)
    first, old = await world.customer.add_secret(registration)
    _, new = await world.customer.add_secret(registration)
    access = registered(world, registration, ClientSecret(old), ClientSecret(new))
    gate = KeyGate(world.session, access)
    kept = await wrapped(gate, uri(world))
    await world.customer.remove_secret(registration, first)
    await access.fresh_sign_in(world.session)
    assert await unwrapped(gate, kept) == PAYLOAD


async def test_a_deleted_credential_shows_at_the_next_sign_in_and_a_new_one_is_another_access(world: World) -> None:
    registration = await own_registration(world)
    key_id, secret = await world.customer.add_secret(registration)
    gate = KeyGate(world.session, registered(world, registration, ClientSecret(secret)))
    kept = await wrapped(gate, uri(world))
    await world.customer.remove_secret(registration, key_id)
    failure = await gate.sign_in()
    assert failure is not None
    assert judge(failure, own_registration=True).reason is Reason.CREDENTIAL_REFUSED
    assert (await refused(gate, kept, own=True)).reason is Reason.CREDENTIAL_REFUSED, "the old token is dropped"
    _, renewed = await world.customer.add_secret(registration)
    assert await unwrapped(KeyGate(world.session, registered(world, registration, ClientSecret(renewed))), kept) == PAYLOAD


async def test_an_outage_of_entra_hides_no_second_credential(world: World) -> None:
    registration = await own_registration(world)
    _, secret = await world.customer.add_secret(registration)
    access = registered(world, registration, ClientSecret("wrong"), ClientSecret(secret))
    gate = KeyGate(world.session, access)
    fault = await world.control.inject(kind="status", host="login.microsoftonline.com", status=503)
    failure = await gate.sign_in()
    assert failure is not None
    assert judge(failure, own_registration=True).kind is UNAVAILABLE
    await world.control.clear_fault(fault)
    assert await gate.sign_in() is None


def test_no_credential_is_shown() -> None:
    application = RegisteredApplication(
        CLOUDS[CloudName.PUBLIC], "tenant", "client", (ClientSecret("hidden"), CertificateCredential(b"hidden"))
    )
    shown = Wrapped(parse_key_uri("https://kv1.vault.azure.net/keys/k"), "a", b"hidden")
    assert "hidden" not in repr((application, RegisteredAccess(application), shown, Unwrapped(b"hidden")))
    with pytest.raises(ValueError, match="needs a credential"):
        RegisteredApplication(CLOUDS[CloudName.PUBLIC], "tenant", "client", ())


async def test_a_key_is_read_where_get_is_granted_and_asked_for_once_where_it_is_not(world: World) -> None:
    application = world.identity.application_client_id
    await key_by_policy(world, application)
    gate = by_application(world)
    since = await last_request(world)
    assert [await gate.read(uri(world)) for _ in range(3)] == [None] * 3
    assert [method for method, _ in await operations(world, since)] == ["GET"]
    kept = await wrapped(gate, uri(world))
    assert await unwrapped(gate, kept) == PAYLOAD
    since = await last_request(world)
    assert not await gate.is_purged(kept.kid)
    assert await operations(world, since) == []
    await world.customer.set_access_policy(application, world.vault, ("get", "wrapKey", "unwrapKey"))
    assert await gate.read(uri(world)) is None
    found = await by_application(world).read(uri(world))
    assert isinstance(found, KeyAttributes)
    assert (found.key_size, found.recovery_level, found.vault_region) == (2048, "Recoverable", "westeurope")


async def test_a_key_counts_as_purged_only_if_it_is_nowhere_for_a_while_and_comes_back_with_its_backup(world: World) -> None:
    await world.customer.create_vault(world.vault, purge_protection=False)
    await world.customer.create_key(world.vault, "cmk")
    await grant(world)
    now = 0.0
    gate = by_application(world, lambda: now)
    kept = await wrapped(gate, uri(world))
    backup = await world.customer.back_up_key(world.vault, "cmk")
    await delete(world)
    assert (await refused(gate, kept)).reason is Reason.MISSING
    assert not await gate.is_purged(kept.kid), "deleted"
    await world.customer.purge_key(world.vault, "cmk")
    assert not await gate.is_purged(kept.kid), "as while it is being recovered"
    now += 31.0
    assert await gate.is_purged(kept.kid)
    await world.customer.restore_key(world.vault, backup)
    assert not await gate.is_purged(kept.kid)
    assert await unwrapped(gate, kept) == PAYLOAD, "under the same identifier"
