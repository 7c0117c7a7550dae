"""`CustomerTenant`: the only join between namespaces, a customer's tenant, its vaults and the scopes of its resources."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_snake

from cmk_operator.api.conditions import Condition
from cmk_operator.api.federated_identity import ApplicationHandover
from cmk_operator.api.model import Guid, Metadata, NamedReference, ObjectName, Shape, SnowflakeIdentifier
from cmk_operator.api.notifications import NotificationSink
from cmk_operator.api.rules import Rule, immutable, validations
from cmk_operator.core.authority import TenantGrant
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.registry import OWN_IDENTIFIERS

_ALLOWED_IN: Final = {to_snake(identifier.allowed_in): identifier for _, identifier in OWN_IDENTIFIERS}
"""Identifiers of resources outside Resource Manager, by the attribute of a tenant's spec that lists those it allows."""

ConsentState = Literal["Pending", "Granted", "Revoked", "Unknown"]

_SCOPE = Rule(
    "self.matches('(?i)^/subscriptions/[0-9a-f-]{36}(/resourceGroups/[^/]+(/providers/[^/]+(/[^/]+/[^/]+)+)?)?$')",
    "an allowed scope must be the id of a subscription, resource group or resource, without a trailing slash",
)
_VAULT = Rule(
    "self.matches('^[a-z][a-z0-9-]{1,22}[a-z0-9]\\\\.vault\\\\.(azure\\\\.net|usgovcloudapi\\\\.net|azure\\\\.cn)$')",
    "an allowed vault must be a Key Vault host in lower case, such as contoso.vault.azure.net",
)


class CustomerTenantSpec(Shape):
    """Which namespaces may use this customer's keys, and for what. The operator refuses everything else before any call to Azure."""

    tenant_id: Guid = Field(
        description="Entra tenant of the customer, which owns the vaults.",
        json_schema_extra=validations(immutable("tenantId")),
    )
    identity_ref: NamedReference = Field(description="The FederatedIdentity whose application the customer consents to.")
    allowed_namespaces: list[ObjectName] = Field(
        min_length=1,
        max_length=100,
        description="Namespaces whose manifests may use this customer's keys.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    allowed_scopes: list[Annotated[str, Field(max_length=400, json_schema_extra=validations(_SCOPE))]] = Field(
        min_length=1,
        max_length=100,
        description="Azure scopes of this customer's resources: subscriptions, resource groups or resources.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    allowed_vaults: list[Annotated[str, Field(max_length=60, json_schema_extra=validations(_VAULT))]] = Field(
        min_length=1,
        max_length=100,
        description="Hosts of the customer's vaults, such as contoso.vault.azure.net.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    allowed_snowflake_accounts: list[SnowflakeIdentifier] | None = Field(
        default=None,
        max_length=100,
        description="Identifiers of this customer's Snowflake accounts, such as contoso-prod. None when absent.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    notifications: NotificationSink | None = Field(
        default=None, description="Receiver of notifications about this customer's keys and encryption. None when absent."
    )


class Consent(Shape):
    """Whether the application may act in the customer's tenant."""

    state: ConsentState
    url: str = Field(description="Page on which an administrator of the customer's tenant consents.")
    since: datetime


class HandoverStep(Shape):
    """One step for the customer's administrator."""

    title: str
    who: str
    why: str
    command: str | None = Field(
        default=None,
        description="az CLI commands (bash) that follow those of the steps before. Absent: a person must do it by hand.",
    )


class CustomerTenantStatus(Shape):
    """The result of the last reconcile."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    last_handled_reconcile_at: str | None = None
    consent: Consent | None = None
    application: ApplicationHandover | None = None
    handover: tuple[HandoverStep, ...] = Field(
        default=(), description="Steps for the customer's administrator, in order. All of them may be repeated at any time."
    )


class CustomerTenant(Shape):
    """A customer: which namespaces may use its keys, from which vaults, and for which resources."""

    model_config = ConfigDict(title="CustomerTenant")
    plural: ClassVar[str] = "customertenants"

    metadata: Metadata
    spec: CustomerTenantSpec
    status: CustomerTenantStatus = CustomerTenantStatus()

    @property
    def grant(self) -> TenantGrant:
        """What this tenant allows."""
        spec = self.spec
        return TenantGrant(
            self.metadata.name,
            tuple(spec.allowed_namespaces),
            tuple(ArmId(scope) for scope in spec.allowed_scopes),
            tuple(spec.allowed_vaults),
            tuple(
                identifier.read(text)
                for attribute, identifier in _ALLOWED_IN.items()
                for text in getattr(spec, attribute) or ()
            ),
        )
