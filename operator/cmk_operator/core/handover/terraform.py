"""The steps as a Terraform configuration.

Sources: the documentation of the providers hashicorp/azurerm 4, hashicorp/azuread 3 and Azure/azapi 2. Vault and key are made by
azapi. Of the vault, azurerm 4 uses a control-plane api-version that ends on 27 February 2027 (hashicorp/terraform-provider-azurerm
issue 32627: azurerm 5 moves). For the key it would need a role on the vault's data, and a way through its firewall.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmk_operator.core.handover.comments import comment
from cmk_operator.core.handover.literals import Expression, aligned, numbered, terraform_value
from cmk_operator.core.handover.request import CRYPTO_USER, READER, SERVICE_ENCRYPTION_USER
from cmk_operator.core.handover.steps import LOCK, LOG, RESOURCE_GROUP, VAULTS_API_VERSION, failover_note, key_body, vault_body
from cmk_operator.core.identifiers.cloud import WITHOUT_REPLY_ADDRESS
from cmk_operator.core.identifiers.region_failover import SOURCE, without_failover

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cmk_operator.core.handover.request import Choices, Handover, WantedApplication, WantedKey, WantedVault

_PROVIDERS = {
    "azapi": {"source": "Azure/azapi", "version": "~> 2.0"},
    "azuread": {"source": "hashicorp/azuread", "version": "~> 3.0"},
    "azurerm": {"source": "hashicorp/azurerm", "version": "~> 4.42"},
}
_KEEP = {"prevent_destroy": True}
_UNCHECKED = {"schema_validation_enabled": False}
"""Releases of azapi that are older than the api-version do not know its schema; Azure checks it all the same."""


@dataclass(frozen=True)
class Block:
    """A block: its header, arguments, nested blocks, and the comment above it."""

    header: str
    arguments: dict[str, Any] = field(default_factory=dict)
    blocks: Sequence[Block] = ()
    remark: str = ""

    def lines(self, indent: str = "") -> Iterator[str]:
        """The lines of the block, formatted like `terraform fmt`."""
        for row in comment(self.remark) if self.remark else ():
            yield f"{indent}{row}"
        if not self.arguments and not self.blocks:
            yield f"{indent}{self.header} {{}}"
            return
        yield f"{indent}{self.header} {{"
        yield from aligned(self.arguments, indent + "  ")
        for number, block in enumerate(self.blocks):
            if number or self.arguments:
                yield ""
            yield from block.lines(indent + "  ")
        yield f"{indent}}}"


def terraform_configuration(handover: Handover, choices: Choices) -> str:
    """One file, which the customer's administrator can apply."""
    lines = [
        *comment(
            f"What the administrator of tenant {handover.tenant_id} does so that keys of this tenant protect its data at the "
            f"provider whose application is {handover.shown_application}."
        ),
        *comment(
            "Import what already exists (resource group, vault, service principal) first: "
            "https://developer.hashicorp.com/terraform/cli/import. If the consent is withdrawn and given again, the service "
            "principal is a new one: apply again, because every grant must be made again for it."
        ),
    ]
    for block in (*_head(handover, choices), *_principals(handover), *_vaults(handover, choices), _output(handover)):
        lines += ["", *block.lines()]
    return "\n".join(lines) + "\n"


def _head(handover: Handover, choices: Choices) -> Iterator[Block]:
    providers = Block("required_providers", _PROVIDERS)
    yield Block("terraform", {"required_version": ">= 1.7"}, (providers,))
    tenant = {"tenant_id": handover.tenant_id.lower()}
    environment = {"AzurePublic": "public", "AzureUSGovernment": "usgovernment", "AzureChina": "china"}[handover.cloud.name]
    subscription = Expression("var.subscription_id")
    manager = {"environment": environment, "subscription_id": subscription, **tenant}
    yield Block('provider "azurerm"', manager, (Block("features"),))
    yield Block('provider "azuread"', {"environment": environment, **tenant})
    yield Block('provider "azapi"', {"environment": environment, "subscription_id": subscription, **tenant})
    yield _variable("subscription_id", "Subscription of the vault.", choices.subscription)
    yield _variable("resource_group", "Resource group of the vault.", choices.resource_group or RESOURCE_GROUP)
    regions = sorted({region for vault in handover.vaults for region in vault.disk_regions})
    hint = f" The disks that it protects are in {' and '.join(regions)}: the vault must be there." if regions else ""
    location = choices.location or next(iter(regions), None)
    yield _variable("location", f"Region of the vault, such as westeurope.{hint} {failover_note(location)}", location)
    yield _failover_check()
    name, place = Expression("var.resource_group"), Expression("var.location")
    yield Block('resource "azurerm_resource_group" "keys"', {"name": name, "location": place})


def _failover_check() -> Block:
    """A check only warns, at each plan, whichever region the variable names then."""
    regions = terraform_value(without_failover())
    arguments = {
        "condition": Expression(f'!contains({regions}, lower(replace(var.location, " ", "")))'),
        "error_message": f"Key Vault does not fail over from this region to another. See {SOURCE}",
    }
    return Block('check "region_failover"', {}, (Block("assert", arguments),))


def _variable(name: str, description: str, default: str | None) -> Block:
    arguments = {"description": description, "type": Expression("string")}
    return Block(f'variable "{name}"', arguments if default is None else {**arguments, "default": default})


def _principals(handover: Handover) -> Iterator[Block]:
    keep = Block("lifecycle", _KEEP)
    arguments: dict[str, Any] = {"client_id": handover.application, "use_existing": True}
    yield Block(
        'resource "azuread_service_principal" "application"',
        arguments,
        (keep,),
        f"The consent to {handover.shown_application}. In a browser: {handover.consent_url}; {WITHOUT_REPLY_ADDRESS}.",
    )
    for number, account in enumerate(handover.applications, start=1):
        header = f'resource "azuread_service_principal" "{account.label}_{number}"'
        if account.application is not None:
            remark = f"The consent to {account.service}'s application for account {account.account}."
            yield Block(header, {"client_id": account.application, "use_existing": True}, (keep,), remark)


def _vaults(handover: Handover, choices: Choices) -> Iterator[Block]:
    name = numbered("vault", len(handover.vaults))
    for number, vault in enumerate(handover.vaults, start=1):
        yield from _vault(handover, choices, vault, name(number))


def _vault(handover: Handover, choices: Choices, vault: WantedVault, label: str) -> Iterator[Block]:
    yield Block(
        f'resource "azapi_resource" "{label}"',
        {
            "type": f"Microsoft.KeyVault/vaults@{VAULTS_API_VERSION}",
            "name": vault.name,
            "location": Expression("azurerm_resource_group.keys.location"),
            "parent_id": Expression("azurerm_resource_group.keys.id"),
            **_UNCHECKED,
            "body": {"properties": vault_body(handover, choices, vault)},
        },
        (Block("lifecycle", _KEEP),),
        "Azure refuses keys from vaults without soft delete and purge protection; neither can be undone.",
    )
    yield Block(
        "removed",
        {"from": Expression(f"azurerm_key_vault.{label}")},
        (Block("lifecycle", {"destroy": False}),),
        "An earlier hand-over made the vault by azurerm. Terraform then forgets that, and never deletes the vault: import it, see above.",
    )
    vault_id = Expression(f"azapi_resource.{label}.id")
    grants: list[str] = []
    for number, key in enumerate(vault.keys, start=1):
        key_label = label.replace("vault", "key") if len(vault.keys) == 1 else f"{label.replace('vault', 'key')}_{number}"
        yield _key(choices, key, key_label, vault_id)
        yield _grant("application", SERVICE_ENCRYPTION_USER, key_label, vault_id if choices.grant_on_vault else None)
        grants.append(f"azurerm_role_assignment.application_{key_label}")
        for account_number, account in enumerate(handover.applications, start=1):
            if _grantable(account, key):
                yield _grant(f"{account.label}_{account_number}", CRYPTO_USER, key_label, None)
                grants.append(f"azurerm_role_assignment.{account.label}_{account_number}_{key_label}")
    if choices.reader:
        yield _grant("application", READER, f"reader_{label}", vault_id)
        grants.append(f"azurerm_role_assignment.application_reader_{label}")
    if choices.workspace is not None:
        arguments = {"name": LOG, "target_resource_id": vault_id, "log_analytics_workspace_id": choices.workspace}
        log = Block("enabled_log", {"category": "AuditEvent"})
        yield Block(f'resource "azurerm_monitor_diagnostic_setting" "{label}"', arguments, (log,))
    yield _lock(label, vault_id, grants)


def _grantable(account: WantedApplication, key: WantedKey) -> bool:
    return account.application is not None and key.uri in account.keys


def _key(choices: Choices, key: WantedKey, label: str, vault_id: Expression) -> Block:
    arguments = {
        "type": f"Microsoft.KeyVault/vaults/keys@{VAULTS_API_VERSION}",
        "name": key.uri.key_name,
        "parent_id": vault_id,
        **_UNCHECKED,
        "body": {"properties": key_body(choices, key)},
        "response_export_values": ["properties.keyUri", "properties.keyUriWithVersion"],
    }
    # Terraform creates the first version. Rotation creates the next ones, which must not be a difference for Terraform.
    lifecycle = Block("lifecycle", {**_KEEP, "ignore_changes": Expression("[body]")})
    remark = f"It protects {key.shown_uses}."
    return Block(f'resource "azapi_resource" "{label}"', arguments, (lifecycle,), remark)


def _grant(principal: str, role: str, label: str, vault_id: Expression | None) -> Block:
    scope = vault_id or Expression(f"azapi_resource.{label}.id")
    arguments = {
        "scope": scope,
        "role_definition_name": role,
        "principal_id": Expression(f"azuread_service_principal.{principal}.object_id"),
        "principal_type": "ServicePrincipal",
    }
    return Block(f'resource "azurerm_role_assignment" "{principal}_{label}"', arguments)


def _lock(label: str, vault_id: Expression, after: list[str]) -> Block:
    arguments = {
        "name": LOCK,
        "scope": vault_id,
        "lock_level": "CanNotDelete",
        "depends_on": Expression("[" + ", ".join(after) + "]"),
    }
    remark = (
        "It prevents the deletion of the vault by accident. It also prevents the removal of role assignments: to withdraw access, "
        "disable every version of the key, or remove the lock first."
    )
    return Block(f'resource "azurerm_management_lock" "{label}"', arguments, (), remark)


def _output(handover: Handover) -> Block:
    uris = [str(key.uri) for vault in handover.vaults for key in vault.keys]
    return Block('output "send_these_to_the_provider"', {"value": uris})
