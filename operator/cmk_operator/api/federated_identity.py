"""`FederatedIdentity`: how the operator and the encrypted resources sign in, in one provider tenant."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from cmk_operator.api.conditions import Condition
from cmk_operator.api.model import Guid, Metadata, Shape
from cmk_operator.api.rules import Rule, immutable, validations
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.cloud import CLOUDS, Cloud, CloudName

OperatorCredential = Literal["ManagedIdentity", "ServiceAccount"]
REPLICATION: Final = timedelta(minutes=10)
"""For so long after a change Entra may still answer as before: "some minutes", and intermittently.

Source: Entra "Important considerations and restrictions for federated identity credentials".
"""


class RegisteredApplication(Shape):
    """How to register the application if it does not exist. One that the registrar owns under that name is used."""

    display_name: str = Field(min_length=1, max_length=120, description="Name that the customer sees for the application.")


class Application(Shape):
    """The multitenant application that the customer consents to: an existing one, or one that the operator registers."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            Rule(
                "has(self.clientId) != has(self.register)",
                "application needs either clientId (of an existing application) or register, but not both",
            ),
            Rule(
                "!has(self.register) || !has(self.displayName)",
                "displayName belongs inside register if the operator registers the application",
            ),
        )
    )

    client_id: Guid | None = Field(
        default=None, description="Application (client) id of the multitenant application in the provider's tenant."
    )
    display_name: str | None = Field(
        default=None,
        max_length=120,
        description="Name to give to the customer. When absent, the operator reads it from Microsoft Graph, if the managed identity is allowed to.",
    )
    register_: RegisteredApplication | None = Field(
        default=None,
        alias="register",
        description="Makes the operator register the application and its federated credentials. It signs in as spec.registrar.",
    )


class RegisteredManagedIdentity(Shape):
    """How to create the managed identity if it does not exist. An existing one with that id is used."""

    location: str = Field(pattern="^[A-Za-z0-9 ]+$", max_length=60, description="Azure region, such as westeurope.")


class ManagedIdentity(Shape):
    """The user-assigned managed identity of the encrypted resources: an existing one, or one that the operator creates."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            Rule(
                "has(self.clientId) != has(self.register)",
                "managedIdentity needs either clientId (of an existing identity) or register, but not both",
            )
        )
    )

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
    client_id: Guid | None = Field(default=None, description="Client id of the managed identity.")
    register_: RegisteredManagedIdentity | None = Field(
        default=None,
        alias="register",
        description=(
            "Makes the operator create the managed identity and its federated credential for the operator's ServiceAccount. It signs "
            "in as spec.registrar."
        ),
    )


class Registrar(Shape):
    """The identity that registers the others. It trusts the operator's ServiceAccount and is used for nothing else."""

    client_id: Guid = Field(
        description=(
            "Client id of a managed identity or application with a federated credential for the operator's ServiceAccount. It needs "
            "the Microsoft Graph permission Application.ReadWrite.OwnedBy for application.register, and the role Managed Identity "
            "Contributor on the resource group for managedIdentity.register."
        )
    )


class FederatedIdentitySpec(Shape):
    """The chain of identities from the operator's ServiceAccount to the application."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            Rule(
                "has(self.registrar) || (!has(self.application.register) && !has(self.managedIdentity.register))",
                "registrar is required if the operator registers application or managedIdentity",
            )
        )
    )

    cloud: CloudName | None = Field(default=None, description="Azure cloud. The default is AzurePublic.")
    tenant_id: Guid = Field(
        description="Entra tenant of the provider, which owns the application and the encrypted resources.",
        json_schema_extra=validations(immutable("tenantId")),
    )
    application: Application = Field(description="The multitenant application.")
    managed_identity: ManagedIdentity = Field(description="The user-assigned managed identity.")
    registrar: Registrar | None = Field(default=None, description="The identity that the operator uses to register the others.")
    operator_class: str | None = Field(
        default=None,
        pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        max_length=40,
        description=(
            "Operator that serves this identity, and every tenant, key and resource below it: the release with this operatorClass. "
            "The default is the release without a class."
        ),
    )
    operator_credential: OperatorCredential | None = Field(
        default=None,
        description=(
            "How the operator signs in as the application. ManagedIdentity (the default): through the managed identity, as Azure's "
            "services do. ServiceAccount: by a federated credential for its own ServiceAccount, which is one step shorter."
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

    @property
    def entra_issuer(self) -> str:
        """The issuer of managed identities' tokens in this tenant, as Entra spells it and compares it: exactly."""
        return f"https://{self.endpoints.issuer_host}/{self.tenant_id.lower()}/v2.0"

    @property
    def registers(self) -> bool:
        """Whether the operator is asked to register anything."""
        return self.application.register_ is not None or self.managed_identity.register_ is not None


class ApplicationHandover(Shape):
    """What the customer needs to know about the application."""

    client_id: str
    display_name: str | None = Field(default=None, description="Absent: neither in the spec nor readable from Microsoft Graph.")


class ManagedIdentityReport(Shape):
    """The managed identity, as Azure reports it."""

    resource_id: str
    client_id: str
    principal_id: str


class Registration(Shape):
    """What the operator has registered. It is kept so that nothing is registered twice."""

    application_client_id: str | None = None
    application_object_id: str | None = Field(default=None, description="Needed to restore a deleted application.")
    changed_at: datetime | None = Field(
        default=None, description="When the operator last wrote. Entra needs some minutes to replicate a change."
    )


class EffectiveIdentity(Shape):
    """The effective values, specified or default."""

    cloud: str
    operator_credential: str


class FederatedIdentityStatus(Shape):
    """The result of the last reconcile."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    last_handled_reconcile_at: str | None = None
    effective: EffectiveIdentity | None = None
    application: ApplicationHandover | None = None
    managed_identity: ManagedIdentityReport | None = None
    registration: Registration | None = None


class FederatedIdentity(Shape):
    """How the operator and Azure's services sign in as the multitenant application, without a secret."""

    model_config = ConfigDict(title="FederatedIdentity")
    plural: ClassVar[str] = "federatedidentities"

    metadata: Metadata
    spec: FederatedIdentitySpec
    status: FederatedIdentityStatus = FederatedIdentityStatus()

    @property
    def application_client_id(self) -> str | None:
        """The application's client id in lower case, given or registered; None while it is not known."""
        registration = self.status.registration
        known = self.spec.application.client_id or (registration.application_client_id if registration is not None else None)
        return known.lower() if known is not None else None

    @property
    def managed_identity_client_id(self) -> str | None:
        """The managed identity's client id in lower case, given or registered; None while it is not known."""
        given, known = self.spec.managed_identity, self.status.managed_identity
        if given.client_id is not None:
            return given.client_id.lower()
        if known is None or ArmId(known.resource_id) != ArmId(given.resource_id):
            return None
        return known.client_id.lower()

    @property
    def application_missing(self) -> bool:
        """Whether the provider's tenant was last seen without the application."""
        gone = {
            (ConditionType.APPLICATION_FEDERATED, Reason.APPLICATION_NOT_FOUND),
            (ConditionType.REGISTERED, Reason.REGISTERED_APPLICATION_MISSING),
        }
        return any(one.status == "False" and (one.type, one.reason) in gone for one in self.status.conditions)

    def settles(self, now: datetime) -> bool:
        """Whether the operator changed the identity so recently that Entra may not know it everywhere yet."""
        changed = self.status.registration.changed_at if self.status.registration is not None else None
        return changed is not None and now - changed < REPLICATION
