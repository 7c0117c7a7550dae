"""Federated credentials: the ServiceAccount's token, the managed identity's token, and every way in which they do not match."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity.aio import ClientAssertionCredential, WorkloadIdentityCredential
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.administrators.rest import connection
from tests.sandbox.issuer import SERVICE_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.issuer import Issuer

ARM = "https://management.azure.com/.default"
VAULT = "https://vault.azure.net/.default"
EXCHANGE = "api://AzureADTokenExchange/.default"


async def _token(env: Mapping[str, str], tenant: str, client_id: str, assertion: str, scope: str) -> str:
    credential = ClientAssertionCredential(env[f"{tenant}_TENANT_ID"], client_id, lambda: assertion, **connection(env))
    async with credential:
        return (await credential.get_token(scope)).token


async def test_a_service_account_becomes_the_managed_identity(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(issuer.token())
    credential = WorkloadIdentityCredential(
        tenant_id=env["PROVIDER_TENANT_ID"],
        client_id=identity.managed_identity_client_id,
        token_file_path=str(file),
        **connection(env),
    )
    async with credential:
        claims = jwt.decode((await credential.get_token(ARM)).token, options={"verify_signature": False})
    assert claims["oid"] == identity.managed_identity_principal_id
    assert claims["xms_mirid"].lower() == identity.managed_identity_resource_id.lower()


async def test_the_managed_identity_becomes_the_application_in_the_customers_tenant(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer
) -> None:
    own = await _token(env, "PROVIDER", identity.managed_identity_client_id, issuer.token(), EXCHANGE)
    issued_by = jwt.decode(own, options={"verify_signature": False})["iss"]
    assert issued_by == f"https://login.microsoftonline.com/{env['PROVIDER_TENANT_ID']}/v2.0"
    token = await _token(env, "CUSTOMER", identity.application_client_id, own, VAULT)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["tid"], claims["appid"]) == (env["CUSTOMER_TENANT_ID"], identity.application_client_id)


async def test_the_service_account_becomes_the_application_by_its_second_credential(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer
) -> None:
    token = await _token(env, "CUSTOMER", identity.application_client_id, issuer.token(), VAULT)
    assert jwt.decode(token, options={"verify_signature": False})["appid"] == identity.application_client_id


@pytest.mark.parametrize(
    ("subject", "audience", "code"),
    [
        ("system:serviceaccount:default:somebody", "api://AzureADTokenExchange", 700213),
        ("system:serviceaccount:cmk-operator-system:CMK-operator", "api://AzureADTokenExchange", 700213),
        ("system:serviceaccount:cmk-operator-system:cmk-operator", "https://kubernetes.default.svc", 7002121),
    ],
)
async def test_a_token_for_another_subject_or_audience_is_refused(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer, subject: str, audience: str, code: int
) -> None:
    with pytest.raises(ClientAuthenticationError, match=f"AADSTS{code}:"):
        await _token(env, "PROVIDER", identity.managed_identity_client_id, issuer.token(subject, audience), ARM)


async def test_a_token_of_another_issuer_is_refused_with_700211(env: Mapping[str, str], identity: ProviderIdentity) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = jwt.encode(
        {"iss": "https://other.example", "sub": "a", "aud": "b", "exp": 9_999_999_999}, stranger, algorithm="RS256"
    )
    with pytest.raises(ClientAuthenticationError, match="AADSTS700211:"):
        await _token(env, "PROVIDER", identity.managed_identity_client_id, forged, ARM)


async def test_a_forged_signature_is_refused_with_50013(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer
) -> None:
    forged = issuer.token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
    with pytest.raises(ClientAuthenticationError, match="AADSTS50013:"):
        await _token(env, "PROVIDER", identity.managed_identity_client_id, forged, ARM)


async def test_an_expired_token_is_refused_with_700024(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer
) -> None:
    with pytest.raises(ClientAuthenticationError, match="AADSTS700024:"):
        await _token(env, "PROVIDER", identity.managed_identity_client_id, issuer.token(expires_in=-60), ARM)


async def test_a_new_signing_key_of_the_issuer_is_looked_up(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer
) -> None:
    issuer.rotate()
    assert await _token(env, "PROVIDER", identity.managed_identity_client_id, issuer.token(), ARM)


async def test_an_issuer_that_cannot_be_reached_is_90061(
    env: Mapping[str, str], provider: ProviderAdministrator, control: SandboxControl
) -> None:
    application = await provider.graph.json("POST", "/applications", {"displayName": "deaf"})
    await provider.graph.json("POST", "/servicePrincipals", {"appId": application["appId"]})
    issuer = "https://127.0.0.1:1"
    body = {"name": "deaf", "issuer": issuer, "subject": "a", "audiences": ["api://AzureADTokenExchange"]}
    await provider.graph.json("POST", f"/applications/{application['id']}/federatedIdentityCredentials", body)
    await control.advance(2)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {"iss": issuer, "sub": "a", "aud": "api://AzureADTokenExchange", "exp": 9_999_999_999}
    with pytest.raises(ClientAuthenticationError, match="AADSTS90061:"):
        await _token(
            env, "PROVIDER", application["appId"], jwt.encode(claims, key, algorithm="RS256", headers={"kid": "1"}), ARM
        )


async def test_a_new_credential_is_refused_with_70021_until_it_has_replicated(
    env: Mapping[str, str], provider: ProviderAdministrator, control: SandboxControl, issuer: Issuer
) -> None:
    await control.set_timings(federated_credential_replication_seconds=600)
    application = await provider.graph.json("POST", "/applications", {"displayName": "fresh"})
    await provider.graph.json("POST", "/servicePrincipals", {"appId": application["appId"]})
    with pytest.raises(ClientAuthenticationError, match="AADSTS70025:"):
        await _token(env, "PROVIDER", application["appId"], issuer.token(), ARM)
    body = {"name": "kubernetes", "issuer": issuer.url, "subject": "a:b:c", "audiences": ["api://AzureADTokenExchange"]}
    await provider.graph.json("POST", f"/applications/{application['id']}/federatedIdentityCredentials", body)
    with pytest.raises(ClientAuthenticationError, match="AADSTS70021:"):
        await _token(env, "PROVIDER", application["appId"], issuer.token("a:b:c"), ARM)
    await control.advance(601)
    assert await _token(env, "PROVIDER", application["appId"], issuer.token("a:b:c"), ARM)


async def test_entra_takes_only_managed_identities_as_assertions(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer
) -> None:
    application = identity.application_client_id
    of_application = await _token(env, "PROVIDER", application, issuer.token(), EXCHANGE)
    with pytest.raises(ClientAuthenticationError, match="AADSTS700226:"):
        await _token(env, "CUSTOMER", application, of_application, VAULT)
    for_arm = await _token(env, "PROVIDER", identity.managed_identity_client_id, issuer.token(), ARM)
    with pytest.raises(ClientAuthenticationError, match="AADSTS700222:"):
        await _token(env, "CUSTOMER", application, for_arm, VAULT)


async def test_without_consent_the_application_is_not_found_and_a_new_consent_needs_a_moment(
    env: Mapping[str, str],
    identity: ProviderIdentity,
    customer: CustomerAdministrator,
    control: SandboxControl,
    issuer: Issuer,
    name: Callable[[str], str],
) -> None:
    application = identity.application_client_id
    await customer.withdraw_consent(application)
    own = await _token(env, "PROVIDER", identity.managed_identity_client_id, issuer.token(), EXCHANGE)
    with pytest.raises(ClientAuthenticationError, match=r"AADSTS700016: .*'Fabrikam'"):
        await _token(env, "CUSTOMER", application, own, VAULT)
    await control.set_timings(consent_replication_seconds=300)
    await customer.consent(application)
    with pytest.raises(ClientAuthenticationError, match="AADSTS700016:"):
        await _token(env, "CUSTOMER", application, own, VAULT)
    await control.advance(301)
    assert await _token(env, "CUSTOMER", application, own, VAULT)


async def test_the_managed_identity_is_unknown_in_the_customers_tenant(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer
) -> None:
    with pytest.raises(ClientAuthenticationError, match="AADSTS700016:"):
        await _token(env, "CUSTOMER", identity.managed_identity_client_id, issuer.token(), VAULT)


async def test_an_application_trusts_the_managed_identities_of_its_own_tenant_only(
    env: Mapping[str, str],
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    identity: ProviderIdentity,
    issuer: Issuer,
    control: SandboxControl,
) -> None:
    group = await customer.create_resource_group("rg-foreign-identity")
    foreign = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/foreign"
    made = (await customer.put(foreign, "2024-11-30", {"location": "westeurope"}))["properties"]
    trusted = {"issuer": issuer.url, "subject": SERVICE_ACCOUNT, "audiences": ["api://AzureADTokenExchange"]}
    await customer.put(f"{foreign}/federatedIdentityCredentials/kubernetes", "2024-11-30", {"properties": trusted})
    application = (await provider.graph.json("GET", f"/applications(appId='{identity.application_client_id}')"))["id"]
    path = f"/applications/{application}/federatedIdentityCredentials"
    entra = f"https://login.microsoftonline.com/{env['CUSTOMER_TENANT_ID']}/v2.0"
    body = {"name": "foreign", "issuer": entra, "subject": made["principalId"], "audiences": ["api://AzureADTokenExchange"]}
    await provider.graph.json("POST", path, body)
    await control.advance(10)
    assertion = await _token(env, "CUSTOMER", made["clientId"], issuer.token(), EXCHANGE)
    with pytest.raises(ClientAuthenticationError, match="AADSTS700222:"):
        await _token(env, "CUSTOMER", identity.application_client_id, assertion, VAULT)
    await provider.graph.json("DELETE", f"{path}/foreign")
