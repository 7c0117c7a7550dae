"""Graph and consent: who may read and write the directory, and what it refuses."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity.aio import ClientAssertionCredential, ClientSecretCredential

from sandbox.administrators.rest import GRAPH, AzureRest, connection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.conftest import Wire
    from tests.sandbox.issuer import Issuer

GRAPH_SCOPE = "https://graph.microsoft.com/.default"
AUDIENCE = "api://AzureADTokenExchange"


@pytest.fixture
async def application(provider: ProviderAdministrator) -> dict[str, Any]:
    return await provider.graph.json("POST", "/applications", {"displayName": "of one test"})


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "ab"}, 400, "Request_BadRequest"),
        ({"name": "with space"}, 400, "Request_BadRequest"),
        ({"name": "a" * 121}, 400, "Request_BadRequest"),
        ({"audiences": []}, 400, "Request_BadRequest"),
        ({"audiences": [AUDIENCE, "second"]}, 400, "Request_BadRequest"),
        ({"issuer": "http://plain.example"}, 400, "Request_BadRequest"),
        ({"subject": "system:serviceaccount:*"}, 400, "Request_BadRequest"),
        ({"claims": "unknown"}, 400, "Request_BadRequest"),
        (
            {"claimsMatchingExpression": {"value": "claims['sub'] matches 'a:*'", "languageVersion": 1}},
            400,
            "Request_BadRequest",
        ),
        ({"subject": 5}, 400, "BadRequest"),
        ({"audiences": AUDIENCE}, 400, "BadRequest"),
        ({"audiences": [5]}, 400, "BadRequest"),
        ({"audiences": [""]}, 400, "Request_BadRequest"),
        ({"subject": "s" * 601}, 400, "Request_BadRequest"),
        ({"issuer": None}, 400, "BadRequest"),
        ({"name": "first"}, 409, "Request_MultipleObjectsWithSameKeyValue"),
        ({"subject": "a:b"}, 400, "InvalidFederatedIdentityCredentialValue"),
    ],
)
async def test_a_wrong_federated_credential_is_refused(
    provider: ProviderAdministrator, application: dict[str, Any], body: dict[str, Any], status: int, code: str
) -> None:
    path = f"/applications/{application['id']}/federatedIdentityCredentials"
    good = {"name": "first", "issuer": "https://issuer.example", "subject": "a:b", "audiences": [AUDIENCE]}
    await provider.graph.json("POST", path, good)
    with pytest.raises(HttpResponseError) as refusal:
        await provider.graph.json("POST", path, good | {"name": "second", "subject": "c:d"} | body)
    assert refusal.value.status_code == status
    assert refusal.value.error is not None
    assert refusal.value.error.code == code


async def test_an_application_takes_twenty_federated_credentials_and_no_more(
    provider: ProviderAdministrator, application: dict[str, Any]
) -> None:
    path = f"/applications/{application['id']}/federatedIdentityCredentials"
    for number in range(20):
        body = {
            "name": f"number-{number}",
            "issuer": "https://issuer.example",
            "subject": f"s{number}",
            "audiences": [AUDIENCE],
        }
        await provider.graph.json("POST", path, body)
    body = {"name": "number-20", "issuer": "https://issuer.example", "subject": "s20", "audiences": [AUDIENCE]}
    with pytest.raises(HttpResponseError, match="Too many Federated Identity Credentials"):
        await provider.graph.json("POST", path, body)


async def test_the_managed_identity_may_read_applications_and_nothing_else(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer
) -> None:
    credential = ClientAssertionCredential(
        env["PROVIDER_TENANT_ID"], identity.managed_identity_client_id, issuer.token, **connection(env)
    )
    async with credential, AzureRest(credential, GRAPH, GRAPH_SCOPE, env) as graph:
        found = await graph.json("GET", f"/applications(appId='{identity.application_client_id}')")
        assert found["displayName"] == identity.application_name
        with pytest.raises(HttpResponseError) as refusal:
            await graph.json("POST", "/applications", {"displayName": "mine"})
    assert refusal.value.status_code == 403
    assert refusal.value.error is not None
    assert refusal.value.error.code == "Authorization_RequestDenied"


async def test_an_application_without_an_app_role_may_not_even_read(
    env: Mapping[str, str], provider: ProviderAdministrator, application: dict[str, Any]
) -> None:
    await provider.graph.json("POST", "/servicePrincipals", {"appId": application["appId"]})
    secret = (await provider.graph.json("POST", f"/applications/{application['id']}/addPassword", {}))["secretText"]
    credential = ClientSecretCredential(env["PROVIDER_TENANT_ID"], application["appId"], secret, **connection(env))
    async with credential, AzureRest(credential, GRAPH, GRAPH_SCOPE, env) as graph:
        with pytest.raises(HttpResponseError, match="Insufficient privileges"):
            await graph.json("GET", "/applications")


async def test_a_single_tenant_application_cannot_be_consented_to_elsewhere(
    customer: CustomerAdministrator, application: dict[str, Any]
) -> None:
    with pytest.raises(HttpResponseError, match="does not reference a valid application object"):
        await customer.consent(application["appId"])


async def test_unknown_things_are_refused_as_graph_does(provider: ProviderAdministrator) -> None:
    for method, path, body, code in (
        ("GET", f"/applications/{uuid.uuid4()}", None, "Request_ResourceNotFound"),
        ("GET", "/applications?$filter=displayName ne 'x'", None, "Request_UnsupportedQuery"),
        ("POST", "/applications", {"displayName": "x", "colour": "red"}, "Request_BadRequest"),
        ("POST", "/applications", {"displayName": "x", "signInAudience": "Everyone"}, "Request_BadRequest"),
        ("GET", "/devices", None, "BadRequest"),
    ):
        with pytest.raises(HttpResponseError) as refusal:
            await provider.graph.json(method, path, body)
        assert refusal.value.error is not None
        assert refusal.value.error.code == code, path


async def test_the_consent_page_creates_the_service_principal_for_the_tenants_administrator_only(
    wire: Wire,
    env: Mapping[str, str],
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    name: Callable[[str], str],
) -> None:
    body = {"displayName": name("app"), "signInAudience": "AzureADMultipleOrgs"}
    app_id = (await provider.graph.json("POST", "/applications", body))["appId"]
    url = f"https://login.microsoftonline.com/{env['CUSTOMER_TENANT_ID']}/adminconsent?client_id={app_id}&state=7"
    tokens = {}
    for side in ("PROVIDER", "CUSTOMER"):
        credential = ClientSecretCredential(
            env[f"{side}_TENANT_ID"], env[f"{side}_ADMIN_CLIENT_ID"], env[f"{side}_ADMIN_CLIENT_SECRET"], **connection(env)
        )
        async with credential:
            tokens[side] = (await credential.get_token(GRAPH_SCOPE)).token
    assert (await wire("GET", url)).json["error_codes"] == [50058]
    assert (await wire("GET", url, token=tokens["PROVIDER"])).json["error_codes"] == [90094]
    unknown = await wire("GET", f"{url}&redirect_uri=https://vendor.example/done", token=tokens["CUSTOMER"])
    assert (unknown.status, unknown.json["error_codes"]) == (400, [50011])
    with pytest.raises(ResourceNotFoundError):
        await customer.principal_id(app_id)
    page = await wire("GET", url, token=tokens["CUSTOMER"])
    assert page.status == 200
    assert "AADSTS500113" in page.text, "an application without a reply address"
    assert await customer.principal_id(app_id), "and yet the consent stands"
    web = {"web": {"redirectUris": ["https://vendor.example/done"]}}
    await provider.graph.send("PATCH", f"/applications(appId='{app_id}')", web)
    for one in (url, f"{url}&redirect_uri=https://vendor.example/done"):
        redirected = await wire("GET", one, token=tokens["CUSTOMER"])
        assert redirected.status == 302
        assert redirected.headers["Location"].startswith("https://vendor.example/done?admin_consent=True&tenant=")


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"accountEnabled": False}, False),
        ({"accountEnabled": "no"}, True),
        ({"accountEnabled": 0}, True),
        ({"accountEnabled": None}, True),
        ({"appRoleAssignmentRequired": "yes"}, True),
        ({"tags": "one"}, True),
        ({"tags": ["one"]}, False),
    ],
    ids=str,
)
async def test_a_property_takes_values_of_its_own_type_only(
    provider: ProviderAdministrator,
    application: dict[str, Any],
    body: dict[str, Any],
    refused: bool,  # noqa: FBT001
) -> None:
    made = await provider.graph.json("POST", "/servicePrincipals", {"appId": application["appId"]})
    path = f"/servicePrincipals/{made['id']}"
    if not refused:
        await provider.graph.send("PATCH", path, body)
        return
    with pytest.raises(HttpResponseError, match="Cannot convert the literal") as refusal:
        await provider.graph.send("PATCH", path, body)
    assert refusal.value.status_code == 400
    assert (await provider.graph.json("GET", path))["accountEnabled"] is True


@pytest.mark.parametrize(
    ("credential", "refused"),
    [
        ({}, False),
        ({"displayName": "ci", "endDateTime": "2030-01-01T00:00:00Z"}, False),
        ({"displayName": 5}, True),
        ({"endDateTime": 1893456000}, True),
        ({"endDateTime": "soon"}, True),
        ({"secretText": "chosen"}, True),
        ("ci", True),
    ],
    ids=str,
)
async def test_a_new_secret_is_described_by_name_and_times_only(
    provider: ProviderAdministrator,
    application: dict[str, Any],
    credential: object,
    refused: bool,  # noqa: FBT001 - a column of the table
) -> None:
    path = f"/applications/{application['id']}/addPassword"
    if not refused:
        assert (await provider.graph.json("POST", path, {"passwordCredential": credential}))["secretText"]
        return
    with pytest.raises(HttpResponseError) as refusal:
        await provider.graph.json("POST", path, {"passwordCredential": credential})
    assert refusal.value.status_code == 400


async def test_reply_addresses_are_a_list(provider: ProviderAdministrator, application: dict[str, Any]) -> None:
    path = f"/applications/{application['id']}"
    with pytest.raises(HttpResponseError, match="Cannot convert the literal"):
        await provider.graph.send("PATCH", path, {"web": {"redirectUris": "https://vendor.example"}})
    await provider.graph.send("PATCH", path, {"web": {"redirectUris": ["https://vendor.example"], "homePageUrl": None}})


async def test_lists_come_in_pages_of_uneven_size_and_some_are_empty(
    provider: ProviderAdministrator, application: dict[str, Any], control: SandboxControl
) -> None:
    path = f"/applications/{application['id']}/federatedIdentityCredentials"
    for number in range(5):
        body = {"name": f"n-{number}", "issuer": "https://issuer.example", "subject": f"s{number}", "audiences": [AUDIENCE]}
        await provider.graph.json("POST", path, body)
    await control.set_timings(graph_page_size=2)
    url, sizes, names = path, [], []
    while url:
        page = await provider.graph.json("GET", url)
        sizes.append(len(page["value"]))
        names += [one["name"] for one in page["value"]]
        url = page.get("@odata.nextLink", "")
    assert (sizes, names) == ([2, 0, 1, 2], [f"n-{number}" for number in range(5)])
    assert len((await provider.graph.json("GET", f"{path}?$top=5"))["value"]) == 5
    for top in ("0", "1000", "many"):
        with pytest.raises(HttpResponseError, match="Invalid page size"):
            await provider.graph.json("GET", f"{path}?$top={top}")
