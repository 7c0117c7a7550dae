"""The actions of Azure Resource Manager that a write needs, and whether permissions allow them.

Source: Azure role-based access control, "Understand Azure role definitions" (an action is allowed by an assignment whose actions
match it and whose notActions do not).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

ASSIGN_IDENTITY: Final = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
"""On the managed identity, to attach it to a resource."""


@dataclass(frozen=True, slots=True)
class RequiredActions:
    """The actions that writing a kind needs; at least one, because an empty list would pass every check."""

    on_resource: tuple[str, *tuple[str, ...]]
    attaches_identity: bool = True
    """Whether a write puts the managed identity on the resource."""

    def __post_init__(self) -> None:
        if not self.on_resource:
            raise ValueError("a kind names at least one action that its writes need")


@dataclass(frozen=True, slots=True)
class RightsNotVisible:
    """For a kind whose service does not show what the operator may do; `why` is a sentence for people."""

    why: str


@dataclass(frozen=True, slots=True)
class Permission:
    """What one role assignment allows on the control plane."""

    actions: tuple[str, ...]
    not_actions: tuple[str, ...] = ()


def missing_actions(permissions: Iterable[Permission], needed: Iterable[str]) -> tuple[str, ...]:
    """The actions in `needed` that no role assignment allows."""
    known = tuple(permissions)
    return tuple(action for action in needed if not any(_allows(one, action) for one in known))


def _allows(permission: Permission, action: str) -> bool:
    allowed = any(_pattern(one).fullmatch(action) for one in permission.actions)
    return allowed and not any(_pattern(one).fullmatch(action) for one in permission.not_actions)


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str]:
    # A segment `*` also matches no segment: `userAssignedIdentities/*/assign/action` of Managed Identity Operator grants
    # `userAssignedIdentities/assign/action`.
    escaped = re.escape(text).replace(r"/\*/", "/(?:.*/)?").replace(r"\*", ".*")
    return re.compile(escaped, re.IGNORECASE)
