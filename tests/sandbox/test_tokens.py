"""The token endpoint: secrets, certificates, tenants, scopes."""

from __future__ import annotations

import time
import uuid
from base64 import b64encode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity.aio import CertificateCredential, ClientSecretCredential
from cryptography.hazmat.primitives import hashes, serialization

from sandbox.administrators.rest import connection
from tests.certificates import Made, rsa_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.conftest import Wire

ARM = "https://management.azure.com/.default"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.mark.parametrize(
    ("changes", "tenant", "status", "error", "code"),
    [
        ({}, "nowhere.example", 400, "invalid_request", 90002),
        ({"grant_type": ""}, "", 400, "invalid_request", 900144),
        ({"grant_type": "password"}, "", 400, "unsupported_grant_type", 70003),
        ({"client_id": str(uuid.UUID(int=1))}, "", 400, "unauthorized_client", 700016),
        ({"scope": "https://management.azure.com/user_impersonation"}, "", 400, "invalid_scope", 1002012),
        ({"scope": "https://unknown.example/.default"}, "", 400, "invalid_resource", 500011),
        ({"client_secret": "wrong"}, "", 401, "invalid_client", 7000215),
        ({"client_secret": ""}, "", 401, "invalid_client", 7000218),
        ({"client_assertion": "no.jwt", "client_assertion_type": ASSERTION}, "", 400, "invalid_request", 50027),
        ({"client_assertion": "a.b.c", "client_assertion_type": "saml"}, "", 400, "invalid_request", 50027),
    ],
)
async def test_a_wrong_token_request_is_refused_with_its_own_code(
    wire: Wire, env: Mapping[str, str], changes: dict[str, str], tenant: str, status: int, error: str, code: int
) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": env["PROVIDER_ADMIN_CLIENT_ID"],
        "client_secret": env["PROVIDER_ADMIN_CLIENT_SECRET"],
        "scope": ARM,
    }
    url = f"https://login.microsoftonline.com/{tenant or env['PROVIDER_TENANT_ID']}/oauth2/v2.0/token"
    reply = await wire("POST", url, form=form | changes)
    assert (reply.status, reply.json["error"], reply.json["error_codes"]) == (status, error, [code])
    assert reply.json["error_description"].startswith(f"AADSTS{code}: ")
    assert set(reply.json) == {
        "error",
        "error_description",
        "error_codes",
        "timestamp",
        "trace_id",
        "correlation_id",
        "error_uri",
    }
    for mark in ("Trace ID: ", "Correlation ID: ", "Timestamp: "):
        assert mark in reply.json["error_description"]


async def test_a_token_names_its_tenant_its_audience_and_its_principal(
    env: Mapping[str, str], identity: ProviderIdentity
) -> None:
    credential = ClientSecretCredential(
        env["CUSTOMER_TENANT_ID"], env["CUSTOMER_ADMIN_CLIENT_ID"], env["CUSTOMER_ADMIN_CLIENT_SECRET"], **connection(env)
    )
    async with credential:
        token = (await credential.get_token(ARM)).token
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iss"] == f"https://sts.windows.net/{env['CUSTOMER_TENANT_ID']}/"
    assert claims["aud"] == "https://management.azure.com"
    assert claims["appid"] == env["CUSTOMER_ADMIN_CLIENT_ID"]
    assert claims["tid"] == env["CUSTOMER_TENANT_ID"]
    assert claims["oid"] == claims["sub"]
    assert abs(claims["exp"] - time.time() - 3600) < 60


async def test_token_lifetimes_follow_the_wall_clock_however_far_the_virtual_clock_went(
    provider: ProviderAdministrator, control: SandboxControl
) -> None:
    await control.advance(400 * 86_400)
    assert (await provider.get(provider.subscription, "2022-12-01"))["state"] == "Enabled"


async def test_the_keys_document_verifies_the_tokens(wire: Wire, env: Mapping[str, str]) -> None:
    base = f"https://login.microsoftonline.com/{env['PROVIDER_TENANT_ID']}"
    configuration = (await wire("GET", f"{base}/v2.0/.well-known/openid-configuration")).json
    assert configuration["issuer"] == f"{base}/v2.0"
    keys = jwt.PyJWKSet.from_dict((await wire("GET", configuration["jwks_uri"])).json)
    form = {
        "grant_type": "client_credentials",
        "client_id": env["PROVIDER_ADMIN_CLIENT_ID"],
        "client_secret": env["PROVIDER_ADMIN_CLIENT_SECRET"],
        "scope": "https://vault.azure.net/.default",
    }
    token = (await wire("POST", configuration["token_endpoint"], form=form)).json["access_token"]
    kid = jwt.get_unverified_header(token)["kid"]
    assert jwt.decode(token, keys[kid], algorithms=["RS256"], audience="https://vault.azure.net")


async def _application(provider: ProviderAdministrator, **fields: Any) -> dict[str, Any]:
    application = await provider.graph.json("POST", "/applications", {"displayName": "robot", **fields})
    await provider.graph.json("POST", "/servicePrincipals", {"appId": application["appId"]})
    return application


async def test_a_registered_certificate_gets_a_token_and_another_is_refused(
    provider: ProviderAdministrator, env: Mapping[str, str]
) -> None:
    good, other = Made(rsa_key(1)), Made(rsa_key(2))
    credential = {"type": "AsymmetricX509Cert", "usage": "Verify", "key": b64encode(good.der).decode()}
    application = await _application(provider, keyCredentials=[credential])
    tenant, app_id = env["PROVIDER_TENANT_ID"], application["appId"]
    async with CertificateCredential(tenant, app_id, certificate_data=good.pem, **connection(env)) as known:
        assert (await known.get_token(ARM)).token
    async with CertificateCredential(tenant, app_id, certificate_data=other.pem, **connection(env)) as bad:
        with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
            await bad.get_token(ARM)


async def test_a_certificate_assertion_signed_by_another_key_is_refused_with_700027(
    provider: ProviderAdministrator, wire: Wire, env: Mapping[str, str]
) -> None:
    certificate = Made(rsa_key(1)).certificate
    der = certificate.public_bytes(serialization.Encoding.DER)
    credential = {"type": "AsymmetricX509Cert", "usage": "Verify", "key": b64encode(der).decode()}
    application = await _application(provider, keyCredentials=[credential])
    url = f"https://login.microsoftonline.com/{env['PROVIDER_TENANT_ID']}/oauth2/v2.0/token"
    now = int(time.time())
    claims = {"iss": application["appId"], "sub": application["appId"], "aud": url, "exp": now + 600, "nbf": now, "jti": "1"}
    thumbprint = urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).decode()
    assertion = jwt.encode(claims, rsa_key(2), algorithm="PS256", headers={"x5t#S256": thumbprint})
    form = {
        "grant_type": "client_credentials",
        "client_id": application["appId"],
        "scope": ARM,
        "client_assertion": assertion,
        "client_assertion_type": ASSERTION,
    }
    reply = await wire("POST", url, form=form)
    assert (reply.status, reply.json["error_codes"]) == (401, [700027])


async def test_a_disabled_application_is_refused_with_7000112(
    customer: CustomerAdministrator, provider: ProviderAdministrator, env: Mapping[str, str], control: SandboxControl
) -> None:
    application = await _application(provider, signInAudience="AzureADMultipleOrgs")
    secret = (await provider.graph.json("POST", f"/applications/{application['id']}/addPassword", {}))["secretText"]
    await customer.consent(application["appId"])
    await control.advance(2)
    async with ClientSecretCredential(env["CUSTOMER_TENANT_ID"], application["appId"], secret, **connection(env)) as credential:
        assert (await credential.get_token("https://vault.azure.net/.default")).token
    await customer.set_application_enabled(application["appId"], enabled=False)
    async with ClientSecretCredential(env["CUSTOMER_TENANT_ID"], application["appId"], secret, **connection(env)) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS7000112"):
            await credential.get_token("https://vault.azure.net/.default")


async def test_an_expired_secret_is_refused_with_7000222(provider: ProviderAdministrator, env: Mapping[str, str]) -> None:
    application = await _application(provider)
    body = {"passwordCredential": {"endDateTime": "2020-01-01T00:00:00Z"}}
    secret = (await provider.graph.json("POST", f"/applications/{application['id']}/addPassword", body))["secretText"]
    async with ClientSecretCredential(env["PROVIDER_TENANT_ID"], application["appId"], secret, **connection(env)) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS7000222"):
            await credential.get_token(ARM)


async def test_a_certificate_that_has_ended_or_was_deleted_is_refused_with_700027(
    customer: CustomerAdministrator, env: Mapping[str, str]
) -> None:
    now = datetime.now(UTC)
    good, ended = Made(rsa_key(1)), Made(rsa_key(2), now - timedelta(days=9), now - timedelta(days=1))
    registration = await customer.register("of the customer", good.der, ended.der)

    async def signed_in(made: Made) -> str:
        credential = CertificateCredential(
            customer.tenant_id, registration.client_id, certificate_data=made.pem, **connection(env)
        )
        async with credential:
            return (await credential.get_token("https://vault.azure.net/.default")).token

    assert await signed_in(good)
    with pytest.raises(ClientAuthenticationError, match=r"AADSTS700027.*The key used is expired"):
        await signed_in(ended)
    await customer.set_certificates(registration)
    with pytest.raises(ClientAuthenticationError, match=r"AADSTS700027.*The key was not found"):
        await signed_in(good)


async def test_a_deleted_secret_is_refused_with_7000215_and_the_other_goes_on(
    customer: CustomerAdministrator, env: Mapping[str, str]
) -> None:
    registration = await customer.register("of the customer")
    first, old = await customer.add_secret(registration)
    _, new = await customer.add_secret(registration)
    await customer.remove_secret(registration, first)
    tenant, client = customer.tenant_id, registration.client_id
    async with ClientSecretCredential(tenant, client, old, **connection(env)) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
            await credential.get_token(ARM)
    async with ClientSecretCredential(tenant, client, new, **connection(env)) as credential:
        assert (await credential.get_token(ARM)).token


async def test_a_deleted_application_is_not_found_anywhere(
    customer: CustomerAdministrator, provider: ProviderAdministrator, env: Mapping[str, str], control: SandboxControl
) -> None:
    application = await _application(provider, signInAudience="AzureADMultipleOrgs")
    secret = (await provider.graph.json("POST", f"/applications/{application['id']}/addPassword", {}))["secretText"]
    await customer.consent(application["appId"])
    await control.advance(2)
    await provider.graph.json("DELETE", f"/applications/{application['id']}")
    for side in ("PROVIDER", "CUSTOMER"):
        async with ClientSecretCredential(
            env[f"{side}_TENANT_ID"], application["appId"], secret, **connection(env)
        ) as credential:
            with pytest.raises(ClientAuthenticationError, match="AADSTS700016"):
                await credential.get_token("https://vault.azure.net/.default")
