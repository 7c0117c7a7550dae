"""Log Analytics workspaces, and diagnostic settings that send a vault's log there.

https://learn.microsoft.com/rest/api/monitor/diagnostic-settings/create-or-update
https://learn.microsoft.com/azure/key-vault/general/monitor-key-vault-reference
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sandbox.azure.arm.bodies import Strict, Tags, parsed
from sandbox.azure.arm.identities import not_found
from sandbox.azure.arm.subscriptions import normalized_location
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.key_vault.model import Vaults

WORKSPACES = "Microsoft.OperationalInsights/workspaces"
SETTINGS = "Microsoft.Insights/diagnosticSettings"
LOGS = frozenset({"AuditEvent", "AzurePolicyEvaluationDetails"})
GROUPS = frozenset({"audit", "allLogs"})


class WorkspaceProperties(Strict):
    """What is kept of a workspace."""

    sku: dict[str, Any] | None = None
    retention_in_days: int | None = None


class WorkspaceBody(Strict):
    """PUT of a workspace."""

    location: str
    tags: Tags | None = None
    properties: WorkspaceProperties | None = None


class Retention(Strict):
    """Retired by Azure, still accepted when off."""

    enabled: bool
    days: int = 0


class LogSettings(Strict):
    """One category, or one group of them."""

    category: str | None = None
    category_group: str | None = None
    enabled: bool
    retention_policy: Retention | None = None


class MetricSettings(Strict):
    """Vaults have `AllMetrics`."""

    category: str | None = None
    time_grain: str | None = None
    enabled: bool
    retention_policy: Retention | None = None


class SettingProperties(Strict):
    """What goes where; of the sinks only a workspace is simulated."""

    workspace_id: str | None = None
    storage_account_id: None = None
    event_hub_authorization_rule_id: None = None
    event_hub_name: None = None
    service_bus_rule_id: None = None
    marketplace_partner_id: None = None
    log_analytics_destination_type: Literal["Dedicated", "AzureDiagnostics"] | None = None
    logs: list[LogSettings] = Field(default_factory=list)
    metrics: list[MetricSettings] = Field(default_factory=list)


class SettingBody(Strict):
    """PUT of a diagnostic setting."""

    properties: SettingProperties
    id: str | None = None
    name: str | None = None
    type: str | None = None


@dataclass
class Workspace:
    """A Log Analytics workspace."""

    id: str
    location: str
    tags: dict[str, str] = field(default_factory=dict)
    customer_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def name(self) -> str:
        """The last segment of the id."""
        return self.id.rsplit("/", 1)[-1]


def bad_request(message: str) -> ArmRefusedError:
    """Azure Monitor's 400."""
    return ArmRefusedError(400, "BadRequest", message)


class DiagnosticOperations:
    """Both resource providers: the one is of no use without the other."""

    def __init__(self, gateway: Gateway, vaults: Vaults) -> None:
        self._gateway = gateway
        self._vaults = vaults
        self._workspaces: dict[str, Workspace] = {}
        self._settings: dict[str, dict[str, dict[str, Any]]] = {}
        one = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{WORKSPACES}/{{name}}"
        gateway.add("PUT", one, self.put_workspace, kind=WORKSPACES, action=f"{WORKSPACES}/write")
        gateway.add("GET", one, self.get_workspace, kind=WORKSPACES, action=f"{WORKSPACES}/read")
        collection = f"/{{scope:path}}/providers/{SETTINGS}"
        gateway.add("GET", collection, self.list, kind=SETTINGS, action=f"{SETTINGS}/read")
        gateway.add("GET", f"{collection}/{{name}}", self.get, kind=SETTINGS, action=f"{SETTINGS}/read")
        gateway.add("PUT", f"{collection}/{{name}}", self.put, kind=SETTINGS, action=f"{SETTINGS}/write")
        gateway.add("DELETE", f"{collection}/{{name}}", self.delete, kind=SETTINGS, action=f"{SETTINGS}/delete")

    @staticmethod
    def _workspace_shown(workspace: Workspace) -> dict[str, Any]:
        properties = {"customerId": workspace.customer_id, "provisioningState": "Succeeded", "sku": {"name": "PerGB2018"}}
        return {
            "id": workspace.id,
            "name": workspace.name,
            "type": WORKSPACES,
            "location": workspace.location,
            "properties": properties,
        }

    def workspaces(self) -> Iterable[Workspace]:
        """All of them."""
        return self._workspaces.values()

    async def put_workspace(self, call: ArmCall) -> Answer:
        """Create; there is nothing to change."""
        body = parsed(WorkspaceBody, call.body())
        self._gateway.subscriptions[call["subscription"]].group(call["group"])
        new = call.scope.lower() not in self._workspaces
        workspace = self._workspaces.setdefault(call.scope.lower(), Workspace(call.scope, normalized_location(body.location)))
        return Answer(201 if new else 200, self._workspace_shown(workspace))

    async def get_workspace(self, call: ArmCall) -> Answer:
        """One workspace."""
        workspace = self._workspaces.get(call.scope.lower())
        if workspace is None:
            raise not_found(WORKSPACES, call["name"], call["group"])
        return Answer(json=self._workspace_shown(workspace))

    def _of_vault(self, call: ArmCall) -> dict[str, dict[str, Any]]:
        segments = call.scope.strip("/").split("/")
        kind = "/".join(segments[5:7]).lower()
        if len(segments) != 8 or kind != "microsoft.keyvault/vaults":
            raise bad_request(f"The resource type '{kind}' does not support diagnostic settings.")
        vault = self._vaults.live(segments[7])
        if vault is None or vault.id.lower() != call.scope.lower():
            raise not_found("Microsoft.KeyVault/vaults", segments[7], segments[3])
        return self._settings.setdefault(call.scope.lower(), {})

    async def list(self, call: ArmCall) -> Answer:
        """All of a vault."""
        return Answer(json={"value": list(self._of_vault(call).values())})

    async def get(self, call: ArmCall) -> Answer:
        """One of a vault."""
        found = self._of_vault(call).get(call["name"].lower())
        if found is None:
            message = f"The diagnostic setting '{call['name']}' doesn't exist in resource '{call.scope}'."
            raise ArmRefusedError(404, "ResourceNotFound", message)
        return Answer(json=found)

    async def put(self, call: ArmCall) -> Answer:
        """Create or replace; the caller must be allowed to use the workspace."""
        settings, name = self._of_vault(call), call["name"]
        properties = parsed(SettingBody, call.body()).properties
        if properties.workspace_id is None:
            raise bad_request("No destination was specified: a data sink is required.")
        if not (any(one.enabled for one in properties.logs) or any(one.enabled for one in properties.metrics)):
            raise bad_request("At least one data sink needs to be specified with a category that is enabled.")
        _check_categories(properties)
        workspace = self._workspaces.get(properties.workspace_id.lower())
        action = f"{WORKSPACES}/sharedKeys/action"
        self._gateway.authorize_linked(call.caller, action, properties.workspace_id, f"{SETTINGS}/write", call.scope)
        if workspace is None:
            raise ArmRefusedError(404, "ResourceNotFound", f"The Resource '{properties.workspace_id}' was not found.")
        self._check_sinks(settings, name, properties)
        settings[name.lower()] = {
            "id": f"{call.scope.lower()}/providers/microsoft.insights/diagnosticSettings/{name}",
            "type": SETTINGS,
            "name": name,
            "location": None,
            "kind": None,
            "tags": None,
            "properties": properties.model_dump(mode="json", by_alias=True),
            "identity": None,
        }
        return Answer(json=settings[name.lower()])

    @staticmethod
    def _check_sinks(settings: dict[str, dict[str, Any]], name: str, properties: SettingProperties) -> None:
        wanted = {one.category or one.category_group for one in properties.logs if one.enabled}
        for other, shown in settings.items():
            same_sink = str(shown["properties"]["workspaceId"]).lower() == str(properties.workspace_id).lower()
            taken = {one["category"] or one["categoryGroup"] for one in shown["properties"]["logs"] if one["enabled"]}
            if other != name.lower() and same_sink and (both := wanted & taken):
                raise ArmRefusedError(
                    409,
                    "Conflict",
                    f"Data sink '{properties.workspace_id}' is already used in diagnostic setting '{shown['name']}' for category "
                    f"'{min(str(one) for one in both)}'. Data sinks can't be reused in different settings on the same category for the "
                    "same resource.",
                )

    async def delete(self, call: ArmCall) -> Answer:
        """204 if there was none."""
        return Answer(200 if self._of_vault(call).pop(call["name"].lower(), None) else 204)


def _check_categories(properties: SettingProperties) -> None:
    for log in properties.logs:
        if (log.category is None) == (log.category_group is None):
            raise bad_request("Exactly one of 'category' and 'categoryGroup' must be specified for a log.")
        if log.category is not None and log.category not in LOGS:
            raise bad_request(f"Category '{log.category}' is not supported.")
        if log.category_group is not None and log.category_group not in GROUPS:
            raise bad_request(f"Category group '{log.category_group}' is not supported.")
    for metric in properties.metrics:
        if metric.category != "AllMetrics":
            raise bad_request(f"Metric category '{metric.category}' is not supported.")
