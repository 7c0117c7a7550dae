"""Which actions of Azure Resource Manager each kind of write needs, and whether permissions allow them.

Sources: Azure role-based access control, "Resource provider operations" and "Understand Azure role definitions" (an action is
allowed by an assignment whose actions match it and whose notActions do not).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ASSIGN_IDENTITY: Final = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
"""On the managed identity, to attach it to a resource."""
_SQL: Final = "Microsoft.Sql/servers"
_TO_WRITE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "microsoft.storage/storageaccounts": ("Microsoft.Storage/storageAccounts/write",),
        "microsoft.sql/servers": (
            f"{_SQL}/write",
            f"{_SQL}/keys/write",
            f"{_SQL}/encryptionProtector/write",
            f"{_SQL}/encryptionProtector/revalidate/action",
        ),
        "microsoft.sql/servers/databases": (
            f"{_SQL}/databases/write",
            f"{_SQL}/databases/encryptionProtector/revalidate/action",
        ),
        "microsoft.compute/diskencryptionsets": ("Microsoft.Compute/diskEncryptionSets/write",),
        "microsoft.compute/disks": ("Microsoft.Compute/disks/write",),
    }
)
_ATTACHES_NO_IDENTITY: Final = frozenset({"microsoft.compute/disks"})


@dataclass(frozen=True, slots=True)
class Permission:
    """What one role assignment allows on the control plane."""

    actions: tuple[str, ...]
    not_actions: tuple[str, ...] = ()


def actions_to_write(resource_type: str) -> tuple[str, ...]:
    """The actions that a write needs on the resource itself; none for what is not Resource Manager's."""
    return _TO_WRITE.get(resource_type, ())


def attaches_identity(resource_type: str) -> bool:
    """Whether a write puts the managed identity on the resource."""
    return resource_type in _TO_WRITE and resource_type not in _ATTACHES_NO_IDENTITY


def missing_actions(permissions: Iterable[Permission], needed: Iterable[str]) -> tuple[str, ...]:
    """Those that no assignment allows."""
    known = tuple(permissions)
    return tuple(action for action in needed if not any(_allows(one, action) for one in known))


def _allows(permission: Permission, action: str) -> bool:
    allowed = any(_pattern(one).fullmatch(action) for one in permission.actions)
    return allowed and not any(_pattern(one).fullmatch(action) for one in permission.not_actions)


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str]:
    # A segment `*` may also stand for none: `userAssignedIdentities/*/assign/action` of Managed Identity Operator grants
    # `userAssignedIdentities/assign/action`.
    escaped = re.escape(text).replace(r"/\*/", "/(?:.*/)?").replace(r"\*", ".*")
    return re.compile(escaped, re.IGNORECASE)
