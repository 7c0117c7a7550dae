"""`Preflight`: manifests as they would be applied, to be checked by the operator before they are; it changes nothing in Azure."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from cmk_operator.api.conditions import Condition
from cmk_operator.api.model import Metadata, ObjectName, Shape
from cmk_operator.core.conditions import ConditionType

MOST_CHECKS: Final = 5000
COMPLETE = ConditionType.COMPLETE
"""The condition that is True once every check has been made, and False while they wait."""


class PlannedManifest(Shape):
    """One manifest that is not applied, or differs from the applied one."""

    name: ObjectName = Field(description="The manifest's metadata.name.")
    spec: dict[str, Any] = Field(
        description="The manifest's spec. The API server checks only its fields and sizes; the operator checks the rest."
    )


class PreflightSpec(Shape):
    """Manifests for this namespace. Each takes the place of an existing object with the same name."""

    keys: list[PlannedManifest] | None = Field(default=None, max_length=20, description="CustomerManagedKeys to check.")
    resources: list[PlannedManifest] | None = Field(default=None, max_length=100, description="EncryptedResources to check.")
    organization_keys: list[PlannedManifest] | None = Field(
        default=None, max_length=10, description="OrganizationKeys to check."
    )


class CheckReport(Shape):
    """The result of one check of one manifest."""

    kind: str
    name: str
    stage: str = Field(
        description="Admission, Token, Consent, Get, Wrap, Unwrap, OldKey, Prerequisite, Read, Write, Effect, Coverage or Deletion. They run in this order."
    )
    result: Literal["Pass", "Warn", "Fail", "NotVisible", "Unchecked"] = Field(
        description=(
            "Fail: if applied now, the manifest would not take effect. Warn: reported only; the manifest would take effect. "
            "NotVisible: the operator's permissions do not allow it to check this. Unchecked: an earlier check failed, or Azure gave "
            "no usable answer."
        )
    )
    reason: str
    message: str
    command: str | None = Field(default=None, description="The az command for the person that the message names.")
    changes: tuple[str, ...] = Field(
        default=(),
        description=(
            "Effect: each field that would change, with its current and intended value. Coverage: data that the key would not protect, "
            "and who can do what about it."
        ),
    )


class PreflightStatus(Shape):
    """The results of the checks."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    result: Literal["Pass", "Fail", "Unchecked"] | None = None
    checks: tuple[CheckReport, ...] = Field(default=(), max_length=MOST_CHECKS)


class Preflight(Shape):
    """Checks manifests before they are applied. Nothing is written to Azure. The operator deletes the object after ten minutes."""

    model_config = ConfigDict(title="Preflight")
    plural: ClassVar[str] = "preflights"

    metadata: Metadata
    spec: PreflightSpec
    status: PreflightStatus = PreflightStatus()
