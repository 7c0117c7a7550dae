"""What every custom resource has: Kubernetes metadata, camel-case wire names, and models that cannot be changed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP: Final = "cmk-operator.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
RECONCILE_REQUESTED_AT: Final = f"{GROUP}/reconcile-requested-at"
"""Annotation that forces a pass; its value is echoed in `status.lastHandledReconcileAt`."""
APPROVED_VERSION: Final = f"{GROUP}/approved-version"
"""Annotation of a CustomerManagedKey or an OrganizationKey: the version that a person has approved."""
CHANGED_BY: Final = f"{GROUP}/changed-by"
"""Annotation that the console writes with each change: the person who made it, as the identity provider names them."""
CONSOLE_FIELD_MANAGER: Final = "console"
"""Field manager of the console's changes."""
CONFIRM_DELETION: Final = f"{GROUP}/confirm-deletion"
"""Annotation of an OrganizationKey: the organization's name, typed by who wants to delete it with its data keys."""
OPERATOR_VERSION: Final = f"{GROUP}/version"
"""Annotation of the operator's Lease: the version of the process that wrote it last."""

Guid = Annotated[
    str,
    Field(pattern="^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$", max_length=36),
]
ObjectName = Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]

SnowflakeIdentifier = Annotated[
    str, Field(pattern="^[A-Za-z][A-Za-z0-9_]{0,254}([-.][A-Za-z0-9_]{1,254}){0,3}$", min_length=2, max_length=255)
]
"""Account identifier of Snowflake: organization and account name, or a locator with its region."""


class Shape(BaseModel):
    """A part of a custom resource; unknown fields of newer versions are ignored, never an error."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Metadata(Shape):
    """The part of `metav1.ObjectMeta` that decisions use."""

    name: str
    namespace: str | None = None
    uid: str = ""
    generation: int = 0
    resource_version: str = "0"
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    changed_by: str = ""
    """The field manager that last changed the spec; the inventory reads it off `managedFields`, which it does not keep."""


class NamedReference(Shape):
    """A reference by name."""

    name: ObjectName = Field(description="Name of the object.")
