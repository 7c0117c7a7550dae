"""Key Vault's control plane (Microsoft.KeyVault/vaults)."""

from __future__ import annotations

import re
import uuid
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import AccessPolicy, NameAvailability, VaultBody, VaultProperties, parsed
from sandbox.azure.arm.identities import not_found
from sandbox.azure.arm.resources import serve
from sandbox.azure.arm.subscriptions import normalized_location
from sandbox.azure.clock import whole_seconds
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.key_vault.data_plane import read_only
from sandbox.azure.key_vault.model import NetworkRules, Vault

if TYPE_CHECKING:
    from sandbox.azure.arm.bodies import VaultNetworkAcls
    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.clock import Clock
    from sandbox.azure.key_vault.model import Vaults

KIND = "Microsoft.KeyVault/vaults"
RBAC_IS_THE_DEFAULT = "2026-02-01"
PRIVATE_NETWORKS = tuple(IPv4Network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
SUBNET_ID = "/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/]+/providers/Microsoft.Network/virtualNetworks/[^/]+/subnets/[^/]+"
SWITCHES = {
    "enabledForDeployment": "enabled_for_deployment",
    "enabledForDiskEncryption": "enabled_for_disk_encryption",
    "enabledForTemplateDeployment": "enabled_for_template_deployment",
}


def shown(vault: Vault) -> dict[str, Any]:
    """As ARM answers: purge protection is absent while it is off."""
    properties: dict[str, Any] = {
        "sku": vault.sku,
        "tenantId": vault.tenant_id,
        "accessPolicies": [one.model_dump(by_alias=True, exclude_none=True) for one in vault.access_policies],
        **vault.switches,
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": vault.retention_days,
        "enableRbacAuthorization": vault.rbac,
        "vaultUri": vault.uri,
        "provisioningState": "Succeeded",
        "publicNetworkAccess": vault.public_network_access,
    }
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
            "createdByType": "Application",
            "createdAt": whole_seconds(vault.created),
            "lastModifiedByType": "Application",
            "lastModifiedAt": whole_seconds(vault.created),
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


def refuse_in_failover(vault: Vault, operation: str) -> None:
    """In the paired region no property of a vault, no access policy and no firewall can be changed. Raises ArmRefusedError 503.

    That it cannot is documented; the words are the data plane's.
    """
    if vault.failed_over:
        raise ArmRefusedError(503, "ServiceUnavailable", read_only(operation))


def apply(vault: Vault, properties: VaultProperties) -> None:
    """Write what was sent; what cannot be undone is refused."""
    _refuse_what_cannot_be_undone(vault, properties)
    if properties.enable_purge_protection:
        vault.purge_protection = True
    if properties.enable_rbac_authorization is not None:
        vault.rbac = properties.enable_rbac_authorization
    if properties.access_policies is not None:
        vault.access_policies = list(properties.access_policies)
    if properties.public_network_access is not None:
        choices = ("Enabled", "Disabled", "SecuredByPerimeter")
        vault.public_network_access = _choice("publicNetworkAccess", properties.public_network_access, choices)
    if properties.sku is not None:
        vault.sku = properties.sku.model_dump()
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


def _network_rules(acls: VaultNetworkAcls) -> NetworkRules:
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
        raise bad_request(f"The value '{value}' of '{name}' is not one of {', '.join(choices)}.")
    return found


class VaultOperations:
    """The operations."""

    def __init__(self, gateway: Gateway, vaults: Vaults, clock: Clock) -> None:
        self._gateway = gateway
        self._vaults = vaults
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
        # The az CLI looks for vaults by name with the general list of resources, and for managed HSMs beside them.
        add("GET", f"{subscription}/resources", self.resources, kind="Microsoft.Resources/resources", action=None)
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

    async def resources(self, call: ArmCall) -> Answer:
        """Vaults only: `$filter` by resourceType, and by name if one is asked for, in any order."""
        text = call.exchange.query.get("$filter", "")
        terms = [re.fullmatch(r"(resourceType|name) eq '([^']+)'", one) for one in text.split(" and ")]
        wanted = {one.group(1): one.group(2).lower() for one in terms if one is not None}
        if None in terms or len(wanted) != len(terms) or wanted.get("resourceType") != KIND.lower():
            raise ArmRefusedError(400, "InvalidFilterInQueryString", f"Invalid $filter '{text}' specified in the query string.")
        found = [
            {"id": one.id, "name": one.name, "type": KIND, "location": one.location, "tags": one.tags}
            for one in self._vaults.all_live()
            if one.id.lower().startswith(f"/subscriptions/{call['subscription']}/".lower())
            and wanted.get("name") in {None, one.name.lower()}
            and self._gateway.authorization.allows(call.caller.object_id, f"{KIND}/read", one.id)
        ]
        return Answer(json={"value": found})

    async def list(self, call: ArmCall) -> Answer:
        """Of a subscription or a group."""
        prefix = call.scope.lower() + "/"
        return Answer(json={"value": [shown(one) for one in self._vaults.all_live() if one.id.lower().startswith(prefix)]})

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
        if not re.fullmatch(r"[a-zA-Z](?!.*--)[a-zA-Z0-9-]{1,22}[a-zA-Z0-9]", name):
            raise ArmRefusedError(
                400,
                "VaultNameNotValid",
                f"The vault name '{name}' is invalid. A vault's name must be between 3-24 alphanumeric characters. The name must begin "
                "with a letter, end with a letter or digit, and not contain consecutive hyphens. Follow this link for more "
                "information: https://go.microsoft.com/fwlink/?linkid=2147742",
            )
        existing = self._vaults.live(name)
        if existing is not None and existing.id.lower() != resource_id.lower():
            raise ArmRefusedError(
                409,
                "VaultAlreadyExists",
                f"The vault name '{name}' is already in use. Vault names are globally unique so it is possible that the name is already "
                "taken. If you are sure that the vault name was not taken then it is possible that a vault with the same name was "
                "recently deleted but not purged after being placed in a recoverable state. If the vault is in a recoverable state then "
                "the vault will need to be purged before reusing the name. For more information on soft delete and purging a vault "
                "follow this link https://go.microsoft.com/fwlink/?linkid=2147740.",
            )
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
        if existing is not None:
            existing.replace_settings(self._clock.now())
        vault = existing or self._new(call, resource_id, name, body.location, properties)
        apply(vault, properties)
        if body.tags is not None:
            vault.tags = body.tags
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
        try:
            uuid.UUID(properties.tenant_id)
        except ValueError:
            raise bad_request(f"The tenantId '{properties.tenant_id}' is not a GUID.") from None
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
            sku=properties.sku.model_dump(),
            rbac=rbac,
            retention_days=days,
            purge_protection=False,
            created=self._clock.now(),
            switches={"enabledForDeployment": False},
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
        return Answer(200, shown(vault))

    async def policies(self, call: ArmCall) -> Answer:
        """Add, replace or remove access policies."""
        vault = self._found(call)
        refuse_in_failover(vault, "VaultAccessPolicyChange")
        raw = (call.body().get("properties") or {}).get("accessPolicies") or []
        policies = [parsed(AccessPolicy, one) for one in raw]
        operation = call["operation"].lower()
        if operation not in {"add", "replace", "remove"}:
            raise bad_request(f"The operation '{operation}' is not supported.")
        named = {one.object_id for one in policies}
        vault.replace_settings(self._clock.now())
        kept = [one for one in vault.access_policies if one.object_id not in named]
        vault.access_policies = policies if operation == "replace" else kept + (policies if operation == "add" else [])
        answer = {"accessPolicies": [one.model_dump(by_alias=True, exclude_none=True) for one in vault.access_policies]}
        return Answer(json={"id": vault.id + "/accessPolicies/", "type": f"{KIND}/accessPolicies", "properties": answer})

    async def delete(self, call: ArmCall) -> Answer:
        """To the recoverable state; the role assignments on the vault and its keys are gone, and a recovery does not bring them back."""
        vault = self._found(call)
        refuse_in_failover(vault, "VaultDelete")
        self._vaults.soft_delete(vault, self._clock.now())
        self._gateway.authorization.forget_below(vault.id)
        return Answer(200)

    async def list_deleted(self, call: ArmCall) -> Answer:
        """All soft-deleted vaults of a subscription."""
        prefix = f"/subscriptions/{call['subscription']}/".lower()
        found = [deleted_shown(one) for one in self._vaults.all_deleted(self._clock.now()) if one.id.lower().startswith(prefix)]
        return Answer(json={"value": found})

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
        return Answer(200)

    async def no_managed_hsms(self, call: ArmCall) -> Answer:
        """There are none here."""
        del call
        return Answer(json={"value": []})

    async def available(self, call: ArmCall) -> Answer:
        """Whether the name is free, deleted vaults included."""
        name = parsed(NameAvailability, call.body()).name
        taken = self._vaults.live(name) is not None or self._vaults.deleted(name, self._clock.now()) is not None
        if not taken:
            return Answer(json={"nameAvailable": True})
        return Answer(
            json={"nameAvailable": False, "reason": "AlreadyExists", "message": f"The name '{name}' is already in use."}
        )
