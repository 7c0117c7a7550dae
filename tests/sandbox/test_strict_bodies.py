"""Storage, SQL and Compute take no JSON type for another, no administrator that Azure refuses, and do not say when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from azure.identity.aio import ClientSecretCredential

from sandbox.administrators.rest import ARM, connection
from sandbox.administrators.sql import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.administrators import ProviderAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.conftest import Wire

NOBODY = "00000000-0000-0000-0000-00000000a000"
DISK = {"creationData": {"createOption": "Empty"}, "diskSizeGB": 4}


@pytest.fixture
async def token(env: Mapping[str, str], identity: ProviderIdentity) -> str:
    credential = ClientSecretCredential(
        env["PROVIDER_TENANT_ID"], env["PROVIDER_ADMIN_CLIENT_ID"], env["PROVIDER_ADMIN_CLIENT_SECRET"], **connection(env)
    )
    async with credential:
        return (await credential.get_token(f"{ARM}/.default")).token


def account(**properties: object) -> dict[str, Any]:
    return {"location": "westeurope", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "properties": properties}


def server(**properties: object) -> dict[str, Any]:
    login = {"administratorLogin": "contoso", "administratorLoginPassword": PASSWORD}
    return {"location": "westeurope", "properties": {**login, **properties}}


ANOTHER_TYPE: dict[str, tuple[str, dict[str, Any]]] = {
    "a word for a boolean": ("Microsoft.Storage/storageAccounts", account(supportsHttpsTrafficOnly="yes")),
    "the text of a boolean": ("Microsoft.Storage/storageAccounts", account(allowSharedKeyAccess="true")),
    "a number for a boolean": (
        "Microsoft.Storage/storageAccounts",
        account(encryption={"services": {"blob": {"enabled": 1}}, "keySource": "Microsoft.Storage"}),
    ),
    "a boolean for a text": ("Microsoft.Storage/storageAccounts", {**account(), "tags": {"a": True}}),
    "an object for a list": ("Microsoft.Storage/storageAccounts", {**account(), "zones": {}}),
    "a list for an object": ("Microsoft.Storage/storageAccounts", {**account(), "properties": []}),
    "a text for a number": ("Microsoft.Compute/disks", {"location": "westeurope", "properties": {**DISK, "diskSizeGB": "4"}}),
    "a fraction for a number": (
        "Microsoft.Compute/disks",
        {"location": "westeurope", "properties": {**DISK, "diskSizeGB": 4.5}},
    ),
    "a boolean for a number": (
        "Microsoft.Compute/disks",
        {"location": "westeurope", "properties": {**DISK, "maxShares": True}},
    ),
    "a number for a text": ("Microsoft.Sql/servers", server(federatedClientId=7)),
    "a text for an object": ("Microsoft.Sql/servers", server(administrators="contoso")),
    "the text of a boolean, deep": ("Microsoft.Sql/servers", server(administrators={"azureADOnlyAuthentication": "true"})),
}
VERSIONS = {
    "Microsoft.Storage/storageAccounts": "2026-09-01",
    "Microsoft.Sql/servers": "2025-01-01",
    "Microsoft.Compute/disks": "2026-03-02",
}


@pytest.mark.parametrize("case", ANOTHER_TYPE)
async def test_no_json_type_stands_for_another(
    wire: Wire, token: str, provider: ProviderAdministrator, name: Callable[[str], str], case: str
) -> None:
    kind, body = ANOTHER_TYPE[case]
    group = await provider.create_resource_group("rg-contoso")
    url = f"{ARM}{group}/providers/{kind}/{name('typed')}?api-version={VERSIONS[kind]}"
    refused = await wire("PUT", url, token=token, body=body)
    assert (refused.status, refused.code) == (400, "InvalidRequestContent")
    assert "could not be deserialized: 'Error converting value" in refused.json["error"]["message"]
    assert (await wire("GET", url, token=token)).status == 404


async def test_the_right_types_are_taken(
    wire: Wire, token: str, provider: ProviderAdministrator, name: Callable[[str], str]
) -> None:
    group = await provider.create_resource_group("rg-contoso")
    for kind, body in {
        "Microsoft.Storage/storageAccounts": {**account(supportsHttpsTrafficOnly=True), "tags": {"a": "true"}, "zones": ["1"]},
        "Microsoft.Compute/disks": {"location": "westeurope", "properties": {**DISK, "maxShares": 1}},
    }.items():
        url = f"{ARM}{group}/providers/{kind}/{name('typed')}?api-version={VERSIONS[kind]}"
        assert (await wire("PUT", url, token=token, body=body)).status in {200, 202}


ENTRA = {"administratorType": "ActiveDirectory", "principalType": "Group", "login": "admins", "sid": NOBODY}
ADMINISTRATORS_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "short": ({"administratorLoginPassword": "Aa1-567"}, "PasswordTooShort"),
    "long": ({"administratorLoginPassword": "Aa1-" * 33}, "PasswordTooLong"),
    "two kinds of characters": ({"administratorLoginPassword": "abcdefgh12345"}, "PasswordNotComplex"),
    "the login in it": ({"administratorLoginPassword": "My-Contoso-2026"}, "PasswordNotComplex"),
    "a part of the login in it": ({"administratorLoginPassword": "My-TOS-Server-2026"}, "PasswordNotComplex"),
    "no password": ({"administratorLoginPassword": None}, "PasswordTooShort"),
    "no login": ({"administratorLogin": None}, "InvalidLoginName"),
    "a reserved login": ({"administratorLogin": "Admin"}, "InvalidLoginName"),
    "a login of a role": ({"administratorLogin": "dbo"}, "InvalidLoginName"),
    "a login that begins with a digit": ({"administratorLogin": "1contoso"}, "InvalidLoginName"),
    "a login with a space": ({"administratorLogin": "con toso"}, "InvalidLoginName"),
    "no id in the directory": ({"administrators": {**ENTRA, "sid": "admins"}}, "InvalidParameterValue"),
    "no name in the directory": ({"administrators": {**ENTRA, "login": ""}}, "InvalidParameterValue"),
    "Entra without the word only": (
        {"administrators": ENTRA, "administratorLogin": None, "administratorLoginPassword": None},
        "InvalidLoginName",
    ),
    "of no directory": ({"administrators": {**ENTRA, "administratorType": "LDAP"}}, "InvalidRequestContent"),
}


@pytest.mark.parametrize("case", ADMINISTRATORS_REFUSED)
async def test_a_server_needs_an_administrator_that_azure_takes(
    wire: Wire, token: str, provider: ProviderAdministrator, name: Callable[[str], str], case: str
) -> None:
    properties, code = ADMINISTRATORS_REFUSED[case]
    await provider.create_resource_group("rg-contoso")
    url = f"{ARM}{provider.sql.server_id(name('strict-sql'))}?api-version=2025-01-01"
    refused = await wire("PUT", url, token=token, body=server(**properties))
    assert (refused.status, refused.code) == (400, code)
    assert str(properties.get("administratorLoginPassword") or "never") not in refused.text


@pytest.mark.parametrize("wrong", ["-contoso", "contoso-", "Contoso", "contoso_sql", "c" * 64])
async def test_a_server_has_a_name_of_lower_case_letters_digits_and_hyphens(
    wire: Wire, token: str, provider: ProviderAdministrator, wrong: str
) -> None:
    await provider.create_resource_group("rg-contoso")
    refused = await wire("PUT", f"{ARM}{provider.sql.server_id(wrong)}?api-version=2025-01-01", token=token, body=server())
    assert (refused.status, refused.code) == (400, "InvalidServerName")


async def test_a_server_that_only_entra_administers_has_no_password_and_one_with_a_login_keeps_it(
    wire: Wire, token: str, provider: ProviderAdministrator, name: Callable[[str], str]
) -> None:
    await provider.create_resource_group("rg-contoso")
    entra = {**ENTRA, "azureADOnlyAuthentication": True, "tenantId": NOBODY}
    only = await provider.sql.put(
        provider.sql.server_id(name("entra-sql")), {"location": "westeurope", "properties": {"administrators": entra}}
    )
    assert only["properties"]["administrators"] == entra
    assert only["properties"]["administratorLogin"].startswith("CloudSA")
    both = await provider.sql.create_server(name("both-sql"), administrators={})
    assert "administrators" not in (await provider.sql.get(both))["properties"], "the az CLI sends an empty object"
    url = f"{ARM}{both}?api-version=2025-01-01"
    for properties, code in (
        ({"administratorLogin": "other"}, "InvalidParameterValue"),
        ({"administratorLoginPassword": "contoso-2026-Aa"}, "PasswordNotComplex"),
    ):
        refused = await wire("PATCH", url, token=token, body={"properties": properties})
        assert (refused.status, refused.code) == (400, code)
    await provider.sql.patch(both, {"properties": {"administratorLoginPassword": f"{PASSWORD}-2"}})
    assert PASSWORD not in str(await provider.sql.get(both))


async def test_an_operation_asks_for_a_call_before_its_end_and_never_says_when_that_is(
    wire: Wire, token: str, provider: ProviderAdministrator, control: SandboxControl, name: Callable[[str], str]
) -> None:
    await provider.create_resource_group("rg-contoso")
    await control.set_timings(sql_operation_seconds=20)
    url = f"{ARM}{provider.sql.server_id(name('slow-sql'))}?api-version=2025-01-01"
    started = await wire("PUT", url, token=token, body=server())
    headers = {key.lower(): value for key, value in started.headers.items()}
    assert (started.status, 0 < int(headers["retry-after"]) < 15) == (202, True)
    await control.advance(int(headers["retry-after"]))
    status = await wire("GET", headers["azure-asyncoperation"], token=token)
    assert (status.json["status"], int(status.headers["Retry-After"]) >= 1) == ("InProgress", True)
    await control.advance(20)
    assert (await wire("GET", headers["azure-asyncoperation"], token=token)).json["status"] == "Succeeded"


@pytest.mark.parametrize("version", ["2020-11-01-preview", "2021-02-01-preview", "2021-05-01-preview", "2022-08-01-preview"])
async def test_the_versions_of_older_clients_are_served(
    wire: Wire, token: str, provider: ProviderAdministrator, name: Callable[[str], str], version: str
) -> None:
    server_id = await provider.sql.create_server(name("older-sql"))
    for path in ("", "/keys", "/encryptionProtector", "/encryptionProtector/current", "/databases", "/failoverGroups"):
        assert (await wire("GET", f"{ARM}{server_id}{path}?api-version={version}", token=token)).status == 200
    refused = await wire("GET", f"{ARM}{server_id}?api-version=2020-11-02-preview", token=token)
    assert (refused.status, refused.code) == (400, "NoRegisteredProviderFound")


TOO_NEW: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "the application of an account's key": (
        "Microsoft.Storage/storageAccounts",
        "2021-06-01",
        "2021-08-01",
        account(encryption={"keySource": "Microsoft.Storage", "identity": {"federatedIdentityClientId": NOBODY}}),
    ),
    "the application of a server": (
        "Microsoft.Sql/servers",
        "2020-11-01-preview",
        "2021-02-01-preview",
        server(federatedClientId=NOBODY),
    ),
    "the application of a set": (
        "Microsoft.Compute/diskEncryptionSets",
        "2021-08-01",
        "2021-12-01",
        {"location": "westeurope", "properties": {"federatedClientId": NOBODY}},
    ),
    "a set that follows its key": (
        "Microsoft.Compute/diskEncryptionSets",
        "2020-09-30",
        "2020-12-01",
        {"location": "westeurope", "properties": {"rotationToLatestKeyVersionEnabled": True}},
    ),
}


@pytest.mark.parametrize("case", TOO_NEW)
async def test_an_api_version_knows_no_field_that_came_after_it(
    wire: Wire, token: str, provider: ProviderAdministrator, name: Callable[[str], str], case: str
) -> None:
    kind, before, since, body = TOO_NEW[case]
    group = await provider.create_resource_group("rg-contoso")
    url = f"{ARM}{group}/providers/{kind}/{name('versioned')}?api-version="
    refused = await wire("PUT", url + before, token=token, body=body)
    assert (refused.status, refused.code) == (400, "InvalidRequestContent")
    assert "Could not find member" in refused.json["error"]["message"]
    known = await wire("PUT", url + since, token=token, body=body)
    assert "Could not find member" not in known.text
