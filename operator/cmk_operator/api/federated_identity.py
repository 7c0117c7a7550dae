"""`FederatedIdentity`: how the operator and the encrypted resources sign in, in one provider tenant."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from cmk_operator.api.conditions import Condition
from cmk_operator.api.model import Guid, Metadata, Shape
from cmk_operator.api.rules import Rule, immutable, validations
from cmk_operator.core.cloud import CLOUDS, Cloud, CloudName

OperatorCredential = Literal["ManagedIdentity", "ServiceAccount"]


class Application(Shape):
    """The multitenant application that the customer consents to."""

    client_id: Guid = Field(description="Application (client) id of the multitenant application in the provider's tenant.")
    display_name: str | None = Field(
        default=None,
        max_length=120,
        description="Name to hand to the customer. When absent it is read from Microsoft Graph, if the managed identity may.",
    )


class ManagedIdentity(Shape):
    """The user-assigned managed identity that the encrypted resources carry."""

    resource_id: str = Field(
        max_length=400,
        description="Azure Resource Manager id of the user-assigned managed identity.",
        json_schema_extra=validations(
            Rule(
                "self.matches('(?i)^/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/]+/providers/"
                "Microsoft\\\\.ManagedIdentity/userAssignedIdentities/[^/]+$')",
                "resourceId must be /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.ManagedIdentity/"
                "userAssignedIdentities/<name>",
            )
        ),
    )
    client_id: Guid = Field(description="Client id of the managed identity.")


class FederatedIdentitySpec(Shape):
    """The chain from the operator's ServiceAccount to the application."""

    cloud: CloudName | None = Field(default=None, description="Azure cloud; AzurePublic when absent.")
    tenant_id: Guid = Field(
        description="Entra tenant of the provider, which owns the application and the encrypted resources.",
        json_schema_extra=validations(immutable("tenantId")),
    )
    application: Application = Field(description="The multitenant application.")
    managed_identity: ManagedIdentity = Field(description="The user-assigned managed identity.")
    operator_credential: OperatorCredential | None = Field(
        default=None,
        description=(
            "How the operator proves itself to the application: as the managed identity (the path that Azure's services take; "
            "when absent), or by a federated credential for its own ServiceAccount (one hop fewer)."
        ),
    )

    @property
    def endpoints(self) -> Cloud:
        """Endpoints of the effective cloud."""
        return CLOUDS[self.cloud or CloudName.PUBLIC]

    @property
    def effective_credential(self) -> OperatorCredential:
        """The credential in use when the manifest is silent, too."""
        return self.operator_credential or "ManagedIdentity"


class ApplicationHandover(Shape):
    """What the customer needs to know about the application."""

    client_id: str
    display_name: str | None = Field(default=None, description="Absent: not given in the spec and not readable from Graph.")


class EffectiveIdentity(Shape):
    """Values in force, given or default."""

    cloud: str
    operator_credential: str


class FederatedIdentityStatus(Shape):
    """What the last pass found."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    last_handled_reconcile_at: str | None = None
    effective: EffectiveIdentity | None = None
    application: ApplicationHandover | None = None


class FederatedIdentity(Shape):
    """A way for the operator and for Azure's services to become the multitenant application, without a secret."""

    model_config = ConfigDict(title="FederatedIdentity")
    plural: ClassVar[str] = "federatedidentities"

    metadata: Metadata
    spec: FederatedIdentitySpec
    status: FederatedIdentityStatus = FederatedIdentityStatus()
