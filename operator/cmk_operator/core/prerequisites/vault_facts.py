"""What Azure Resource Manager reports about a vault, if the customer lets the application read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.region import region_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HTTPS: Final = "https://"
_HOLDING: Final = frozenset({"cannotdelete", "readonly"})
_LEVELS: Final = _HOLDING | {"notspecified"}
"""Source: Resource Manager, `LockLevel`."""
_LOCK: Final = re.compile(r"(/.+)/providers/Microsoft\.Authorization/locks/[^/]+", re.IGNORECASE)


class VaultNotVisible(Enum):
    """Why nothing is known about a vault's control plane."""

    NOT_READ = "it has not been read yet"
    NOT_GRANTED = "the application may not read the vault"
    NO_ANSWER = "Resource Manager gave no usable answer"
    ANOTHER_VAULT = "spec.vaultResourceId names another vault than keyUri"


@dataclass(frozen=True, slots=True)
class VaultLock:
    """A lock on the vault or one of its keys, or inherited by them."""

    name: str
    level: str
    """`CanNotDelete` or `ReadOnly`, as Azure writes them."""
    scope: ArmId


@dataclass(frozen=True, slots=True)
class VaultFacts:
    """The settings of a vault that protect its keys. Source: Key Vault REST, VaultProperties and NetworkRuleSet."""

    resource_id: ArmId
    location: str | None
    purge_protection: bool
    retention_days: int | None
    public_network_access: str
    """`enabled`, `disabled` or `securedbyperimeter`."""
    firewall: bool
    """Whether public access is denied by default."""
    trusted_services_bypass: bool
    locks: tuple[VaultLock, ...] | None = None
    """None: the current grants do not show locks."""
    unread_locks: int = 0
    """How many more locks there are that cannot be read, so that one of them may hold."""

    @property
    def public(self) -> bool:
        """Whether the vault accepts connections from the whole internet."""
        return self.public_network_access == "enabled" and not self.firewall


def vault_facts(body: Mapping[str, Any], locks: Iterable[VaultLock] | None, unread_locks: int = 0) -> VaultFacts:
    """Parse a vault from Resource Manager's response; property values are case-insensitive."""
    properties: Mapping[str, Any] = body.get("properties") or {}
    rules: Mapping[str, Any] | None = properties.get("networkAcls")
    days = properties.get("softDeleteRetentionInDays")
    return VaultFacts(
        resource_id=ArmId(str(body.get("id", ""))),
        location=region_of(str(body.get("location") or "")) or None,
        purge_protection=properties.get("enablePurgeProtection") is True,
        retention_days=days if isinstance(days, int) else None,
        public_network_access=str(properties.get("publicNetworkAccess") or "Enabled").lower(),
        # Without networkAcls, all networks are admitted. The bypass is on unless it is set to None.
        firewall=rules is not None and str(rules.get("defaultAction") or "Allow").lower() == "deny",
        trusted_services_bypass=rules is None or str(rules.get("bypass") or "AzureServices").lower() != "none",
        locks=tuple(locks) if locks is not None else None,
        unread_locks=unread_locks,
    )


def host_of_vault(body: Mapping[str, Any]) -> str:
    """The host of the vault's data plane in lower case, or an empty string."""
    uri = str((body.get("properties") or {}).get("vaultUri") or "").lower()
    return uri.removeprefix(_HTTPS).split("/", 1)[0] if uri.startswith(_HTTPS) else ""


def vault_lock(entry: object) -> VaultLock | None:
    """Parse an entry of Resource Manager's list of locks; None if it does not show what it locks, or how."""
    body = entry if isinstance(entry, dict) else {}
    properties, lock_id, name = body.get("properties"), body.get("id"), body.get("name")
    scope = _LOCK.match(lock_id) if isinstance(lock_id, str) else None
    level = properties.get("level") if isinstance(properties, dict) else None
    if scope is None or not isinstance(level, str) or level.lower() not in _LEVELS:
        return None
    return VaultLock(name if isinstance(name, str) else ArmId(scope[0]).name, level, ArmId(scope[1]))


def holding_for(locks: Iterable[VaultLock], scope: ArmId) -> tuple[VaultLock, ...]:
    """The locks at or above `scope` that prevent deletion; locks below it or on a sibling do not count."""
    return tuple(lock for lock in locks if lock.level.lower() in _HOLDING and scope.lies_in(lock.scope))
