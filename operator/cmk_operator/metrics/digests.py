"""What metrics need of an object: a thousandth of it, so that all of them fit in memory; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import find
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmk_operator.api.conditions import Condition
    from cmk_operator.api.customer_managed_key import CustomerManagedKey, VersionReport
    from cmk_operator.api.customer_tenant import CustomerTenant
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.api.federated_identity import FederatedIdentity
    from cmk_operator.api.notifications import NotificationsReport
    from cmk_operator.api.organization_key import CredentialReport, OrganizationKey

UNKNOWN_KIND: Final = "Unknown"
"""Kind of a resource that has not been reconciled yet."""


class Phase(StrEnum):
    """The phase of a key version in its life."""

    ACTIVE = "Active"
    IN_USE = "InUse"
    HELD = "Held"
    UNKNOWN = "Unknown"
    NEEDED_BY_BACKUPS = "NeededByBackups"
    SAFE_TO_DISABLE = "SafeToDisable"


@dataclass(frozen=True, slots=True)
class NotificationCounts:
    """Notifications of an object that are pending, and that were discarded."""

    pending: int
    dropped: int


@dataclass(frozen=True, slots=True)
class VersionDigest:
    """One version: its phase follows from these times and the present."""

    version: str
    active: bool
    in_use: bool
    safe_to_disable_after: float | None
    keep_until: float | None
    superseded: bool
    backups_known: bool
    """Whether the manifest says how long backups are kept."""
    lost: bool
    """Lost to Azure's services while the active version is accessible."""

    def is_lost_too_early(self, now: float) -> bool:
        """Whether it was superseded and lost at a Unix time at which services or backups are known to need it."""
        after = self.safe_to_disable_after
        return self.lost and after is not None and now < max(after, self.keep_until or after)

    def phase(self, now: float) -> Phase:
        """The phase at a Unix time; without a known retention, backups are taken to need the version for ever."""
        if self.active:
            return Phase.ACTIVE
        if self.safe_to_disable_after is None:
            return Phase.UNKNOWN if self.superseded else Phase.IN_USE
        if now < self.safe_to_disable_after:
            return Phase.HELD
        kept = self.keep_until is None or now < self.keep_until or not self.backups_known
        return Phase.NEEDED_BY_BACKUPS if kept else Phase.SAFE_TO_DISABLE


@dataclass(frozen=True, slots=True)
class KeyDigest:
    """A CustomerManagedKey; times are Unix times."""

    vault_host: str
    tenant: str
    ready: bool
    state: str
    since: float | None
    cut_off: float | None
    stops: tuple[tuple[str, float], ...]
    """Services with the time at which their data stops."""
    expires: float | None
    prerequisites: tuple[tuple[str, int], ...]
    failed: tuple[str, ...]
    versions: tuple[VersionDigest, ...]
    without_manifest: int
    users_known: bool
    lost_old_versions: int
    awaits_approval: bool
    notifications: NotificationCounts
    not_seen: bool


@dataclass(frozen=True, slots=True)
class ResourceDigest:
    """An EncryptedResource; times are Unix times."""

    key: str
    kind: str
    ready: bool
    encrypted: bool
    stalled: bool
    lag_since: float | None
    operation_since: float | None
    inaccessible_databases: int
    rotation_error: bool
    not_covered: bool
    contested: bool
    notifications: NotificationCounts
    not_seen: bool


@dataclass(frozen=True, slots=True)
class TenantDigest:
    """A CustomerTenant."""

    ready: bool
    consent: str
    not_seen: bool


@dataclass(frozen=True, slots=True)
class IdentityDigest:
    """A FederatedIdentity."""

    ready: bool
    not_seen: bool


@dataclass(frozen=True, slots=True)
class OrganizationDigest:
    """An OrganizationKey; times are Unix times."""

    tenant: str | None
    ready: bool
    conditions: tuple[tuple[str, str, str], ...]
    """Type, status and reason of each."""
    revision: int | None
    data_keys: tuple[tuple[str, int], ...]
    """By whether they are on the key version in force (`InForce`) or not (`Earlier`); empty before the first report."""
    credential_expires: float | None
    notifications: NotificationCounts
    not_seen: bool


def digest_key(key: CustomerManagedKey) -> KeyDigest:
    """What metrics need of a key; before its first probe its state is `Unknown`."""
    status = key.status
    access = status.access
    needed = [entry for entry in status.versions if entry.version == status.active_version or entry.in_use_by_count]
    expiries = [datetime.fromisoformat(entry.expires).timestamp() for entry in needed if entry.expires]
    active = next((entry for entry in status.versions if entry.version == status.active_version), None)
    is_well = active is not None and active.access == AccessState.ACCESSIBLE
    results = [entry.result for entry in status.prerequisites]
    return KeyDigest(
        vault_host=key.spec.uri.vault_host if key.spec.uri is not None else "",
        tenant=key.spec.tenant_ref.name,
        ready=_is_true(status.conditions, ConditionType.READY),
        state=access.state if access is not None else AccessState.UNKNOWN.value,
        since=_unix(access.since) if access is not None else None,
        cut_off=_unix(access.inaccessible_expected_at) if access is not None else None,
        stops=tuple((stop.service, stop.expected_at.timestamp()) for stop in access.stops) if access is not None else (),
        expires=min(expiries, default=None),
        prerequisites=tuple((result, results.count(result)) for result in sorted(set(results))),
        failed=tuple(entry.name for entry in status.prerequisites if entry.result == "Fail"),
        versions=tuple(_version(key, entry, is_well=is_well) for entry in status.versions),
        without_manifest=status.without_manifest_count,
        users_known=_is_true(status.conditions, ConditionType.USERS_KNOWN),
        lost_old_versions=sum(_is_lost(entry) for entry in needed if entry is not active) if is_well else 0,
        awaits_approval=status.pending_version is not None,
        notifications=_notification_counts(status.notifications),
        not_seen=_is_not_seen(status.conditions),
    )


def _version(key: CustomerManagedKey, entry: VersionReport, *, is_well: bool) -> VersionDigest:
    active, rotation = key.status.active_version, key.spec.rotation
    return VersionDigest(
        entry.version,
        entry.version == active,
        entry.in_use_by_count > 0,
        _unix(entry.safe_to_disable_after),
        _unix(entry.keep_until),
        entry.superseded_at is not None,
        rotation is not None and rotation.backup_retention is not None,
        is_well and entry.version != active and _is_lost(entry),
    )


def _is_lost(entry: VersionReport) -> bool:
    return entry.access in _LOST


_LOST: Final = frozenset(state.value for state in AccessState if state.is_known_loss)


def digest_resource(resource: EncryptedResource) -> ResourceDigest:
    """What metrics need of a resource."""
    status = resource.status
    current = find(status.conditions, ConditionType.KEY_CURRENT)
    covered = find(status.conditions, ConditionType.DATA_COVERED)
    ready = find(status.conditions, ConditionType.READY)
    lags = current is not None and current.status == "False" and current.reason != Reason.NOT_ON_KEY
    return ResourceDigest(
        key=resource.spec.key_ref.name,
        kind=status.target.kind if status.target is not None else UNKNOWN_KIND,
        ready=_is_true(status.conditions, ConditionType.READY),
        encrypted=_is_true(status.conditions, ConditionType.ENCRYPTED),
        stalled=_is_true(status.conditions, ConditionType.STALLED),
        lag_since=_unix(current.last_transition_time) if current is not None and lags else None,
        operation_since=_unix(status.operation.started_at) if status.operation is not None else None,
        inaccessible_databases=len(status.details.inaccessible_databases) if status.details is not None else 0,
        rotation_error=status.details is not None and status.details.rotation_error is not None,
        contested=ready is not None and ready.reason == Reason.CONTESTED,
        not_covered=covered is not None and covered.status == "False" and covered.reason == Reason.DATA_NOT_COVERED,
        notifications=_notification_counts(status.notifications),
        not_seen=_is_not_seen(status.conditions),
    )


_NONE_PENDING: Final = NotificationCounts(0, 0)


def _notification_counts(notifications: NotificationsReport | None) -> NotificationCounts:
    return NotificationCounts(len(notifications.pending), notifications.dropped) if notifications is not None else _NONE_PENDING


def digest_organization(organization: OrganizationKey) -> OrganizationDigest:
    """What metrics need of an organization's key."""
    status = organization.status
    accepted, counted = status.accepted, status.data_keys
    in_force = accepted.kid if accepted is not None else ""
    ends = [_end_of(entry) for entry in status.credentials]
    of_kid = [(entry.kid == in_force, entry.data_keys) for entry in counted.by_kid] if counted is not None else []
    return OrganizationDigest(
        tenant=organization.spec.tenant_ref.name if organization.spec.tenant_ref is not None else None,
        ready=_is_true(status.conditions, ConditionType.READY),
        conditions=tuple((one.type, one.status, one.reason) for one in status.conditions),
        revision=accepted.revision if accepted is not None else None,
        data_keys=(
            ("InForce", sum(number for current, number in of_kid if current)),
            ("Earlier", sum(number for current, number in of_kid if not current)),
        )
        if counted is not None
        else (),
        credential_expires=max((end for end in ends if end is not None), default=None) if None not in ends else None,
        notifications=_notification_counts(status.notifications),
        not_seen=_is_not_seen(status.conditions),
    )


def _end_of(credential: CredentialReport) -> float | None:
    """When a credential expires; None if nobody knows."""
    try:
        return datetime.fromisoformat(credential.expires).timestamp()
    except ValueError:
        return None


def digest_tenant(tenant: CustomerTenant) -> TenantDigest:
    """What metrics need of a tenant."""
    consent = tenant.status.consent
    return TenantDigest(
        _is_true(tenant.status.conditions, ConditionType.READY),
        consent.state if consent is not None else "Unknown",
        _is_not_seen(tenant.status.conditions),
    )


def digest_identity(identity: FederatedIdentity) -> IdentityDigest:
    """What metrics need of an identity."""
    conditions = identity.status.conditions
    return IdentityDigest(_is_true(conditions, ConditionType.READY), _is_not_seen(conditions))


def _is_true(conditions: Sequence[Condition], kind: ConditionType) -> bool:
    condition = find(conditions, kind)
    return condition is not None and condition.status == "True"


def _is_not_seen(conditions: Sequence[Condition]) -> bool:
    return any(condition.reason == Reason.NOT_SEEN_LATELY for condition in conditions)


def _unix(time: datetime | None) -> float | None:
    return time.timestamp() if time is not None else None
