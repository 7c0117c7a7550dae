"""The steps of the customer's administrator in order, each with who does it, why, and its az CLI commands.

Every step checks before it writes, so that all of them may be run again. Sources: Key Vault, "Create if not exist" (keys through
Resource Manager need no role on the vault's data and pass its firewall), "Network security"; Azure Resource Manager, "Lock
your resources"; Azure role-based access control, "Built-in roles"; Snowflake, "Tri-Secret Secure self-service".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.handover.request import CRYPTO_USER, READER, SERVICE_ENCRYPTION_USER, chosen_region, printable
from cmk_operator.core.handover.shell import Variable, captured, line, one_of, quoted, when
from cmk_operator.core.identifiers.cloud import WITHOUT_REPLY_ADDRESS, CloudName
from cmk_operator.core.identifiers.region_failover import DURING, SOURCE, warning_of, without_failover
from cmk_operator.core.kinds.key_use import NEEDED_OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cmk_operator.core.handover.request import Choices, Handover, WantedApplication, WantedKey, WantedVault
    from cmk_operator.core.handover.shell import Word

LOCK: Final = "cmk-keep"
LOG: Final = "cmk-audit"
RESOURCE_GROUP: Final = "rg-customer-managed-keys"
VAULTS_API_VERSION: Final = "2026-02-01"
"""Of vaults and of their keys. Older ones end on 27 February 2027 (Key Vault, "Update the API version you use")."""
CONSENTS: Final = "Application Administrator or Cloud Application Administrator of the customer's tenant"
OWNER: Final = "Owner of the customer's resource group, or Contributor together with User Access Administrator"
LOCKS: Final = "Owner or User Access Administrator of the customer's resource group"
VAULTS: Final = "Microsoft.KeyVault/vaults"
SHOWN: Final = (
    "[[id, resourceGroup, properties.enableRbacAuthorization, properties.enablePurgeProtection, "
    "properties.networkAcls.bypass || 'unset']]"
)
"""Query for one row on a vault; the az CLI prints booleans as True and False, and absent values as None."""
_CLOUDS: Final = {
    CloudName.PUBLIC: "AzureCloud",
    CloudName.US_GOVERNMENT: "AzureUSGovernment",
    CloudName.CHINA: "AzureChinaCloud",
}
_GROUP, _PLACE = Variable("RESOURCE_GROUP"), Variable("LOCATION")
_VAULT, _VAULT_GROUP = Variable("VAULT_ID"), Variable("VAULT_GROUP")
_QUIET: Final = ("--output", "none")
_TEXT: Final = ("--output", "tsv")


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `command` is bash, or empty if there is no command for it."""

    title: str
    who: str
    why: str
    command: str


def steps(handover: Handover, choices: Choices) -> tuple[Step, ...]:
    """All steps, in the order in which they must be done."""
    accounts = handover.applications
    return (
        _sign_in(handover, choices),
        _consent(handover),
        *(_application_consent(account, number) for number, account in enumerate(accounts, start=1)),
        *(step for vault in handover.vaults for step in _vault(handover, choices, vault)),
        _report(handover),
    )


def _sign_in(handover: Handover, choices: Choices) -> Step:
    tenant, cloud = handover.tenant_id.lower(), _CLOUDS[handover.cloud.name]
    subscription = choices.subscription.lower() if choices.subscription else None
    wanted = f"{tenant}\t{cloud}\t{subscription}" if subscription else f"{tenant}\t{cloud}"
    query = "[[tenantId, environmentName, id]]" if subscription else "[[tenantId, environmentName]]"
    hint = f"Sign in first: az cloud set --name {cloud}; az login --tenant {tenant}"
    hint += f"; az account set --subscription {subscription}" if subscription else ""
    location = choices.location or next((vault.disk_regions[0] for vault in handover.vaults if vault.disk_regions), "")
    commands = (
        _default("RESOURCE_GROUP", choices.resource_group or RESOURCE_GROUP),
        _default("LOCATION", location),
        captured("ACCOUNT", "az", "account", "show", "--query", query, *_TEXT),
        when(f'[ "$ACCOUNT" != {quoted(wanted)} ]', f"{line('echo', hint)} >&2", "exit 1"),
    )
    why = "Nothing may be created in another tenant or subscription than that of the vault."
    return Step("Check settings and sign-in", OWNER, why, "\n".join(commands))


def _default(variable: str, value: str) -> str:
    """Set a variable unless the customer's administrator has set it."""
    return when(f'[ -z "${{{variable}:-}}" ]', f"{variable}={quoted(value)}")


def _principal(variable: str, application: str) -> str:
    find = f"appId eq '{application}'"
    return "\n".join(
        (
            captured(variable, "az", "ad", "sp", "list", "--filter", find, "--query", "[0].id", *_TEXT),
            when(
                f'[ -z "${variable}" ]',
                captured(variable, "az", "ad", "sp", "create", "--id", application, "--query", "id", *_TEXT),
            ),
        )
    )


def _consent(handover: Handover) -> Step:
    why = (
        "The provider's services sign in to this tenant as this application. Without its service principal they cannot. The consent "
        f"alone grants no permission. You may also consent in a browser: {handover.consent_url}; "
        f"{WITHOUT_REPLY_ADDRESS}. If the consent is withdrawn and given again, the service principal is a new one: run everything "
        "again, because every grant below must be made again for it."
    )
    title = f"Consent to the application {handover.shown_application}"
    return Step(title, CONSENTS, why, _principal("PRINCIPAL", handover.application))


def _application_consent(account: WantedApplication, number: int) -> Step:
    title = f"Consent to {account.service}'s application for account {printable(account.account)}"
    if account.application is None:
        why = (
            f"{account.service} reads the key through its own application. It names that application once the provider has registered the key "
            "there. The provider then sends these steps again, with the commands."
        )
        return Step(title, CONSENTS, why, "")
    named = f", shown as {printable(account.principal_name)}" if account.principal_name else ""
    why = (
        f"{account.service} reads the key through its own application{named}, not the provider's. You may also consent in a browser: "
        f"{printable(account.consent_url)}."
    )
    return Step(title, CONSENTS, why, _principal(f"{account.label.upper()}_{number}", account.application))


def _vault(handover: Handover, choices: Choices, vault: WantedVault) -> Iterator[Step]:
    yield _have_vault(choices, vault)
    for key in vault.keys:
        yield _have_key(choices, key)
        yield _grant(choices, key)
        for number, account in enumerate(handover.applications, start=1):
            if account.application is not None and key.uri in account.keys:
                yield _grant_application(key, account, number)
    if choices.reader:
        yield _reader(vault)
    if choices.workspace is not None:
        yield _log(choices.workspace, vault)
    yield from _firewall(handover, choices, vault)
    yield _lock(vault)


def _have_vault(choices: Choices, vault: WantedVault) -> Step:
    update = ("az", "keyvault", "update", "--name", vault.name, "--resource-group", _VAULT_GROUP)
    create: tuple[Word, ...] = (
        *("az", "keyvault", "create", "--name", vault.name, "--resource-group", _GROUP, "--location", _PLACE),
        *("--sku", choices.sku, "--retention-days", str(choices.retention_days), "--enable-purge-protection", "true"),
        *("--enable-rbac-authorization", "true", "--bypass", "AzureServices", "--default-action", "Allow", *_QUIET),
    )
    ask = f"${{LOCATION:?set LOCATION to the region of the new vault {vault.name}, such as westeurope}}"
    new_group = line("az", "group", "create", "--name", _GROUP, "--location", _PLACE, *_QUIET)
    # Filter by --name and not in the query: Azure compares names case-insensitively, but the az CLI's query does not.
    find = ("az", "resource", "list", "--resource-type", VAULTS, "--name", vault.name, "--query", "[0].id", *_TEXT)
    commands = (
        captured("VAULT_ID", *find),
        when(
            '[ -z "$VAULT_ID" ]',
            f': "{ask}"',
            _warn_of_region(),
            when(f'[ "$({line("az", "group", "exists", "--name", _GROUP)})" = false ]', new_group),
            line(*create),
        ),
        captured("VAULT", "az", "keyvault", "show", "--name", vault.name, "--query", SHOWN, *_TEXT),
        'read -r VAULT_ID VAULT_GROUP RBAC PURGE_PROTECTION BYPASS <<< "$VAULT"',
        'echo "Vault: $VAULT_ID"',
        when('[ "$PURGE_PROTECTION" != True ]', line(*update, "--enable-purge-protection", "true", *_QUIET)),
        when('[ "$BYPASS" = None ]', line(*update, "--bypass", "AzureServices", *_QUIET)),
    )
    why = (
        "Azure refuses keys from vaults without soft delete and purge protection, because a deleted key would be lost data. Neither "
        "can be undone. The vault's firewall must admit Azure's trusted services. An existing vault keeps its permission model, roles "
        "or access policies."
    )
    regions = vault.disk_regions
    if regions:
        why += f" Its keys protect disks in {' and '.join(regions)}: the vault must be in the same region."
    return Step(f"The vault {vault.name}", OWNER, f"{why} {failover_note(chosen_region(choices, vault))}", "\n".join(commands))


def _warn_of_region() -> str:
    """A shell warning about the region, because the customer's administrator may choose it when the script runs."""
    warning = f"Warning: Key Vault does not fail over from $LOCATION to another region. See {SOURCE}"
    return one_of('$(tr "[:upper:]" "[:lower:]" <<< "${LOCATION// /}")', without_failover(), f'echo "{warning}" >&2')


def failover_note(region: str | None) -> str:
    """A note on the failover of a new vault: a warning if its region has none, or else what a failover means."""
    warning = warning_of(region) if region is not None else None
    if warning is not None:
        return warning
    chosen = "" if region is not None else "Choose a region from which Key Vault fails over to a paired one. "
    return f"{chosen}{DURING}."


def vault_body(handover: Handover, choices: Choices, vault: WantedVault) -> dict[str, Any]:
    """The properties of a new vault in the format of Resource Manager."""
    on_it = [account for account in handover.applications if any(key.uri in account.keys for key in vault.keys)]
    network: dict[str, Any] = {"bypass": "AzureServices", "defaultAction": "Deny" if choices.addresses else "Allow"}
    network["ipRules"] = [{"value": str(IPv4Network(address))} for address in choices.addresses]
    network["virtualNetworkRules"] = [{"id": subnet.lower()} for account in on_it for subnet in account.usable_subnets]
    return {
        "tenantId": handover.tenant_id.lower(),
        "sku": {"family": "A", "name": choices.sku},
        "enableRbacAuthorization": True,
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": choices.retention_days,
        "enablePurgeProtection": True,
        "networkAcls": network,
    }


def key_body(choices: Choices, key: WantedKey) -> dict[str, Any]:
    """The properties of a new key in the format of Resource Manager."""
    operations = [*NEEDED_OPERATIONS, *dict.fromkeys(one for use in key.uses for one in use.more_operations)]
    properties: dict[str, Any] = {"kty": choices.key_type, "keySize": choices.key_size, "keyOps": operations}
    if choices.rotate_after_days is not None:
        trigger = {"timeAfterCreate": f"P{choices.rotate_after_days}D"}
        policy: dict[str, Any] = {"lifetimeActions": [{"trigger": trigger, "action": {"type": "rotate"}}]}
        if choices.expire_after_days is not None:
            policy["attributes"] = {"expiryTime": f"P{choices.expire_after_days}D"}
        properties["rotationPolicy"] = policy
    return properties


def _have_key(choices: Choices, key: WantedKey) -> Step:
    body = json.dumps({"properties": key_body(choices, key)})
    url = (_VAULT, f"/keys/{key.uri.key_name}?api-version={VAULTS_API_VERSION}")
    make = ("az", "rest", "--method", "put", "--url", url, "--body", body, "--query", "properties.keyUriWithVersion", *_TEXT)
    why = (
        f"It protects {key.shown_uses}."
        " It is created through Resource Manager, which needs no permission to use keys. An existing key stays as it is."
    )
    if choices.rotate_after_days is not None:
        why += " An existing key also keeps its rotation policy: change that with az keyvault key rotation-policy update."
    return Step(
        f"The key {key.uri.key_name} in {key.uri.vault_host}", OWNER, why, captured("KEY", *make) + '\necho "Key: $KEY"'
    )


def _granted(principal: str, role: str, key: WantedKey, permissions: tuple[str, ...], *, on_vault: bool) -> str:
    scope = _VAULT if on_vault else (_VAULT, f"/keys/{key.uri.key_name}")
    who, vault = Variable(principal), key.uri.vault_host.split(".", maxsplit=1)[0]
    by_role: tuple[Word, ...] = (
        *("az", "role", "assignment", "create", "--assignee-object-id", who, "--assignee-principal-type", "ServicePrincipal"),
        *("--role", role, "--scope", scope, *_QUIET),
    )
    by_policy: tuple[Word, ...] = (
        *("az", "keyvault", "set-policy", "--name", vault, "--resource-group", _VAULT_GROUP, "--object-id", who),
        *("--key-permissions", *permissions, *_QUIET),
    )
    return when('[ "$RBAC" = True ]', line(*by_role), otherwise=(line(*by_policy),))


def _grant(choices: Choices, key: WantedKey) -> Step:
    command = _granted(
        "PRINCIPAL", SERVICE_ENCRYPTION_USER, key, ("get", "wrapKey", "unwrapKey"), on_vault=choices.grant_on_vault
    )
    where = "every key in the vault" if choices.grant_on_vault else "this key only"
    why = (
        f"The least privilege that encryption needs: to read, wrap and unwrap with {where}. It allows nobody to change, delete or "
        "export a key. It takes effect within minutes."
    )
    return Step(f"Allow the application to use the key {key.uri.key_name}", OWNER, why, command)


def _grant_application(key: WantedKey, account: WantedApplication, number: int) -> Step:
    permissions = ("get", *account.operations)
    command = _granted(f"{account.label.upper()}_{number}", CRYPTO_USER, key, permissions, on_vault=False)
    title = f"Allow {account.service}'s account {printable(account.account)} to use the key {key.uri.key_name}"
    uses = ", ".join(account.operations)
    why = f"{account.service} needs {uses} with the key; {CRYPTO_USER} is the least role that allows all of them."
    return Step(title, OWNER, why, command)


def _reader(vault: WantedVault) -> Step:
    command = line(
        *("az", "role", "assignment", "create", "--assignee-object-id", Variable("PRINCIPAL")),
        *("--assignee-principal-type", "ServicePrincipal", "--role", READER, "--scope", _VAULT, *_QUIET),
    )
    why = (
        "Optional: the provider's operator can then read locks and firewall, and warn before data stops. The role also shows the "
        "names of the vault's secrets and certificates, never their contents."
    )
    return Step(f"Allow the provider to read how {vault.name} is protected", OWNER, why, command)


def _log(workspace: str, vault: WantedVault) -> Step:
    logs = json.dumps([{"category": "AuditEvent", "enabled": True}])
    command = line(
        *("az", "monitor", "diagnostic-settings", "create", "--name", LOG, "--resource", _VAULT, "--workspace", workspace),
        *("--logs", logs, *_QUIET),
    )
    why = "Every use of the key is then in the customer's own log."
    return Step(f"Keep the log of {vault.name}", OWNER, why, command)


def _firewall(handover: Handover, choices: Choices, vault: WantedVault) -> Iterator[Step]:
    on_it = [account for account in handover.applications if any(key.uri in account.keys for key in vault.keys)]
    subnets = [subnet for account in on_it for subnet in account.usable_subnets]
    if not choices.addresses and not subnets:
        return
    rule = ("az", "keyvault", "network-rule", "add", "--name", vault.name, "--resource-group", _VAULT_GROUP)
    update = ("az", "keyvault", "update", "--name", vault.name, "--resource-group", _VAULT_GROUP)
    commands = [line(*rule, "--ip-address", *choices.addresses, *_QUIET)] if choices.addresses else []
    commands += [line(*rule, "--subnet", subnet, *_QUIET) for subnet in subnets]
    services = dict.fromkeys(account.service for account in on_it if account.usable_subnets)
    who = [*(["the provider's operator"] if choices.addresses else []), *services]
    why = f"The firewall admits {' and '.join(who)}, and Azure's own services as trusted services."
    if choices.addresses:
        commands.append(line(*update, "--bypass", "AzureServices", "--default-action", "Deny", *_QUIET))
        why += " It refuses all others from now on: first add the addresses of all other users of this vault."
    else:
        why += " Whether it refuses others does not change."
    yield Step(f"The firewall of {vault.name}", OWNER, why, "\n".join(commands))


def _lock(vault: WantedVault) -> Step:
    lock = ("az", "lock", "create", "--name", LOCK, "--lock-type", "CanNotDelete")
    commands = [line(*lock, "--resource", _VAULT, *_QUIET)]
    for key in vault.keys:
        on_key = line(*lock, "--resource", (_VAULT, f"/keys/{key.uri.key_name}"), *_QUIET)
        commands.append(
            f"{on_key} || echo {quoted(f'No lock of its own: key {key.uri.key_name}; the lock of the vault applies.')}"
        )
    why = (
        "It prevents the deletion of the vault by accident. It does not prevent the deletion of a key in the vault, which purge "
        "protection makes recoverable. It also prevents the removal of role assignments: to withdraw access, remove the lock first, "
        "or disable every version of the key (role Key Vault Crypto Officer, or the key permissions list and update)."
    )
    return Step(f"Lock {vault.name}", LOCKS, why, "\n".join(commands))


def _report(handover: Handover) -> Step:
    uris = [str(key.uri) for vault in handover.vaults for key in vault.keys]
    command = line("printf", r"%s\n", *uris) if uris else ""
    why = (
        "The provider needs the identifiers of the keys for its manifests: without a version, to follow each rotation, or with the "
        "version printed above, to stay on it."
    )
    return Step("Send what was printed to the provider", "the customer's administrator", why, command)
