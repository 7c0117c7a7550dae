"""What Azure Resource Manager tells of a vault, once the customer has granted the application to read it."""

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
_LOCK: Final = re.compile(r"(/.+)/providers/Microsoft\.Authorization/locks/[^/]+", re.IGNORECASE)


class VaultUnseen(Enum):
    """Why nothing is known of a vault's control plane."""

    NOT_ASKED = "it was not asked yet"
    NOT_GRANTED = "the application sees no such vault"
    SILENT = "Resource Manager gave no usable answer"
    ANOTHER_VAULT = "spec.vaultResourceId names another vault than keyUri"


@dataclass(frozen=True, slots=True)
class VaultLock:
    """A lock that holds for the vault or for one of its keys."""

    name: str
    level: str
    """`CanNotDelete` or `ReadOnly`, as Azure writes them."""
    scope: ArmId


@dataclass(frozen=True, slots=True)
class VaultFacts:
    """The part of a vault that guards its keys. Source: Key Vault REST, VaultProperties and NetworkRuleSet."""

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
    """None: the present grants do not show locks."""

    @property
    def public(self) -> bool:
        """Whether anyone on the internet may knock at the vault."""
        return self.public_network_access == "enabled" and not self.firewall


def vault_facts(body: Mapping[str, Any], locks: Iterable[VaultLock] | None) -> VaultFacts:
    """Read a vault as Resource Manager answers it; property values are compared without regard to case."""
    properties: Mapping[str, Any] = body.get("properties") or {}
    rules: Mapping[str, Any] | None = properties.get("networkAcls")
    days = properties.get("softDeleteRetentionInDays")
    return VaultFacts(
        resource_id=ArmId(str(body.get("id", ""))),
        location=region_of(str(body.get("location") or "")) or None,
        purge_protection=properties.get("enablePurgeProtection") is True,
        retention_days=days if isinstance(days, int) else None,
        public_network_access=str(properties.get("publicNetworkAccess") or "Enabled").lower(),
        # Without networkAcls all networks are let in; the bypass is on unless it is taken away.
        firewall=rules is not None and str(rules.get("defaultAction") or "Allow").lower() == "deny",
        trusted_services_bypass=rules is None or str(rules.get("bypass") or "AzureServices").lower() != "none",
        locks=tuple(locks) if locks is not None else None,
    )


def host_of_vault(body: Mapping[str, Any]) -> str:
    """Host of the vault's data plane, in lower case, or an empty string."""
    uri = str((body.get("properties") or {}).get("vaultUri") or "").lower()
    return uri.removeprefix(_HTTPS).split("/", 1)[0] if uri.startswith(_HTTPS) else ""


def vault_lock(body: Mapping[str, Any]) -> VaultLock | None:
    """Read a lock as Resource Manager answers it; None when it is not one."""
    properties: Mapping[str, Any] = body.get("properties") or {}
    scope, name = _LOCK.match(str(body.get("id", ""))), str(body.get("name", ""))
    return VaultLock(name, str(properties.get("level", "")), ArmId(scope[1])) if scope is not None else None


def holding_for(locks: Iterable[VaultLock], scope: ArmId) -> tuple[VaultLock, ...]:
    """Those at or above `scope` that forbid deletion; what lies below it or on a sibling says nothing."""
    return tuple(lock for lock in locks if lock.level.lower() in {"cannotdelete", "readonly"} and scope.lies_in(lock.scope))
