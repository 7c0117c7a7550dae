"""The Bicep of the hand-over, carried out resource by resource as Resource Manager would: strictly, in order, twice."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from pycep import BicepParser

from cmk_operator.core.handover.bicep import bicep_file
from cmk_operator.core.handover.request import Choices, Handover, WantedKey, WantedVault
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from cmk_operator.providers.storage.kind import STORAGE_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.administrators import CustomerAdministrator, ProviderIdentity

WORKSPACES = "2023-09-01"


class Deployment:
    """As much of a deployment as the hand-over needs: symbols, `guid`, `subscriptionResourceId`, parents, scopes."""

    def __init__(self, customer: CustomerAdministrator, group: str, parameters: Mapping[str, str]) -> None:
        self._customer = customer
        self._group = f"{customer.subscription}/resourceGroups/{group}"
        self._parameters = parameters
        self._ids: dict[str, str] = {}

    async def run(self, text: str) -> dict[str, str]:
        """Put every resource, those without a parent or scope first, as they stand; their ids by symbol."""
        for symbol, resource in BicepParser().parse(text=text)["resources"].items():
            config = {name: self._value(value) for name, value in resource["config"].items()}
            config.pop("dependsOn", None)
            name, kind = config.pop("name"), resource["type"]
            parent, scope = resource["config"].get("parent"), resource["config"].get("scope")
            config.pop("parent", None)
            config.pop("scope", None)
            if parent is not None:
                resource_id = f"{self._ids[parent]}/{kind.rsplit('/', 1)[-1]}/{name}"
            else:
                resource_id = f"{self._ids[scope] if scope else self._group}/providers/{kind}/{name}"
            await self._customer.put(resource_id, resource["api_version"], config)
            self._ids[symbol] = resource_id
        return self._ids

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(one) for one in value]
        if isinstance(value, dict) and "function" in value:
            given = value["function"]["parameters"]
            if value["function"]["type"] == "guid":
                return str(uuid.uuid5(uuid.NAMESPACE_URL, "|".join(str(self._value(one)) for one in given.values())))
            return f"{self._customer.subscription}/providers/{given['resource_type']}/{given['resource_name_1']}"
        if isinstance(value, dict) and "operator" in value:
            return self._ids[value["operator"]["operands"]["operand_1"]]
        if isinstance(value, dict):
            return {name: self._value(one) for name, one in value.items()}
        return self._parameters.get(value, value) if isinstance(value, str) else value


async def test_a_deployment_makes_vault_key_grants_log_and_lock_and_may_be_repeated(
    customer: CustomerAdministrator, identity: ProviderIdentity, name: Callable[[str], str]
) -> None:
    vault, group = name("bicep-kv"), name("rg-bicep")
    uri = parse_key_uri(f"https://{vault}.vault.azure.net/keys/cmk")
    application = identity.application_client_id
    handover = Handover(
        tenant="fabrikam",
        tenant_id=customer.tenant_id,
        cloud=CLOUDS[CloudName.PUBLIC],
        application=application,
        application_name="Contoso",
        consent_url=CLOUDS[CloudName.PUBLIC].admin_consent_url(customer.tenant_id, application),
        vaults=(WantedVault(uri.vault_host, (WantedKey(uri, (STORAGE_ACCOUNT.key_use,)),)),),
    )
    await customer.create_resource_group(group)
    workspace = f"{customer.subscription}/resourceGroups/{group}/providers/Microsoft.OperationalInsights/workspaces/logs"
    await customer.put(workspace, WORKSPACES, {"location": "westeurope"})
    principal = await customer.consent(application)
    choices = Choices(
        location="westeurope", reader=True, addresses=("203.0.113.10",), workspace=workspace, rotate_after_days=90
    )
    deployment = Deployment(customer, group, {"applicationPrincipalId": principal, "location": "westeurope"})
    made = await deployment.run(bicep_file(handover, choices))
    assert await deployment.run(bicep_file(handover, choices)) == made

    properties = (await customer.get(made["vault"], "2026-02-01"))["properties"]
    assert (properties["enableRbacAuthorization"], properties["enablePurgeProtection"]) == (True, True)
    assert properties["networkAcls"]["defaultAction"] == "Deny"
    roles = await customer.get(f"{made['vault_key']}/providers/Microsoft.Authorization/roleAssignments", "2022-04-01")
    mine = [one["properties"] for one in roles["value"] if one["properties"]["principalId"] == principal]
    assert sorted((one["scope"].rsplit("/", 2)[-2], one["roleDefinitionId"].rsplit("/", 1)[-1]) for one in mine) == [
        ("keys", "e147488a-f6f5-4113-8e2d-b22465e65bf6"),
        ("vaults", "21090545-7ca7-4776-b22c-e363652d74d2"),
    ]
    locks = await customer.get(f"{made['vault']}/providers/Microsoft.Authorization/locks", "2020-05-01")
    assert [one["properties"]["level"] for one in locks["value"]] == ["CanNotDelete"]
