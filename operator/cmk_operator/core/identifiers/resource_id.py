"""What every identifier of a target can say, whether Resource Manager knows the target or not."""

from __future__ import annotations

from typing import Protocol

from cmk_operator.core.identifiers.arm_id import ArmId


class ResourceId(Protocol):
    """Equal identifiers name one resource."""

    @property
    def text(self) -> str:
        """As it was written."""

    @property
    def key(self) -> str:
        """One spelling for all spellings, for use in indexes: a path, or the resource type, a colon and a name."""

    @property
    def resource_type(self) -> str:
        """What chooses the provider, in lower case."""

    @property
    def shown_type(self) -> str:
        """The type, for people."""

    @property
    def shown_name(self) -> str:
        """The name, for people."""

    def __hash__(self) -> int:
        """As it is equal."""


def resource_type_of(key: str) -> str:
    """The resource type of the identifier with this `ResourceId.key`."""
    return ArmId(key).resource_type if key.startswith("/") else key.partition(":")[0]
