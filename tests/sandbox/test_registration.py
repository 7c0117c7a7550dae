"""Registering applications over Graph: who may write what, alternate keys, and writes that meet each other."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity.aio import ClientAssertionCredential

from sandbox.administrators.rest import GRAPH, AzureRest, connection
from tests.sandbox.issuer import SERVICE_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from sandbox.administrators import ProviderAdministrator, ProviderIdentity, Registrar
    from tests.sandbox.conftest import Wire
    from tests.sandbox.issuer import Issuer

GRAPH_SCOPE = "https://graph.microsoft.com/.default"
MULTITENANT = {"displayName": "Contoso CMK", "signInAudience": "AzureADMultipleOrgs"}


def credential(subject: str) -> dict[str, Any]:
    return {"issuer": "https://issuer.example", "subject": subject, "audiences": ["api://AzureADTokenExchange"]}


@pytest.fixture
async def registrar(provider: ProviderAdministrator, issuer: Issuer) -> Registrar:
    group = "rg-registration"  # another than that of the documented commands, which are run on the same simulated Azure
    return await provider.prepare_registrar(issuer=issuer.url, service_account=SERVICE_ACCOUNT, resource_group=group)


@asynccontextmanager
async def token_of(env: Mapping[str, str], client_id: str, issuer: Issuer) -> AsyncIterator[str]:
    assertion = ClientAssertionCredential(env["PROVIDER_TENANT_ID"], client_id, issuer.token, **connection(env))
    async with assertion:
        yield (await assertion.get_token(GRAPH_SCOPE)).token


@pytest.fixture
async def token(env: Mapping[str, str], registrar: Registrar, issuer: Issuer, provider: ProviderAdministrator) -> str:
    from sandbox.administrators import SandboxControl  # noqa: PLC0415 - the fixture of that name puts timings back, this needs none

    async with SandboxControl(env["SANDBOX_CONTROL"]) as control:
        await control.advance(10)
    async with token_of(env, registrar.client_id, issuer) as issued:
        return issued


async def test_an_owner_creates_once_by_unique_name_and_a_repetition_only_updates(
    wire: Wire, token: str, name: Callable[[str], str]
) -> None:
    url = f"{GRAPH}/applications(uniqueName='{name('app')}')"
    assert (await wire("GET", url, token=token)).code == "Request_ResourceNotFound"
    assert (await wire("PATCH", url, token=token, body=MULTITENANT)).status == 404
    created = await wire("PATCH", url, token=token, body=MULTITENANT, headers={"Prefer": "create-if-missing"})
    assert (created.status, created.json["signInAudience"]) == (201, "AzureADMultipleOrgs")
    again = await wire("PATCH", url, token=token, body={"displayName": "Other"}, headers={"Prefer": "create-if-missing"})
    assert (again.status, again.text) == (204, "")
    shown = (await wire("GET", url, token=token)).json
    assert (shown["appId"], shown["displayName"]) == (created.json["appId"], "Other")


async def test_an_owner_reads_all_applications_and_writes_only_its_own(
    wire: Wire, token: str, provider: ProviderAdministrator, registrar: Registrar
) -> None:
    other = await provider.graph.json("POST", "/applications", {"displayName": "of somebody else"})
    one = f"{GRAPH}/applications/{other['id']}"
    assert (await wire("GET", one, token=token)).status == 200
    for method, url, body in (
        ("PATCH", one, {"displayName": "mine"}),
        ("DELETE", one, None),
        ("POST", f"{one}/federatedIdentityCredentials", {"name": "one", **credential("a")}),
        ("POST", f"{GRAPH}/servicePrincipals", {"appId": other["appId"]}),
    ):
        refused = await wire(method, url, token=token, body=body)
        assert (refused.status, refused.code) == (403, "Authorization_RequestDenied"), url
    reference = {"@odata.id": f"{GRAPH}/directoryObjects/{registrar.principal_id}"}
    await provider.graph.json("POST", f"/applications/{other['id']}/owners/$ref", reference)
    assert (await wire("PATCH", one, token=token, body={"displayName": "mine"})).status == 204
    owned = await wire("GET", f"{GRAPH}/servicePrincipals(appId='{registrar.client_id}')/ownedObjects", token=token)
    assert other["id"] in {entry["id"] for entry in owned.json["value"]}


async def test_a_reader_creates_nothing(
    wire: Wire, env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer, name: Callable[[str], str]
) -> None:
    async with token_of(env, identity.managed_identity_client_id, issuer) as reader:
        url = f"{GRAPH}/applications(uniqueName='{name('app')}')"
        refused = await wire("PATCH", url, token=reader, body=MULTITENANT, headers={"Prefer": "create-if-missing"})
    assert (refused.status, refused.code) == (403, "Authorization_RequestDenied")


async def test_a_unique_name_is_given_once_and_a_deleted_application_keeps_it(
    wire: Wire, token: str, name: Callable[[str], str]
) -> None:
    unique_name = name("app")
    made = (await wire("POST", f"{GRAPH}/applications", token=token, body=MULTITENANT)).json
    one = f"{GRAPH}/applications/{made['id']}"
    assert (await wire("PATCH", one, token=token, body={"uniqueName": unique_name})).status == 204
    assert (await wire("PATCH", one, token=token, body={"uniqueName": "other"})).code == "Request_BadRequest"
    assert (await wire("DELETE", one, token=token)).status == 204
    url = f"{GRAPH}/applications(uniqueName='{unique_name}')"
    taken = await wire("PATCH", url, token=token, body=MULTITENANT, headers={"Prefer": "create-if-missing"})
    assert taken.code == "Request_BadRequest"
    assert "uniqueName already exists" in taken.json["error"]["message"]
    assert (await wire("POST", f"{GRAPH}/directory/deletedItems/{made['id']}/restore", token=token)).status == 200
    assert (await wire("GET", url, token=token)).json["appId"] == made["appId"]


async def test_credentials_are_written_by_name_and_one_after_the_other(wire: Wire, token: str) -> None:
    made = (await wire("POST", f"{GRAPH}/applications", token=token, body=MULTITENANT)).json
    path = f"{GRAPH}/applications/{made['id']}/federatedIdentityCredentials"
    prefer = {"Prefer": "create-if-missing"}
    answers = await asyncio.gather(
        *(wire("PATCH", f"{path}(name='one-{n}')", token=token, body=credential(str(n)), headers=prefer) for n in range(6))
    )
    # On a slow machine one request may arrive when another is over; those that meet are refused, and what is refused is not there.
    assert {answer.status for answer in answers} == {201, 409}
    assert {answer.code for answer in answers if answer.status == 409} == {"Directory_ConcurrencyViolation"}
    made = [number for number, answer in enumerate(answers) if answer.status == 201]
    kept = (await wire("GET", path, token=token)).json["value"]
    assert sorted(entry["subject"] for entry in kept) == [str(number) for number in made]
    written, *others = made
    for other in others:
        assert (await wire("DELETE", f"{path}/one-{other}", token=token)).status == 204
    again = await wire("PATCH", f"{path}(name='one-{written}')", token=token, body=credential("x"), headers=prefer)
    assert again.status == 204
    assert [entry["subject"] for entry in (await wire("GET", path, token=token)).json["value"]] == ["x"]
    assert (await wire("PATCH", f"{path}(name='unknown')", token=token, body=credential("y"))).status == 404


async def test_a_withdrawn_permission_is_missing_in_the_next_token(
    wire: Wire, env: Mapping[str, str], token: str, provider: ProviderAdministrator, registrar: Registrar, issuer: Issuer
) -> None:
    await provider.withdraw_graph_role(registrar.principal_id, "Application.ReadWrite.OwnedBy")
    assert (await wire("GET", f"{GRAPH}/applications", token=token)).status == 200
    async with token_of(env, registrar.client_id, issuer) as issued:
        assert (await wire("GET", f"{GRAPH}/applications", token=issued)).status == 403


async def test_the_registrar_makes_managed_identities_in_its_group_only(
    env: Mapping[str, str], token: str, registrar: Registrar, identity: ProviderIdentity, issuer: Issuer
) -> None:
    assertion = ClientAssertionCredential(env["PROVIDER_TENANT_ID"], registrar.client_id, issuer.token, **connection(env))
    arm = "https://management.azure.com"
    async with assertion, AzureRest(assertion, arm, f"{arm}/.default", env) as client:
        path = "providers/Microsoft.ManagedIdentity/userAssignedIdentities"
        query, body = "?api-version=2024-11-30", {"location": "westeurope"}
        made = await client.json("PUT", f"{registrar.resource_group_id}/{path}/made{query}", body)
        assert made["properties"]["clientId"]
        with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
            await client.json("PATCH", f"{identity.managed_identity_resource_id}{query}", {"tags": {}})
