"""`EncryptedResource`: one Azure resource that must be encrypted with one customer's key."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from cmk_operator.api.conditions import Condition
from cmk_operator.api.customer_managed_key import RotationReport
from cmk_operator.api.model import Metadata, NamedReference, Shape
from cmk_operator.api.rules import Rule, first_broken, immutable, validations


class EncryptedResourceSpec(Shape):
    """What to protect with which key, and what happens when the manifest goes."""

    key_ref: NamedReference = Field(description="The CustomerManagedKey, in this namespace.")
    resource_id: str = Field(
        max_length=400,
        description="Azure Resource Manager id of the resource; its type says which provider is used.",
        json_schema_extra=validations(
            # A rule that looks at the old object is skipped for a new one, so it stands by itself.
            immutable("resourceId"),
            *first_broken(
                Rule("!self.endsWith('/')", "resourceId may not end with a slash"),
                Rule(
                    "self.matches('(?i)^/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/]+/providers/[^/]+(/[^/]+/[^/]+)+$')",
                    "resourceId must be /subscriptions/<id>/resourceGroups/<name>/providers/<namespace>/<type>/<name>",
                ),
            ),
        ),
    )
    mode: Literal["Enforce", "Observe"] | None = Field(
        default=None, description="Enforce (when absent) makes it so; Observe writes nothing to Azure and shows status.plan."
    )
    deletion_policy: Literal["Orphan", "RevertToPlatformKey"] | None = Field(
        default=None,
        description=(
            "What deleting this manifest does in Azure. Orphan (when absent): nothing. RevertToPlatformKey: the resource goes back "
            "to a key of Microsoft, while the customer's key is still accessible."
        ),
    )


class TargetReport(Shape):
    """The resource, for people."""

    kind: str
    name: str


class AppliedKey(Shape):
    """The key that Azure reports for the resource."""

    key_uri: str
    version: str
    since: datetime


class PlanReport(Shape):
    """A change that is due but not made (mode Observe)."""

    summary: tuple[str, ...] = Field(description="One line a field: path, present and intended value.")
    patch: str = Field(description="Body of the intended PATCH, as JSON.")


class EffectiveResource(Shape):
    """Values in force, given or default."""

    mode: Literal["Enforce", "Observe"]
    deletion_policy: Literal["Orphan", "RevertToPlatformKey"]


class EncryptedResourceStatus(Shape):
    """What the last pass found."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    last_handled_reconcile_at: str | None = None
    effective: EffectiveResource | None = None
    target: TargetReport | None = None
    applied: AppliedKey | None = None
    plan: PlanReport | None = None
    rotations: tuple[RotationReport, ...] = ()


class EncryptedResource(Shape):
    """An Azure resource whose data is encrypted with a customer's key."""

    model_config = ConfigDict(title="EncryptedResource")
    plural: ClassVar[str] = "encryptedresources"

    metadata: Metadata
    spec: EncryptedResourceSpec
    status: EncryptedResourceStatus = EncryptedResourceStatus()
