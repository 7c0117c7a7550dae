"""The steps except the consent, as a Bicep file for a resource group of the customer.

Source: "Bicep, ARM template and Terraform AzAPI reference" of each resource type named here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.handover.comments import comment
from cmk_operator.core.handover.literals import Expression, bicep_value, numbered
from cmk_operator.core.handover.request import CRYPTO_USER, READER, ROLE_IDS, SERVICE_ENCRYPTION_USER, printable
from cmk_operator.core.handover.steps import LOCK, LOG, RESOURCE_GROUP, VAULTS_API_VERSION, failover_note, key_body, vault_body
from cmk_operator.core.identifiers.cloud import WITHOUT_REPLY_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cmk_operator.core.handover.request import Choices, Handover, WantedApplication, WantedKey, WantedVault

_VAULT: Final = f"Microsoft.KeyVault/vaults@{VAULTS_API_VERSION}"
_KEY: Final = f"Microsoft.KeyVault/vaults/keys@{VAULTS_API_VERSION}"
_GRANT: Final = "Microsoft.Authorization/roleAssignments@2022-04-01"
_LOCK: Final = "Microsoft.Authorization/locks@2020-05-01"
_LOG: Final = "Microsoft.Insights/diagnosticSettings@2021-05-01-preview"
_APPLICATION: Final = "applicationPrincipalId"


def bicep_file(handover: Handover, choices: Choices) -> str:
    """One file, which the customer's administrator can deploy to a resource group, and deploy again."""
    group = choices.resource_group or RESOURCE_GROUP
    deploy = f"az deployment group create --resource-group {group} --template-file handover.bicep --parameters"
    deploy += f" {_APPLICATION}=<object id>"
    lines = [
        *comment(
            f"What the administrator of tenant {handover.tenant_id} does so that keys of this tenant protect its data at the "
            f"provider whose application is {handover.shown_application}.",
            sign="//",
        ),
        *comment(
            f"First consent, which Bicep cannot do: az ad sp create --id {handover.application} --query id, or {handover.consent_url}; "
            f"{WITHOUT_REPLY_ADDRESS}. If the consent is withdrawn and given again, the object id is a new one: deploy again with it, "
            "because every grant must be made again.",
            sign="//",
        ),
        *comment(f"Then: {deploy}", sign="//"),
        *comment(
            "For new vaults only: it would turn off the access policies of an existing one. Use the script for that.", sign="//"
        ),
        "",
        "targetScope = 'resourceGroup'",
        "",
        *_parameters(handover, choices),
    ]
    name = numbered("vault", len(handover.vaults))
    for number, vault in enumerate(handover.vaults, start=1):
        for text in _vault(handover, choices, vault, name(number)):
            lines += ["", text]
    uris = [str(key.uri) for vault in handover.vaults for key in vault.keys]
    lines += ["", f"output sendTheseToTheProvider array = {bicep_value(uris)}"]
    return "\n".join(lines) + "\n"


def _parameters(handover: Handover, choices: Choices) -> Iterator[str]:
    regions = sorted({region for vault in handover.vaults for region in vault.disk_regions})
    hint = f" The disks that it protects are in {' and '.join(regions)}: the vault must be there." if regions else ""
    location = choices.location or next(iter(regions), None)
    hint += f" {failover_note(location)}"
    yield f"@description({bicep_value('Region of the vault.' + hint)})"
    yield f"param location string = {bicep_value(location) if location else 'resourceGroup().location'}"
    principals = {_APPLICATION: f"Object id in this tenant of the application {handover.shown_application}."}
    for number, account in enumerate(handover.applications, start=1):
        if account.application is not None:
            text = f"Object id in this tenant of {account.service}'s application {account.application} for account {account.account}."
            principals[_parameter(account, number)] = printable(text)
    for name, description in principals.items():
        yield ""
        yield f"@description({bicep_value(description)})"
        yield f"param {name} string"


def _parameter(account: WantedApplication, number: int) -> str:
    return f"{account.label}{number}PrincipalId"


def _resource(label: str, kind: str, body: dict[str, Any]) -> str:
    return f"resource {label} {bicep_value(kind)} = {bicep_value(body)}"


def _vault(handover: Handover, choices: Choices, vault: WantedVault, label: str) -> Iterator[str]:
    properties = vault_body(handover, choices, vault)
    yield _resource(label, _VAULT, {"name": vault.name, "location": Expression("location"), "properties": properties})
    after: list[Expression] = []
    for number, key in enumerate(vault.keys, start=1):
        key_label = f"{label}_key" if len(vault.keys) == 1 else f"{label}_key_{number}"
        body = {"parent": Expression(label), "name": key.uri.key_name, "properties": key_body(choices, key)}
        yield _resource(key_label, _KEY, body)
        grants = {
            f"{key_label}_grant": _grant(label if choices.grant_on_vault else key_label, SERVICE_ENCRYPTION_USER, _APPLICATION)
        }
        grants |= _application_grants(handover, key, key_label)
        for grant_label, grant in grants.items():
            yield _resource(grant_label, _GRANT, grant)
            after.append(Expression(grant_label))
    if choices.reader:
        yield _resource(f"{label}_reader", _GRANT, _grant(label, READER, _APPLICATION))
        after.append(Expression(f"{label}_reader"))
    if choices.workspace is not None:
        log = {"workspaceId": choices.workspace, "logs": [{"category": "AuditEvent", "enabled": True}]}
        yield _resource(f"{label}_log", _LOG, {"name": LOG, "scope": Expression(label), "properties": log})
    notes = "Customer-managed keys: to withdraw access, disable every version of the key, or remove this lock first."
    lock = {"level": "CanNotDelete", "notes": notes}
    yield _resource(f"{label}_lock", _LOCK, {"name": LOCK, "scope": Expression(label), "properties": lock, "dependsOn": after})


def _application_grants(handover: Handover, key: WantedKey, label: str) -> dict[str, dict[str, Any]]:
    return {
        f"{label}_{account.label}_{number}": _grant(label, CRYPTO_USER, _parameter(account, number))
        for number, account in enumerate(handover.applications, start=1)
        if account.application is not None and key.uri in account.keys
    }


def _grant(scope: str, role: str, principal: str) -> dict[str, Any]:
    role_id = bicep_value(ROLE_IDS[role])
    definition = f"subscriptionResourceId('Microsoft.Authorization/roleDefinitions', {role_id})"
    return {
        "name": Expression(f"guid({scope}.id, {principal}, {role_id})"),
        "scope": Expression(scope),
        "properties": {
            "roleDefinitionId": Expression(definition),
            "principalId": Expression(principal),
            "principalType": "ServicePrincipal",
        },
    }
