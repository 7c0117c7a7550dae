"""Azure Resource Manager ids, compared as Azure does: by segment and case-insensitively."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import cached_property
from typing import Final

_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
"""Azure's case folding; `str.lower` would also map other characters, such as the Kelvin sign to k."""
_NEVER_IN_A_SEGMENT: Final = re.compile(r"[\x00-\x1f\x7f\\?#%]")


class InvalidArmIdError(ValueError):
    """A text is not an Azure Resource Manager id; the message shows the format."""


@dataclass(frozen=True)
class ArmId:
    """A resource, resource group or subscription id in its original spelling.

    Source: Azure Resource Manager, "Resource functions for ARM templates", resourceId.
    """

    text: str

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """Path segments in lower case; equality and containment compare these."""
        return tuple(self.text.translate(_LOWER).strip("/").split("/"))

    @property
    def key(self) -> str:
        """The canonical spelling of this id, for use in indexes."""
        return "/" + "/".join(self.segments)

    @property
    def subscription_id(self) -> str:
        """The subscription's GUID, in lower case."""
        return self.segments[1]

    @property
    def resource_group(self) -> str:
        """The resource group's name in its original spelling, or an empty string for a subscription."""
        parts = self.text.strip("/").split("/")
        return parts[3] if len(parts) > 3 else ""

    @property
    def name(self) -> str:
        """The last segment in its original spelling."""
        return self.text.rstrip("/").rsplit("/", 1)[-1]

    @property
    def shown_name(self) -> str:
        """The name for people; for a child resource with its parents' names, such as `server/database`."""
        parts = self.text.strip("/").split("/")
        return "/".join(parts[7::2]) if len(parts) >= 8 else self.name

    @cached_property
    def resource_type(self) -> str:
        """`namespace/type[/subtype]` in lower case, or an empty string for groups and subscriptions."""
        if len(self.segments) < 8:
            return ""
        return "/".join((self.segments[5], *self.segments[6::2]))

    @cached_property
    def shown_type(self) -> str:
        """The resource type in its original spelling, for people."""
        parts = self.text.strip("/").split("/")
        return "/".join((parts[5], *parts[6::2])) if len(parts) >= 8 else ""

    def lies_in(self, scope: ArmId) -> bool:
        """Whether this is `scope` or is below it, compared by segment: `…/rg-a` never contains `…/rg-ab`."""
        return self.segments[: len(scope.segments)] == scope.segments

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArmId) and self.segments == other.segments

    def __hash__(self) -> int:
        return hash(self.segments)

    def __str__(self) -> str:
        return self.text


def parse_arm_id(text: str) -> ArmId:
    """Parse a subscription, resource group or resource id. Raises `InvalidArmIdError`.

    Refuses characters and segments that an HTTP client would resolve (`..`) or cut off (`?`), so that the checked id is the one sent.
    """
    parsed = ArmId(text)
    segments = parsed.segments
    shaped = (
        text.startswith("/")
        and not text.startswith("//")
        and segments[0] == "subscriptions"
        and not text.endswith("/")
        and all(segments)
        and not {".", ".."} & set(segments)
        and not _NEVER_IN_A_SEGMENT.search(text)
        and (
            len(segments) == 2
            or (len(segments) == 4 and segments[2] == "resourcegroups")
            or (len(segments) >= 8 and len(segments) % 2 == 0 and (segments[2], segments[4]) == ("resourcegroups", "providers"))
        )
    )
    if not shaped:
        raise InvalidArmIdError(
            f"{text!r} is not an Azure resource id: write /subscriptions/<id>[/resourceGroups/<name>"
            "[/providers/<namespace>/<type>/<name>]]"
        )
    return parsed
