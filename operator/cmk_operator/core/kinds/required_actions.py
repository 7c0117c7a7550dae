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
    """The actions that a custom role for a kind needs, and no others; at least one write, because none would pass every check.

    Each is tried by itself in tests/contract/test_roles.py.
    """

    on_resource: tuple[str, *tuple[str, ...]]
    """What its writes need."""
    attaches_identity: bool = True
    """Whether a write puts the managed identity on the resource."""
    reads: tuple[str, ...] = ()
    """What its reads need."""
    polls: tuple[str, ...] = ()
    """What polling its long-running operations needs, which is a right of its own."""
    shows: tuple[str, ...] = ()
    """What only shows more; everything works without it."""

    @property
    def every(self) -> tuple[str, ...]:
        """The actions of a custom role; one on the managed identity comes on top."""
        return (*self.reads, *self.on_resource, *self.polls, *self.shows)

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
