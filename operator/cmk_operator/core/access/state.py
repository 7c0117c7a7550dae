"""The states of access to a key: who must act, and what stops if nobody does."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cmk_operator.core.faults.fault import Actor
from cmk_operator.core.faults.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cmk_operator.core.faults.azure_failure import AzureFailure


class AccessState(StrEnum):
    """The result of the last probe; each state is also a reason of the `KeyAccessible` condition, with the same word."""

    ACCESSIBLE = Reason.ACCESSIBLE.value
    DISABLED = Reason.DISABLED.value
    EXPIRED = Reason.EXPIRED.value
    NOT_YET_VALID = Reason.NOT_YET_VALID.value
    DELETED = Reason.DELETED.value
    BEING_DELETED_OR_RECOVERED = Reason.BEING_DELETED_OR_RECOVERED.value
    MISSING = Reason.MISSING.value
    PURGED = Reason.PURGED.value
    VERSION_MISSING = Reason.VERSION_MISSING.value
    PERMISSION_DENIED = Reason.PERMISSION_DENIED.value
    CONSENT_MISSING = Reason.CONSENT_MISSING.value
    VAULT_IN_ANOTHER_TENANT = Reason.VAULT_IN_ANOTHER_TENANT.value
    IDENTITY_BROKEN = Reason.IDENTITY_BROKEN.value
    ENTRA_REFUSED = Reason.ENTRA_REFUSED.value
    CREDENTIAL_REPLICATING = Reason.CREDENTIAL_REPLICATING.value
    VERSION_REPLICATING = Reason.VERSION_REPLICATING.value
    OPERATOR_NOT_AUTHENTICATED = Reason.OPERATOR_NOT_AUTHENTICATED.value
    FIREWALL_BLOCKS_SERVICES = Reason.FIREWALL_BLOCKS_SERVICES.value
    FIREWALL_BLOCKS_PROBE = Reason.FIREWALL_BLOCKS_PROBE.value
    VAULT_REFUSED = Reason.VAULT_REFUSED.value
    VAULT_UNREACHABLE = Reason.VAULT_UNREACHABLE.value
    UNKNOWN = Reason.UNKNOWN.value

    @property
    def reason(self) -> Reason:
        """The reason that a condition gives for this state."""
        return Reason.read(self.value)

    @staticmethod
    def read(text: str) -> AccessState:
        """The state that a status or condition holds; `UNKNOWN` for a word that is no state of this release."""
        return _BY_WORD.get(text, AccessState.UNKNOWN)

    @property
    def acts(self) -> Actor | None:
        """Who can usually end the state; the message of a probe names the actor for certain."""
        return _ACTS.get(self)

    @property
    def is_known_loss(self) -> bool:
        """Whether Azure's services, which use the same path, are refused too."""
        return self in _KNOWN_LOSS

    @property
    def cuts_data_off(self) -> bool:
        """Whether data is expected to become inaccessible while the state lasts; an outage of the vault counts."""
        return self in _KNOWN_LOSS or self in {AccessState.VAULT_UNREACHABLE, AccessState.VAULT_REFUSED}

    @property
    def is_delay(self) -> bool:
        """Whether Azure may only not show everywhere yet what was just changed; a loss that was there before lasts meanwhile."""
        return self in _DELAYS

    @property
    def tells_nothing(self) -> bool:
        """Whether the probe showed nothing about the key and the customer's consent."""
        return self in _TELLS_NOTHING

    @property
    def shows_soon(self) -> bool:
        """Whether Azure shows within seconds what it is."""
        return self in {AccessState.BEING_DELETED_OR_RECOVERED, AccessState.VERSION_REPLICATING}

    @property
    def spares_other_applications(self) -> bool:
        """Whether the state affects only the provider's application, and not a service with an application of its own."""
        return self in _OF_PROVIDER_APPLICATION


_BY_WORD: Final = {state.value: state for state in AccessState}
_ACTS: Final = {
    AccessState.DISABLED: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.EXPIRED: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.NOT_YET_VALID: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.DELETED: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.BEING_DELETED_OR_RECOVERED: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.MISSING: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.PURGED: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.CREDENTIAL_REPLICATING: Actor.AZURE,
    AccessState.VERSION_REPLICATING: Actor.AZURE,
    AccessState.VERSION_MISSING: Actor.PLATFORM_ENGINEER,
    AccessState.PERMISSION_DENIED: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.CONSENT_MISSING: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.VAULT_IN_ANOTHER_TENANT: Actor.PLATFORM_ENGINEER,
    AccessState.IDENTITY_BROKEN: Actor.PROVIDER_ADMINISTRATOR,
    AccessState.ENTRA_REFUSED: Actor.PROVIDER_ADMINISTRATOR,
    AccessState.OPERATOR_NOT_AUTHENTICATED: Actor.PROVIDER_ADMINISTRATOR,
    AccessState.FIREWALL_BLOCKS_SERVICES: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.FIREWALL_BLOCKS_PROBE: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.VAULT_REFUSED: Actor.CUSTOMER_ADMINISTRATOR,
    AccessState.VAULT_UNREACHABLE: Actor.AZURE,
    AccessState.UNKNOWN: Actor.AZURE,
}
_DELAYS: Final = frozenset({AccessState.CREDENTIAL_REPLICATING, AccessState.VERSION_REPLICATING})
_TELLS_NOTHING: Final = frozenset(
    {
        AccessState.UNKNOWN,
        AccessState.VAULT_UNREACHABLE,
        AccessState.OPERATOR_NOT_AUTHENTICATED,
        AccessState.CREDENTIAL_REPLICATING,
    }
)
_OF_PROVIDER_APPLICATION: Final = frozenset(
    {
        AccessState.PERMISSION_DENIED,
        AccessState.CONSENT_MISSING,
        AccessState.IDENTITY_BROKEN,
        AccessState.ENTRA_REFUSED,
        AccessState.CREDENTIAL_REPLICATING,
        AccessState.FIREWALL_BLOCKS_SERVICES,
    }
)
_KNOWN_LOSS: Final = frozenset(
    {
        AccessState.DISABLED,
        AccessState.EXPIRED,
        AccessState.NOT_YET_VALID,
        AccessState.DELETED,
        AccessState.BEING_DELETED_OR_RECOVERED,
        AccessState.MISSING,
        AccessState.PURGED,
        AccessState.VERSION_MISSING,
        AccessState.PERMISSION_DENIED,
        AccessState.CONSENT_MISSING,
        AccessState.VAULT_IN_ANOTHER_TENANT,
        AccessState.IDENTITY_BROKEN,
        AccessState.ENTRA_REFUSED,
        AccessState.FIREWALL_BLOCKS_SERVICES,
    }
)


@dataclass(frozen=True, slots=True)
class KeyAttributes:
    """The attributes that a GET of one key version returns (public part only).

    `recovery_level` and `recoverable_days` are the only way to see purge protection without control-plane rights.
    Source: Key Vault REST, KeyBundle and DeletionRecoveryLevel.
    """

    version: str
    enabled: bool
    key_type: str
    key_size: int | None
    operations: tuple[str, ...]
    created: datetime | None = None
    updated: datetime | None = None
    not_before: datetime | None = None
    expires: datetime | None = None
    recovery_level: str = ""
    recoverable_days: int | None = None
    vault_region: str | None = None
    """The vault's region, such as `westeurope`, from the response header x-ms-keyvault-region."""
    request_id: str | None = field(default=None, compare=False)
    """Azure's id of the request, for the audit record."""


@dataclass(frozen=True, slots=True)
class VersionProbe:
    """The probe of one version: get, wrapKey, unwrapKey; the first refusal ends it."""

    attributes: KeyAttributes | None = None
    failure: AzureFailure | None = None
    operation: str = "get"
    """The vault operation that failed: get, wrapKey or unwrapKey."""
    round_trip: bool = False
    """Whether unwrapping returned the wrapped bytes."""


@dataclass(frozen=True, slots=True)
class DeletedKey:
    """A soft-deleted key, from GET /deletedkeys/{name}."""

    scheduled_purge: datetime | None


@dataclass(frozen=True, slots=True)
class KeyProbe:
    """The result of one probe of a key, through the customer's consent and grants."""

    at: datetime
    wanted: VersionProbe
    """The pinned version, or the latest."""
    in_use: Mapping[str, VersionProbe] = field(default_factory=dict)
    """The probes of older versions that still protect a resource, by version."""
    deleted: DeletedKey | None = None
    """Set if the key was not found, but its soft-deleted form was."""
    latest_exists: bool | None = None
    """For a pinned version that was not found: whether the key itself exists (None: not read)."""
    vault_tenant: str | None = None
    """The tenant in the vault's challenge, if it is not the declared one."""
    application_missing: bool = False
    """Whether the provider's tenant was last observed without the application."""
    missing_since: datetime | None = None
    """Since when the vault has found the key, or the version that it showed, nowhere; None if it was never missed before."""
    credential_since: datetime | None = None
    """Since when the application has been seen with a fitting federated credential; None if that is not known."""
    proven_at: datetime | None = None
    """The time since which every step has succeeded for every version; None: in this probe itself, at `at`."""


@dataclass(frozen=True, slots=True)
class Access:
    """The verdict on one probe: the state, a deterministic sentence that ends with who must do what, and that actor."""

    state: AccessState
    message: str
    actor: Actor | None = None
    request_id: str | None = None
