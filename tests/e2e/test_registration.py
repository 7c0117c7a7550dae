"""The operator registers its own identity: from nothing, over crashes, and beside what others made."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.administrators import ProviderAdministrator, Registrar, SandboxControl
from sandbox.administrators.provider import AUDIENCE, IDENTITIES
from sandbox.kubernetes.objects import condition, has

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.administrators import ProviderIdentity
    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

MINUTES = 5 * 60
OWNED_BY = "Application.ReadWrite.OwnedBy"
SERVICE_ACCOUNT = "system:serviceaccount:cmk-operator-system:cmk-operator"


@pytest.fixture(scope="module")
def registrar(azure: AzureProcess, empty_cluster: Cluster, identity: ProviderIdentity) -> Registrar:
    async def prepared() -> Registrar:
        async with SandboxControl(azure.env["SANDBOX_CONTROL"]) as control, ProviderAdministrator(azure.env) as provider:
            made = await provider.prepare_registrar(issuer=empty_cluster.issuer)
            await control.advance(MINUTES)
            return made

    return asyncio.run(prepared())


def name_of(environment: Environment) -> str:
    """The application's display name, which no other test uses."""
    return f"CMK of {environment.name}"


def identity_id(environment: Environment, registrar: Registrar) -> str:
    return f"{registrar.resource_group_id}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{environment.name}"


async def apply(environment: Environment, registrar: Registrar, **spec: Any) -> None:
    """A FederatedIdentity of which everything is registered."""
    await environment.apply_identity(
        application={"register": {"displayName": name_of(environment)}},
        managedIdentity={"resourceId": identity_id(environment, registrar), "register": {"location": "westeurope"}},
        registrar={"clientId": registrar.client_id},
        **spec,
    )


async def until(environment: Environment, what: str, test: Any) -> dict[str, Any]:
    return await environment.objects.until(what, "FederatedIdentity", environment.name, test)


async def applications(environment: Environment) -> list[dict[str, Any]]:
    """All applications of the environment's display name."""
    path = f"/applications?$filter=displayName eq '{name_of(environment)}'"
    found: list[dict[str, Any]] = (await environment.provider.graph.json("GET", path))["value"]
    return found


async def make_application(environment: Environment, *owners: Registrar, **body: str) -> dict[str, Any]:
    """An application of the environment's display name, made by the provider's administrator."""
    graph = environment.provider.graph
    body = {"displayName": name_of(environment), "signInAudience": "AzureADMultipleOrgs"} | body
    made = await graph.json("POST", "/applications", body)
    for owner in owners:
        reference = {"@odata.id": f"https://graph.microsoft.com/v1.0/directoryObjects/{owner.principal_id}"}
        await graph.json("POST", f"/applications/{made['id']}/owners/$ref", reference)
    return made


async def add_credentials(environment: Environment, application: Mapping[str, Any], count: int) -> list[str]:
    path = f"/applications/{application['id']}/federatedIdentityCredentials"
    for number in range(count):
        one = {"name": f"other-{number}", "issuer": "https://other.example", "subject": str(number), "audiences": [AUDIENCE]}
        await environment.provider.graph.json("POST", path, one)
    return [f"{path}/{one['id']}" for one in (await environment.provider.graph.json("GET", path))["value"]]


async def writes_of(environment: Environment, registrar: Registrar, since: int) -> list[dict[str, Any]]:
    return [
        request
        for request in await environment.control.requests(since)
        if request["application"] == registrar.client_id and request["method"] != "GET" and request["service"] != "login"
    ]


async def test_everything_is_registered_from_nothing_and_an_account_becomes_ready_through_it(
    environment: Environment, registrar: Registrar, operator: Operator
) -> None:
    provider, control = environment.provider, environment.control
    await control.set_timings(federated_credential_replication_seconds=MINUTES)
    await apply(environment, registrar)
    await environment.apply_tenant()
    states = (has("Authenticated", "Unknown", "Settling"), has("Registered"), has("Reconciling", "True", "Settling"))
    await until(environment, "registered, and not known everywhere", lambda status: all(state(status) for state in states))
    await control.advance(MINUTES)
    status = await until(environment, "Ready", has("Ready"))
    assert has("ApplicationFederated", "True", "Federated")(status)
    application, managed = status["application"], status["managedIdentity"]
    assert application["displayName"] == name_of(environment)
    environment.identity = replace(
        environment.identity,
        application_client_id=application["clientId"],
        managed_identity_resource_id=managed["resourceId"],
        managed_identity_client_id=managed["clientId"],
        managed_identity_principal_id=managed["principalId"],
    )
    await provider.assign_role(managed["principalId"], "Storage Account Contributor", provider.subscription)
    await provider.assign_role(managed["principalId"], "Managed Identity Operator", managed["resourceId"])
    tenant = await environment.objects.until("Pending", "CustomerTenant", environment.name, has("ConsentGranted", "False"))
    assert tenant["consent"]["url"].endswith(f"/adminconsent?client_id={application['clientId']}")
    await environment.vault_with_key()
    await environment.account()
    await environment.apply_key()
    await environment.apply_resource()
    await environment.resource_until("Ready", has("Ready"))
    used = (await environment.encryption())["identity"]
    assert used["federatedIdentityClientId"] == application["clientId"]
    assert used["userAssignedIdentity"].lower() == managed["resourceId"].lower()
    position = await environment.position()
    await operator.after_passes(2, "federatedidentities")
    assert await writes_of(environment, registrar, position) == []
    assert operator.log().count("identity registered") >= 4


async def test_a_request_whose_answer_is_lost_makes_no_second_application_and_deleting_the_manifest_deletes_nothing(
    environment: Environment, registrar: Registrar
) -> None:
    await environment.control.inject(
        host="graph.microsoft.com", path="uniqueName", method="PATCH", kind="reset", after_effect=True, times=1
    )
    await apply(environment, registrar, operatorCredential="ServiceAccount")
    status = await until(environment, "Ready", has("Ready"))
    (application,) = await applications(environment)
    assert status["application"]["clientId"] == application["appId"]
    assert application["uniqueName"] == f"cmk-operator-{environment.name}"
    issuer = environment.objects.cluster.issuer
    credentials = await environment.provider.federated_credentials(application["appId"])
    assert {(one["issuer"], one["subject"]) for one in credentials} == {
        (f"https://login.microsoftonline.com/{environment.provider.tenant_id}/v2.0", status["managedIdentity"]["principalId"]),
        (issuer, SERVICE_ACCOUNT),
    }
    await environment.objects.delete("FederatedIdentity", environment.name)
    await environment.objects.until_gone("FederatedIdentity", environment.name)
    await apply(environment, registrar)
    again = await until(environment, "Ready", has("Ready"))
    assert again["application"]["clientId"] == application["appId"]
    assert again["managedIdentity"] == status["managedIdentity"]
    assert len(await applications(environment)) == 1


async def test_an_application_of_that_name_is_adopted_only_when_it_is_clear_which(
    environment: Environment, registrar: Registrar
) -> None:
    graph = environment.provider.graph
    somebodys = await make_application(environment)
    await apply(environment, registrar)
    status = await until(environment, "not ours", has("Registered", "False", "ApplicationNotOwned"))
    assert somebodys["appId"] in condition(status, "Stalled")["message"]
    assert "the provider's administrator must make it an owner" in condition(status, "Stalled")["message"]
    owned = [await make_application(environment, registrar) for _ in range(2)]
    status = await until(environment, "two", has("Registered", "False", "AmbiguousApplication"))
    assert all(one["appId"] in condition(status, "Stalled")["message"] for one in owned)
    await graph.json("DELETE", f"/applications/{owned[0]['id']}")
    status = await until(environment, "Ready", has("Ready"))
    assert status["application"]["clientId"] == owned[1]["appId"]
    assert len(await applications(environment)) == 2, "that of somebody else, and the adopted one"


async def test_the_twenty_first_credential_is_told_with_those_that_are_there_and_written_once_one_is_gone(
    environment: Environment, registrar: Registrar
) -> None:
    # Both lists come in many pages, and some of them are empty.
    await environment.control.set_timings(graph_page_size=3, list_page_size=1)
    application = await make_application(environment, registrar)
    paths = await add_credentials(environment, application, 20)
    await apply(environment, registrar)
    status = await until(environment, "full", has("Registered", "False", "TooManyCredentials"))
    message = condition(status, "Stalled")["message"]
    assert "the provider's administrator must remove one" in message
    assert "other-19" in message
    assert status["application"]["clientId"] == application["appId"], "the hand-over need not wait"
    await environment.provider.graph.json("DELETE", paths[0])
    await until(environment, "Ready", has("Ready"))


async def test_a_wrong_subject_is_repaired_where_the_operator_registered_it_and_only_named_elsewhere(
    environment: Environment, registrar: Registrar
) -> None:
    provider = environment.provider
    await apply(environment, registrar)
    status = await until(environment, "Ready", has("Ready"))
    client_id, principal = status["managedIdentity"]["clientId"], status["managedIdentity"]["principalId"]
    path = f"/applications(appId='{status['application']['clientId']}')/federatedIdentityCredentials"
    (credential,) = (await provider.graph.json("GET", path))["value"]
    await provider.graph.json("PATCH", f"{path}/{credential['id']}", {"subject": client_id})

    async def repaired() -> bool:
        return [one["subject"] for one in (await provider.graph.json("GET", path))["value"]] == [principal]

    await environment.eventually("the right subject", repaired)
    given = await make_application(environment)
    wrong = {
        "name": "by-hand",
        "issuer": f"https://login.microsoftonline.com/{provider.tenant_id}/v2.0",
        "subject": environment.identity.managed_identity_client_id,
        "audiences": [AUDIENCE],
    }
    await provider.graph.json("POST", f"/applications/{given['id']}/federatedIdentityCredentials", wrong)
    await environment.objects.delete("FederatedIdentity", environment.name)
    await environment.objects.until_gone("FederatedIdentity", environment.name)
    await environment.apply_identity(application={"clientId": given["appId"]})
    status = await until(environment, "named", has("ApplicationFederated", "False", "FederatedCredentialMissing"))
    message = condition(status, "ApplicationFederated")["message"]
    assert f"its credential 'by-hand' has subject '{environment.identity.managed_identity_client_id}'" in message
    (left,) = await provider.federated_credentials(given["appId"])
    assert left["subject"] == wrong["subject"], "what others made is theirs to mend"


async def test_a_registered_application_that_is_deleted_is_told_restored_and_never_replaced(
    environment: Environment, registrar: Registrar
) -> None:
    await apply(environment, registrar)
    before = await until(environment, "Ready", has("Ready"))
    (application,) = await applications(environment)
    graph = environment.provider.graph
    await graph.json("DELETE", f"/applications/{application['id']}")
    status = await until(environment, "gone", has("Registered", "False", "RegisteredApplicationMissing"))
    assert application["id"] in condition(status, "Stalled")["message"]
    await graph.json("POST", f"/directory/deletedItems/{application['id']}/restore")
    status = await until(environment, "Ready", has("Ready"))
    assert status["application"] == before["application"]
    assert len(await applications(environment)) == 1


async def test_without_its_rights_the_registrar_says_which_and_everything_below_waits_until_it_has_them(
    environment: Environment, registrar: Registrar
) -> None:
    provider = environment.provider
    powerless = await make_registrar(environment)
    await apply(environment, powerless)
    await environment.apply_tenant()
    await environment.apply_key()
    status = await until(environment, "refused", has("Registered", "False", "Authorization_RequestDenied"))
    message = condition(status, "Stalled")["message"]
    assert f"the registrar {powerless.client_id}" in message
    assert "must grant it the Microsoft Graph permission Application.ReadWrite.OwnedBy" in message
    waiting = has("Ready", "False", "IdentityNotRegistered")
    tenant = await environment.objects.until("waiting", "CustomerTenant", environment.name, waiting)
    assert (
        f"FederatedIdentity '{environment.name}' has not registered its application yet"
        in condition(tenant, "Ready")["message"]
    )
    await environment.key_until("waiting", waiting)
    await provider.grant_graph_role(powerless.principal_id, OWNED_BY)
    status = await until(environment, "refused", has("Registered", "False", "AuthorizationFailed"))
    assert "must assign it Managed Identity Contributor" in condition(status, "Stalled")["message"]
    assert status["application"]["clientId"], "the hand-over need not wait"
    await provider.assign_role(powerless.principal_id, "Managed Identity Contributor", registrar.resource_group_id)
    await until(environment, "Ready", has("Ready"))
    await environment.objects.until("Pending", "CustomerTenant", environment.name, has("ConsentGranted", "False", "Pending"))


async def make_registrar(environment: Environment) -> Registrar:
    """A registrar without any right."""
    provider = environment.provider
    group = await provider.create_resource_group("rg-cmk-identities")
    resource_id = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{environment.name}-registrar"
    made = (await provider.put(resource_id, IDENTITIES, {"location": "westeurope"}))["properties"]
    trust = {"issuer": environment.objects.cluster.issuer, "subject": SERVICE_ACCOUNT, "audiences": [AUDIENCE]}
    await provider.put(f"{resource_id}/federatedIdentityCredentials/kubernetes", IDENTITIES, {"properties": trust})
    return Registrar(made["clientId"], made["principalId"], group)


async def test_an_application_that_was_never_registered_is_told_and_heals_when_the_manifest_names_one_that_was(
    environment: Environment,
) -> None:
    unknown = str(uuid.uuid4())
    await environment.apply_identity(application={"clientId": unknown})
    status = await until(environment, "unknown", has("Ready", "False", "ApplicationNotFound"))
    assert f"the provider's tenant has no application {unknown}" in condition(status, "Stalled")["message"]
    await environment.apply_identity()
    await until(environment, "Ready", has("Ready"))
