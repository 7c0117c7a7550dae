"""The common interface of target identifiers, inside and outside Resource Manager."""

from __future__ import annotations

from typing import Protocol

from cmk_operator.core.identifiers.arm_id import ArmId


class ResourceId(Protocol):
    """An identifier of a target; equal identifiers name the same resource."""

    @property
    def text(self) -> str:
        """The identifier in its original spelling."""

    @property
    def key(self) -> str:
        """The canonical spelling, for use in indexes: a path, or the resource type, a colon and a name."""

    @property
    def resource_type(self) -> str:
        """The resource type in lower case, which selects the provider."""

    @property
    def shown_type(self) -> str:
        """The type, for people."""

    @property
    def shown_name(self) -> str:
        """The name, for people."""

    def __hash__(self) -> int:
        """Consistent with equality."""


def resource_type_of(key: str) -> str:
    """The resource type of the identifier with this `ResourceId.key`."""
    return ArmId(key).resource_type if key.startswith("/") else key.partition(":")[0]


def limit_of(key: str) -> str:
    """What limits the calls for the identifier with this `ResourceId.key`: its subscription, or outside of one, the target itself.

    Source: "Understand how Azure Resource Manager throttles requests".
    """
    segments = ArmId(key).segments
    return segments[1] if segments[0] == "subscriptions" and len(segments) > 1 else key
