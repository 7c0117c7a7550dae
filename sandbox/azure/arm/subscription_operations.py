"""The operations on tenants, subscriptions, resource groups and the list of resource providers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import ResourceGroupBody, SubscriptionAlias, parsed
from sandbox.azure.arm.resources import page
from sandbox.azure.arm.subscriptions import LOCATIONS, ResourceGroup, Subscription, normalized_location
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.arm.inventory import Inventory
    from sandbox.azure.entra.directory import Directory

PROVIDERS = {
    "Microsoft.Authorization": ("roleAssignments", "roleDefinitions", "locks"),
    "Microsoft.Compute": ("diskEncryptionSets", "disks", "virtualMachines"),
    "Microsoft.KeyVault": ("vaults", "deletedVaults", "vaults/keys"),
    "Microsoft.ManagedIdentity": ("userAssignedIdentities",),
    "Microsoft.Resources": ("subscriptions", "resourceGroups", "tenants"),
    "Microsoft.Sql": ("servers", "servers/databases"),
    "Microsoft.Storage": ("storageAccounts",),
}


class SubscriptionOperations:
    """The Microsoft.Resources operations."""

    def __init__(
        self,
        gateway: Gateway,
        directory: Directory,
        inventory: Inventory,
        give: Callable[[Subscription, str], None],
    ) -> None:
        self._gateway = gateway
        self._directory = directory
        self._inventory = inventory
        self._give = give
        one, groups = "/subscriptions/{subscription}", "/subscriptions/{subscription}/resourcegroups"
        prefix = "Microsoft.Resources/subscriptions"
        add = gateway.add
        add("GET", "/tenants", self.tenants, kind="Microsoft.Resources/tenants", action=None)
        add("GET", "/subscriptions", self.list, kind=prefix, action=None)
        aliases = "Microsoft.Subscription/aliases"
        add("PUT", f"/providers/{aliases}/{{alias}}", self.put_alias, kind=aliases, action=None)
        add("GET", one, self.get, kind=prefix, action=f"{prefix}/read")
        add("GET", f"{one}/locations", self.locations, kind=prefix, action=f"{prefix}/read")
        kind = "Microsoft.Resources/resourceGroups"
        add("GET", groups, self.groups, kind=kind, action=f"{prefix}/resourceGroups/read")
        add("PUT", f"{groups}/{{group}}", self.put_group, kind=kind, action=f"{prefix}/resourceGroups/write")
        add("GET", f"{groups}/{{group}}", self.get_group, kind=kind, action=f"{prefix}/resourceGroups/read")
        add("HEAD", f"{groups}/{{group}}", self.has_group, kind=kind, action=f"{prefix}/resourceGroups/read")
        add("DELETE", f"{groups}/{{group}}", self.delete_group, kind=kind, action=f"{prefix}/resourceGroups/delete")
        providers = "Microsoft.Resources/providers"
        add("GET", f"{one}/providers", self.providers, kind=providers, action=f"{prefix}/read")
        add("GET", f"{one}/providers/{{namespace}}", self.provider, kind=providers, action=f"{prefix}/read")
        add("POST", f"{one}/providers/{{namespace}}/register", self.provider, kind=providers, action=f"{prefix}/read")

    async def tenants(self, call: ArmCall) -> Answer:
        """The tenants of the caller."""
        tenant = self._directory.tenants[call.caller.tenant_id]
        value = {
            "id": f"/tenants/{tenant.id}",
            "tenantId": tenant.id,
            "countryCode": "DE",
            "displayName": tenant.display_name,
            "domains": [tenant.domain],
            "tenantCategory": "Home",
            "defaultDomain": tenant.domain,
            "tenantType": "AAD",
        }
        return Answer(json={"value": [value]})

    @staticmethod
    def _shown(subscription: Subscription) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/{subscription.id}",
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
            "subscriptionId": subscription.id,
            "tenantId": subscription.tenant_id,
            "displayName": subscription.name,
            "state": "Enabled",
            "subscriptionPolicies": {
                "locationPlacementId": "Public_2014-09-01",
                "quotaId": "PayAsYouGo_2014-09-01",
                "spendingLimit": "Off",
            },
        }

    async def list(self, call: ArmCall) -> Answer:
        """The subscriptions in which the caller has any role."""
        rights = self._gateway.authorization
        mine = [
            one
            for one in self._gateway.subscriptions.of_tenant(call.caller.tenant_id)
            if rights.knows_below(call.caller.object_id, f"/subscriptions/{one.id}")
        ]
        return page(call, mine, self._shown, self._gateway.list_page_size)

    async def put_alias(self, call: ArmCall) -> Answer:
        """Create a subscription of the caller's; the same alias again is the same subscription.

        Azure lets whoever may use the billing scope do so: here the administrators of the tenant.
        """
        wanted, alias = parsed(SubscriptionAlias, call.body()).properties, call["alias"]
        tenant, subscriptions = self._directory.tenants[call.caller.tenant_id], self._gateway.subscriptions
        if call.caller.object_id not in tenant.administrators:
            raise ArmRefusedError(
                401, "UserNotAuthorized", "User is not authorized to create subscriptions on this enrollment account"
            )
        mine = (one for one in subscriptions.of_tenant(tenant.id) if one.alias == alias.lower())
        found = next(mine, None)
        made = found or subscriptions.add(wanted.display_name, tenant.id, alias)
        if found is None:
            self._give(made, call.caller.object_id)
        value = {
            "id": f"/providers/Microsoft.Subscription/aliases/{alias}",
            "name": alias,
            "type": "Microsoft.Subscription/aliases",
            "properties": {"subscriptionId": made.id, "provisioningState": "Succeeded"},
        }
        return Answer(200 if found else 201, value)

    async def get(self, call: ArmCall) -> Answer:
        """One subscription."""
        return Answer(json=self._shown(self._gateway.subscriptions[call["subscription"]]))

    async def locations(self, call: ArmCall) -> Answer:
        """The regions."""
        root = f"/subscriptions/{call['subscription']}/locations"
        metadata = {"regionType": "Physical", "regionCategory": "Recommended"}
        value = [
            {
                "id": f"{root}/{name}",
                "name": name,
                "type": "Region",
                "displayName": shown,
                "regionalDisplayName": shown,
                "metadata": metadata,
            }
            for name, shown in LOCATIONS.items()
        ]
        return Answer(json={"value": value})

    @staticmethod
    def _group_shown(subscription: str, group: ResourceGroup) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/{subscription}/resourceGroups/{group.name}",
            "name": group.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": group.location,
            **({"tags": group.tags} if group.tags else {}),
            "properties": {"provisioningState": "Succeeded"},
        }

    async def groups(self, call: ArmCall) -> Answer:
        """All groups of a subscription."""
        name = call["subscription"]
        found = list(self._gateway.subscriptions[name].groups.values())
        return page(call, found, lambda one: self._group_shown(name, one), self._gateway.list_page_size)

    async def put_group(self, call: ArmCall) -> Answer:
        """Create a group or replace its tags; it cannot move.

        Names: https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules.
        """
        if not re.fullmatch(r"[\w.()-]{0,89}[\w()-]", call["group"]):
            raise ArmRefusedError(
                400,
                "InvalidResourceGroup",
                f"The provided resource group name '{call['group']}' is not valid. It has at most 90 letters, digits, '-', '.', '(', ')' "
                "or '_', and does not end with a period.",
            )
        body = parsed(ResourceGroupBody, call.body())
        location = normalized_location(body.location)
        subscription = self._gateway.subscriptions[call["subscription"]]
        existing = subscription.groups.get(call["group"].lower())
        if existing and existing.location != location:
            raise ArmRefusedError(
                409,
                "InvalidResourceGroupLocation",
                f"Invalid resource group location '{location}'. The Resource group already exists in location '{existing.location}'.",
            )
        group = ResourceGroup(existing.name if existing else call["group"], location, body.tags or {})
        subscription.groups[group.name.lower()] = group
        return Answer(200 if existing else 201, self._group_shown(subscription.id, group))

    async def get_group(self, call: ArmCall) -> Answer:
        """One group."""
        subscription = self._gateway.subscriptions[call["subscription"]]
        return Answer(json=self._group_shown(subscription.id, subscription.group(call["group"])))

    async def has_group(self, call: ArmCall) -> Answer:
        """204 if it exists, 404 if not."""
        exists = call["group"].lower() in self._gateway.subscriptions[call["subscription"]].groups
        return Answer(204 if exists else 404)

    async def delete_group(self, call: ArmCall) -> Answer:
        """Only an empty group: this Azure does not delete what is in it."""
        subscription = self._gateway.subscriptions[call["subscription"]]
        group = subscription.group(call["group"])
        inside = [one.id for one in self._inventory.under(call.scope)]
        if inside:
            raise ArmRefusedError(
                409,
                "ResourceGroupDeletionBlocked",
                f"Deletion of resource group '{group.name}' failed as resources with identifiers "
                f"'{', '.join(inside)}' exist. Delete them first.",
            )
        del subscription.groups[group.name.lower()]
        return Answer(200)

    def _provider_shown(self, subscription: str, namespace: str) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/{subscription}/providers/{namespace}",
            "namespace": namespace,
            "registrationState": "Registered",
            "registrationPolicy": "RegistrationRequired",
            "resourceTypes": [
                {
                    "resourceType": kind,
                    "locations": list(LOCATIONS.values()),
                    "apiVersions": self._gateway.supported_versions(f"{namespace}/{kind}")[::-1],
                }
                for kind in PROVIDERS[namespace]
            ],
        }

    async def providers(self, call: ArmCall) -> Answer:
        """The resource providers, all registered."""
        return Answer(json={"value": [self._provider_shown(call["subscription"], one) for one in PROVIDERS]})

    async def provider(self, call: ArmCall) -> Answer:
        """One resource provider."""
        found = next((one for one in PROVIDERS if one.lower() == call["namespace"].lower()), None)
        if found is None:
            raise ArmRefusedError(404, "InvalidResourceNamespace", f"The resource namespace '{call['namespace']}' is invalid.")
        return Answer(json=self._provider_shown(call["subscription"], found))
