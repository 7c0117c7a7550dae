"""Key Vault's control plane (Microsoft.KeyVault/vaults)."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import NameAvailability, VaultBody, VaultPoliciesBody, VaultProperties, parsed
from sandbox.azure.arm.identities import not_found
from sandbox.azure.arm.operations import OperationKind
from sandbox.azure.arm.resources import location_of, page, serve
from sandbox.azure.arm.subscriptions import normalized_location
from sandbox.azure.clock import milliseconds, whole_seconds
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.key_vault.data_plane import read_only
from sandbox.azure.key_vault.model import NetworkRules, Vault

if TYPE_CHECKING:
    from sandbox.azure.arm.bodies import AccessPolicy, VaultNetworkAcls, VaultSku
    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.arm.operations import Operations
    from sandbox.azure.clock import Clock
    from sandbox.azure.key_vault.model import Vaults
    from sandbox.azure.timings import Timings

KIND = "Microsoft.KeyVault/vaults"
PURGE = OperationKind("Microsoft.KeyVault", "operationResults", "operationResults")
NAME = re.compile(r"[a-zA-Z](?!.*--)[a-zA-Z0-9-]{1,22}[a-zA-Z0-9]")
RBAC_IS_THE_DEFAULT = "2026-02-01"
PRIVATE_NETWORKS = tuple(IPv4Network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
SUBNET_ID = "/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/]+/providers/Microsoft.Network/virtualNetworks/[^/]+/subnets/[^/]+"
MOST_POLICIES, MOST_ADDRESSES, MOST_SUBNETS = 1024, 1000, 200
"""https://learn.microsoft.com/azure/key-vault/general/assign-access-policy and network-security."""
PERMISSIONS = {
    "keys": frozenset(
        [
            "all",
            "encrypt",
            "decrypt",
            "wrapkey",
            "unwrapkey",
            "sign",
            "verify",
            "get",
            "list",
            "create",
            "update",
            "import",
            "delete",
            "backup",
            "restore",
            "recover",
            "purge",
            "release",
            "rotate",
            "getrotationpolicy",
            "setrotationpolicy",
        ]
    ),
    "secrets": frozenset(["all", "get", "list", "set", "delete", "backup", "restore", "recover", "purge"]),
    "certificates": frozenset(
        [
            "all",
            "get",
            "list",
            "delete",
            "create",
            "import",
            "update",
            "managecontacts",
            "getissuers",
            "listissuers",
            "setissuers",
            "deleteissuers",
            "manageissuers",
            "recover",
            "purge",
            "backup",
            "restore",
        ]
    ),
    "storage": frozenset(
        [
            "all",
            "get",
            "list",
            "delete",
            "set",
            "update",
            "regeneratekey",
            "recover",
            "purge",
            "backup",
            "restore",
            "setsas",
            "listsas",
            "getsas",
            "deletesas",
        ]
    ),
}
SWITCHES = {
    "enabledForDeployment": "enabled_for_deployment",
    "enabledForDiskEncryption": "enabled_for_disk_encryption",
    "enabledForTemplateDeployment": "enabled_for_template_deployment",
}


def shown(vault: Vault) -> dict[str, Any]:
    """As ARM answers: purge protection is absent while it is off, and so is a permission model that nobody ever named."""
    properties: dict[str, Any] = {
        "sku": vault.sku,
        "tenantId": vault.tenant_id,
        "accessPolicies": [one.model_dump(by_alias=True, exclude_none=True) for one in vault.access_policies],
        **vault.switches,
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": vault.retention_days,
        "vaultUri": vault.uri,
        "provisioningState": "Succeeded",
        "publicNetworkAccess": vault.public_network_access,
    }
    if vault.rbac or vault.rbac_was_sent:
        properties["enableRbacAuthorization"] = vault.rbac
    if vault.purge_protection:
        properties["enablePurgeProtection"] = True
    if vault.network is not None:
        properties["networkAcls"] = {
            "bypass": vault.network.bypass,
            "defaultAction": vault.network.default_action,
            "ipRules": [{"value": one} for one in vault.network.ip_rules],
            "virtualNetworkRules": vault.network.virtual_network_rules,
        }
    return {
        "id": vault.id,
        "name": vault.name,
        "type": KIND,
        "location": vault.location,
        "tags": vault.tags,
        "systemData": {
            "createdBy": vault.creator,
            "createdByType": "Application",
            "createdAt": milliseconds(vault.created),
            "lastModifiedBy": vault.modifier,
            "lastModifiedByType": "Application",
            "lastModifiedAt": milliseconds(vault.modified),
        },
        "properties": properties,
    }


def deleted_shown(vault: Vault) -> dict[str, Any]:
    """A soft-deleted vault."""
    subscription = vault.id.split("/")[2]
    properties: dict[str, Any] = {
        "vaultId": vault.id,
        "location": vault.location,
        "deletionDate": whole_seconds(vault.deleted or 0),
        "scheduledPurgeDate": whole_seconds(vault.purge_at or 0),
        "tags": vault.tags,
    }
    if vault.purge_protection:
        properties["purgeProtectionEnabled"] = True
    root = f"/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/{vault.location}/deletedVaults/{vault.name}"
    return {"id": root, "name": vault.name, "type": "Microsoft.KeyVault/deletedVaults", "properties": properties}


def bad_request(message: str) -> ArmRefusedError:
    """The resource provider's 400."""
    return ArmRefusedError(400, "BadRequest", message)


def invalid(name: str) -> ArmRefusedError:
    """What the resource provider says of a value, without a reason."""
    return bad_request(f"An invalid value was provided for '{name}'.")


def refuse_in_failover(vault: Vault, operation: str) -> None:
    """In the paired region no property of a vault, no access policy and no firewall can be changed. Raises ArmRefusedError 503.

    That it cannot is documented; the words are the data plane's.
    """
    if vault.failed_over:
        raise ArmRefusedError(503, "ServiceUnavailable", read_only(operation))


def apply(vault: Vault, properties: VaultProperties) -> None:
    """Write what was sent; what cannot be undone is refused."""
    _refuse_what_cannot_be_undone(vault, properties)
    if properties.tenant_id is not None and properties.tenant_id.lower() != vault.tenant_id:
        raise invalid("tenantId")
    if properties.enable_purge_protection:
        vault.purge_protection = True
    if properties.enable_rbac_authorization is not None:
        vault.rbac, vault.rbac_was_sent = properties.enable_rbac_authorization, True
    if properties.access_policies is not None:
        vault.access_policies = checked_policies(properties.access_policies)
    if properties.public_network_access is not None:
        choices = ("Enabled", "Disabled", "SecuredByPerimeter")
        vault.public_network_access = _choice("publicNetworkAccess", properties.public_network_access, choices)
    if properties.sku is not None:
        vault.sku = _sku(properties.sku)
    if properties.network_acls is not None:
        vault.network = _network_rules(properties.network_acls)
    for wire, name in SWITCHES.items():
        value = getattr(properties, name)
        if value is not None:
            vault.switches[wire] = value


def _refuse_what_cannot_be_undone(vault: Vault, properties: VaultProperties) -> None:
    if properties.enable_soft_delete is False:
        raise bad_request(
            'The property "enableSoftDelete" can be set to false only for creating new vault. Enabling the soft delete functionality is '
            "irreversible."
        )
    if properties.enable_purge_protection is False:
        raise bad_request(
            'The property "enablePurgeProtection" cannot be set to false. Enabling the purge protection for a vault is an irreversible action.'
        )
    days = properties.soft_delete_retention_in_days
    if days is not None and days != vault.retention_days:
        raise bad_request('The property "softDeleteRetentionInDays" has been set already and it can\'t be modified.')


def checked_policies(policies: list[AccessPolicy]) -> list[AccessPolicy]:
    """Raises ArmRefusedError 400: words and cases in Azure/azure-libraries-for-net#361 and Azure/azure-cli#18430."""
    if len(policies) > MOST_POLICIES:
        raise invalid("accessPolicies")
    for policy in policies:
        if not all(_is_guid(one) for one in (policy.tenant_id, policy.object_id, policy.application_id) if one is not None):
            raise invalid("accessPolicies")
        for kind, known in PERMISSIONS.items():
            if any(one.lower() not in known for one in getattr(policy.permissions, kind) or ()):
                raise invalid("accessPolicies")
    return list(policies)


def _is_guid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text, re.IGNORECASE) is not None


def _sku(sku: VaultSku) -> dict[str, str]:
    return {"family": _choice("sku.family", sku.family, ("A",)), "name": _choice("sku.name", sku.name, ("standard", "premium"))}


def _network_rules(acls: VaultNetworkAcls) -> NetworkRules:
    if len(acls.ip_rules or ()) > MOST_ADDRESSES or len(acls.virtual_network_rules or ()) > MOST_SUBNETS:
        raise invalid("networkAcls")
    return NetworkRules(
        _choice("networkAcls.bypass", acls.bypass or "AzureServices", ("AzureServices", "None")),
        _choice("networkAcls.defaultAction", acls.default_action or "Allow", ("Allow", "Deny")),
        [_address(one.value) for one in acls.ip_rules or ()],
        [_subnet(one.id) for one in acls.virtual_network_rules or ()],
    )


def _address(text: str) -> str:
    """Public IPv4 only; one address is a range of one (https://learn.microsoft.com/azure/key-vault/general/network-security)."""
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        raise bad_request(
            f"The value '{text}' of 'networkAcls.ipRules' is not an IPv4 address or range in CIDR notation."
        ) from None
    if any(network.overlaps(one) for one in PRIVATE_NETWORKS):
        raise bad_request(f"The value '{text}' of 'networkAcls.ipRules' is in a range that is reserved for private networks.")
    return str(network)


def _subnet(subnet_id: str) -> dict[str, Any]:
    if not re.fullmatch(SUBNET_ID, subnet_id, re.IGNORECASE):
        raise bad_request(f"The value '{subnet_id}' of 'networkAcls.virtualNetworkRules' is not the id of a subnet.")
    return {"id": subnet_id.lower(), "ignoreMissingVnetServiceEndpoint": False}


def _choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    found = next((one for one in choices if one.lower() == value.lower()), None)
    if found is None:
        raise invalid(name)
    return found


def not_a_name(name: str) -> str:
    """Of a vault."""
    return (
        f"The vault name '{name}' is invalid. A vault's name must be between 3-24 alphanumeric characters. The name must begin with a "
        "letter, end with a letter or digit, and not contain consecutive hyphens. Follow this link for more information: "
        "https://go.microsoft.com/fwlink/?linkid=2147742"
    )


def in_use(name: str) -> str:
    """Of a vault, live or deleted."""
    return (
        f"The vault name '{name}' is already in use. Vault names are globally unique so it is possible that the name is already taken. "
        "If you are sure that the vault name was not taken then it is possible that a vault with the same name was recently deleted but "
        "not purged after being placed in a recoverable state. If the vault is in a recoverable state then the vault will need to be "
        "purged before reusing the name. For more information about VaultAlreadyExists, soft delete and purging a vault follow this link "
        "https://go.microsoft.com/fwlink/?linkid=2147740."
    )


class VaultOperations:
    """The operations."""

    def __init__(self, gateway: Gateway, vaults: Vaults, operations: Operations, clock: Clock, timings: Timings) -> None:
        self._gateway = gateway
        self._vaults = vaults
        self._operations = operations
        self._timings = timings
        operations.serve(PURGE)
        self._clock = clock
        subscription, namespace = "/subscriptions/{subscription}", "Microsoft.KeyVault"
        one, add = serve(gateway, KIND, self), gateway.add
        add("PUT", f"{one}/accessPolicies/{{operation}}", self.policies, kind=KIND, action=f"{KIND}/accessPolicies/write")
        deleted = f"{namespace}/deletedVaults"
        add("GET", f"{subscription}/providers/{deleted}", self.list_deleted, kind=deleted, action=f"{deleted}/read")
        at = f"{subscription}/providers/{namespace}/locations/{{location}}/deletedVaults/{{name}}"
        add("GET", at, self.get_deleted, kind=deleted, action=f"{namespace}/locations/deletedVaults/read")
        add("POST", f"{at}/purge", self.purge, kind=deleted, action=f"{namespace}/locations/deletedVaults/purge/action")
        check = f"{namespace}/checkNameAvailability"
        add("POST", f"{subscription}/providers/{check}", self.available, kind=check, action=f"{check}/read")
        # The az CLI looks for managed HSMs beside vaults.
        for other in ("managedHSMs", "deletedManagedHSMs"):
            kind = f"{namespace}/{other}"
            add("GET", f"{subscription}/providers/{kind}", self.no_managed_hsms, kind=kind, action=f"{kind}/read")

    def _id(self, call: ArmCall) -> str:
        group = self._gateway.subscriptions[call["subscription"]].group(call["group"])
        return f"/subscriptions/{call['subscription']}/resourceGroups/{group.name}/providers/{KIND}/{call['name']}"

    def _found(self, call: ArmCall) -> Vault:
        resource_id = self._id(call)
        vault = self._vaults.live(call["name"])
        if vault is None or vault.id.lower() != resource_id.lower():
            raise not_found(KIND, call["name"], call["group"])
        return vault

    async def list(self, call: ArmCall) -> Answer:
        """Of a subscription or a group, in pages."""
        prefix = call.scope.lower() + "/"
        found = [one for one in self._vaults.all_live() if one.id.lower().startswith(prefix)]
        return page(call, found, shown, int(self._timings.list_page_size))

    async def get(self, call: ArmCall) -> Answer:
        """One vault."""
        return Answer(json=shown(self._found(call)))

    async def put(self, call: ArmCall) -> Answer:
        """Create, recover or replace."""
        body = parsed(VaultBody, call.body())
        resource_id, properties = self._id(call), body.properties
        if properties is None or body.location is None:
            raise ArmRefusedError(400, "LocationRequired", "The location property is required for this definition.")
        name = call["name"]
        if not NAME.fullmatch(name):
            raise ArmRefusedError(400, "VaultNameNotValid", not_a_name(name))
        existing = self._vaults.live(name)
        if existing is not None and existing.id.lower() != resource_id.lower():
            raise ArmRefusedError(409, "VaultAlreadyExists", in_use(name))
        if properties.create_mode == "recover":
            return self._recovered(name)
        deleted = self._vaults.deleted(name, self._clock.now())
        if deleted is not None:
            raise ArmRefusedError(
                409,
                "ConflictError",
                "A vault with the same name already exists in deleted state. You need to either recover or purge existing key vault. "
                "Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.",
            )
        if existing is not None:
            refuse_in_failover(existing, "VaultPut")
            location_of(call, normalized_location(body.location), existing.location)
        if existing is not None:
            existing.replace_settings(self._clock.now())
        vault = existing or self._new(call, resource_id, name, body.location, properties)
        apply(vault, properties)
        if body.tags is not None:
            vault.tags = body.tags
        self._modified(vault, call)
        self._vaults.add(vault)
        return Answer(200, shown(vault))

    def _recovered(self, name: str) -> Answer:
        deleted = self._vaults.deleted(name, self._clock.now())
        if deleted is None:
            raise ArmRefusedError(404, "DeletedVaultNotFound", f"The specified deleted vault '{name}' does not exist.")
        deleted.deleted, deleted.purge_at, deleted.recovered = None, None, self._clock.now()
        self._vaults.add(deleted)
        return Answer(200, shown(deleted))

    def _new(self, call: ArmCall, resource_id: str, name: str, location: str, properties: VaultProperties) -> Vault:
        if properties.tenant_id is None or properties.sku is None:
            raise bad_request("The parameters 'tenantId' and 'sku' are required.")
        if not _is_guid(properties.tenant_id):
            raise invalid("tenantId")
        if properties.tenant_id.lower() != call.caller.tenant_id:
            raise bad_request("The tenantId of a new vault must be the tenant of its subscription.")
        # https://learn.microsoft.com/azure/key-vault/general/access-control-default: of creation only, from that version on.
        rbac_by_default = call.exchange.query["api-version"].lower() >= RBAC_IS_THE_DEFAULT
        rbac = rbac_by_default if properties.enable_rbac_authorization is None else properties.enable_rbac_authorization
        if properties.access_policies is None and not rbac:
            raise bad_request('The parameter "accessPolicies" is not specified.')
        days = properties.soft_delete_retention_in_days or 90
        if not 7 <= days <= 90:
            raise bad_request('The property "softDeleteRetentionInDays" must be between 7 and 90.')
        return Vault(
            id=resource_id,
            name=name,
            location=normalized_location(location),
            tenant_id=properties.tenant_id.lower(),
            sku=_sku(properties.sku),
            rbac=rbac,
            rbac_was_sent=properties.enable_rbac_authorization is not None,
            retention_days=days,
            purge_protection=False,
            created=self._clock.now(),
            creator=call.caller.app_id,
            switches=dict.fromkeys(SWITCHES, False),
        )

    async def patch(self, call: ArmCall) -> Answer:
        """Change what was sent."""
        vault, body = self._found(call), parsed(VaultBody, call.body())
        refuse_in_failover(vault, "VaultPatch")
        if body.properties is not None:
            vault.replace_settings(self._clock.now())
            apply(vault, body.properties)
        if body.tags is not None:
            vault.tags = body.tags
        self._modified(vault, call)
        return Answer(200, shown(vault))

    def _modified(self, vault: Vault, call: ArmCall) -> None:
        vault.modified, vault.modifier = self._clock.now(), call.caller.app_id

    async def policies(self, call: ArmCall) -> Answer:
        """Add, replace or remove access policies."""
        vault = self._found(call)
        refuse_in_failover(vault, "VaultAccessPolicyChange")
        policies = checked_policies(parsed(VaultPoliciesBody, call.body()).properties.access_policies)
        operation = call["operation"].lower()
        if operation not in {"add", "replace", "remove"}:
            raise bad_request(f"The operation '{operation}' is not supported.")
        named = {one.object_id.lower() for one in policies}
        kept = [one for one in vault.access_policies if one.object_id.lower() not in named]
        after = policies if operation == "replace" else kept + (policies if operation == "add" else [])
        vault.replace_settings(self._clock.now())
        vault.access_policies = checked_policies(after)
        self._modified(vault, call)
        answer = {"accessPolicies": [one.model_dump(by_alias=True, exclude_none=True) for one in vault.access_policies]}
        return Answer(json={"id": vault.id + "/accessPolicies/", "type": f"{KIND}/accessPolicies", "properties": answer})

    async def delete(self, call: ArmCall) -> Answer:
        """To the recoverable state; the role assignments on the vault and its keys are gone, and a recovery does not bring them back."""
        vault = self._found(call)
        refuse_in_failover(vault, "VaultDelete")
        self._vaults.soft_delete(vault, self._clock.now())
        return Answer(200)

    async def list_deleted(self, call: ArmCall) -> Answer:
        """All soft-deleted vaults of a subscription, in pages."""
        prefix = f"/subscriptions/{call['subscription']}/".lower()
        found = [one for one in self._vaults.all_deleted(self._clock.now()) if one.id.lower().startswith(prefix)]
        return page(call, found, deleted_shown, int(self._timings.list_page_size))

    def _deleted(self, call: ArmCall) -> Vault:
        vault = self._vaults.deleted(call["name"], self._clock.now())
        if vault is None or vault.location != normalized_location(call["location"]):
            raise ArmRefusedError(404, "DeletedVaultNotFound", f"The specified deleted vault '{call['name']}' does not exist.")
        return vault

    async def get_deleted(self, call: ArmCall) -> Answer:
        """One soft-deleted vault."""
        return Answer(json=deleted_shown(self._deleted(call)))

    async def purge(self, call: ArmCall) -> Answer:
        """For ever; refused under purge protection."""
        vault = self._deleted(call)
        if vault.purge_protection:
            raise ArmRefusedError(
                400,
                "DeletedVaultPurge",
                f"Operation 'DeletedVaultPurge' is not allowed on vault '{vault.name}' with purge protection enabled.",
            )
        self._vaults.purge(vault)
        return self._operations.started(call, PURGE, vault.location, seconds=0, result=dict)

    async def no_managed_hsms(self, call: ArmCall) -> Answer:
        """There are none here."""
        del call
        return Answer(json={"value": []})

    async def available(self, call: ArmCall) -> Answer:
        """Whether the name is free, deleted vaults included."""
        asked = parsed(NameAvailability, call.body())
        name = asked.name
        if asked.type.lower() != KIND.lower():
            raise invalid("type")
        if not NAME.fullmatch(name):
            return Answer(json={"nameAvailable": False, "reason": "AccountNameInvalid", "message": not_a_name(name)})
        taken = self._vaults.live(name) is not None or self._vaults.deleted(name, self._clock.now()) is not None
        if not taken:
            return Answer(json={"nameAvailable": True})
        return Answer(json={"nameAvailable": False, "reason": "AlreadyExists", "message": in_use(name)})
