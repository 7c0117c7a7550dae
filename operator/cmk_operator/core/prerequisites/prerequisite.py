"""A prerequisite of a key: its name, verdict and weight, and the facts behind it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Self

from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.prerequisites.key_users import KeyUsers
from cmk_operator.core.prerequisites.vault_facts import VaultFacts, VaultNotVisible

if TYPE_CHECKING:
    from cmk_operator.core.access.state import KeyProbe
    from cmk_operator.core.identifiers.key_uri import KeyUri


class PrerequisiteName(StrEnum):
    """The prerequisites in the order in which they are shown, each with its reason in a condition."""

    failed: Reason

    def __new__(cls, word: str, failed: Reason) -> Self:
        """Create a member with its reason."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.failed = failed
        return member

    SOFT_DELETE = "SoftDelete", Reason.SOFT_DELETE_FAILED
    PURGE_PROTECTION = "PurgeProtection", Reason.PURGE_PROTECTION_FAILED
    RETENTION_DAYS = "RetentionDays", Reason.RETENTION_DAYS_FAILED
    KEY_TYPE = "KeyType", Reason.KEY_TYPE_FAILED
    KEY_SIZE = "KeySize", Reason.KEY_SIZE_FAILED
    KEY_OPERATIONS = "KeyOperations", Reason.KEY_OPERATIONS_FAILED
    KEY_ENABLED = "KeyEnabled", Reason.KEY_ENABLED_FAILED
    KEY_EXPIRY = "KeyExpiry", Reason.KEY_EXPIRY_FAILED
    PERMISSIONS = "Permissions", Reason.PERMISSIONS_FAILED
    VAULT_LOCK = "VaultLock", Reason.VAULT_LOCK_FAILED
    KEY_LOCK = "KeyLock", Reason.KEY_LOCK_FAILED
    TRUSTED_SERVICES_BYPASS = "TrustedServicesBypass", Reason.TRUSTED_SERVICES_BYPASS_FAILED
    NETWORK_PROTECTION = "NetworkProtection", Reason.NETWORK_PROTECTION_FAILED
    VAULT_REGION = "VaultRegion", Reason.VAULT_REGION_FAILED
    REGION_FAILOVER = "RegionFailover", Reason.REGION_FAILOVER_FAILED


class Result(StrEnum):
    """The verdict on one prerequisite."""

    PASS = "Pass"  # noqa: S105 - a verdict, not a password
    FAIL = "Fail"
    UNKNOWN = "Unknown"


class Weight(Enum):
    """What a failure blocks."""

    HARD = "refused by Azure itself, and never waived"
    REQUIRED = "forbids new writes, because the manifest asks for it by name"
    ENFORCED = "blocks new writes, unless the manifest says Warn"
    PROBED = "makes the probe fail, which blocks new writes with a more precise message"
    ADVISED = "reported, but blocks nothing"


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """The verdict on one prerequisite: who must do what, and the az command for it."""

    name: PrerequisiteName
    result: Result
    message: str
    weight: Weight = Weight.ENFORCED
    command: str | None = None


@dataclass(frozen=True, slots=True)
class PrerequisiteFacts:
    """The facts behind the verdicts."""

    probe: KeyProbe
    key: KeyUri
    application_client_id: str
    vault: VaultFacts | VaultNotVisible = VaultNotVisible.NOT_READ
    users: KeyUsers = KeyUsers()  # noqa: RUF009 - frozen, so it may be shared
    known_region: str | None = None
    """The vault's region from status, for use while neither the key nor the vault can be read."""
    requires_failover: bool = False
    """Whether the manifest asks for a region with failover."""

    @property
    def vault_region(self) -> str | None:
        """The vault's region from the data plane, or else the control plane, or else status."""
        attributes = self.probe.wanted.attributes
        reported = attributes.vault_region if attributes is not None else None
        return reported or (self.visible_vault.location if self.visible_vault is not None else None) or self.known_region

    @property
    def vault_name(self) -> str:
        """Name of the vault."""
        return self.key.vault_name

    @property
    def visible_vault(self) -> VaultFacts | None:
        """The vault's control plane; None if the current grants do not show it."""
        return self.vault if isinstance(self.vault, VaultFacts) else None

    @property
    def vault_scope(self) -> str:
        """The vault's Resource Manager id as an argument for az; if unknown, a command that looks it up."""
        if self.visible_vault is not None:
            return self.visible_vault.resource_id.text
        return f'"$(az keyvault show --name {self.vault_name} --query id --output tsv)"'
