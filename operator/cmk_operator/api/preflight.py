"""`Preflight`: manifests as they would be applied, to be checked by the operator before they are; it changes nothing in Azure."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from cmk_operator.api.conditions import Condition
from cmk_operator.api.model import Metadata, ObjectName, Shape

COMPLETE = "Complete"
"""The condition that is True once every check has been made."""


class PlannedManifest(Shape):
    """One manifest that is not applied, or not yet as it is here."""

    name: ObjectName = Field(description="Its metadata.name.")
    spec: Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] = Field(
        description="Its spec."
    )


class PreflightSpec(Shape):
    """Manifests of this namespace, in the place of those that are there under the same names."""

    keys: list[PlannedManifest] | None = Field(default=None, max_length=20, description="CustomerManagedKeys.")
    resources: list[PlannedManifest] | None = Field(default=None, max_length=100, description="EncryptedResources.")


class CheckReport(Shape):
    """One stage of one manifest."""

    kind: str
    name: str
    stage: str = Field(
        description="Admission, Token, Consent, Get, Wrap, Unwrap, Prerequisite, Read, Write or Effect, in this order."
    )
    result: Literal["Pass", "Warn", "Fail", "NotVisible", "Unchecked"] = Field(
        description=(
            "Fail: applied like this, it would not come to be. Warn: told, and forbids nothing. NotVisible: the present grants do not "
            "show it. Unchecked: something before it failed, or Azure gave no usable answer."
        )
    )
    reason: str
    message: str
    command: str | None = Field(default=None, description="The az command by which whom the message names does it.")
    changes: tuple[str, ...] = Field(default=(), description="Effect: each field that would change, with both values.")


class PreflightStatus(Shape):
    """The verdicts."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    result: Literal["Pass", "Fail", "Unchecked"] | None = None
    checks: tuple[CheckReport, ...] = ()


class Preflight(Shape):
    """Manifests to be checked before they are applied. It writes nothing to Azure; the operator deletes it after ten minutes."""

    model_config = ConfigDict(title="Preflight")
    plural: ClassVar[str] = "preflights"

    metadata: Metadata
    spec: PreflightSpec
    status: PreflightStatus = PreflightStatus()
