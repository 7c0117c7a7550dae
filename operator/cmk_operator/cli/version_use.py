"""What uses which version of a key, what stops without it, and which may be disabled; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cmk_operator.api.conditions import find
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.kinds.service_timing import Stop, restores_under, stops
from cmk_operator.providers.registry import timing_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cmk_operator.api.customer_managed_key import CustomerManagedKey, VersionReport
    from cmk_operator.api.encrypted_resource import EncryptedResource


@dataclass(frozen=True, slots=True)
class User:
    """A resource that Azure reports on a key: its name as the key's status has it, its type, and the version."""

    name: str
    resource_type: str
    version: str
    """Empty where the service does not tell."""
    machines: tuple[str, ...] = ()
    """Virtual machines that stop with it."""


def users_of(key: CustomerManagedKey, resources: Iterable[EncryptedResource]) -> tuple[User, ...]:
    """The resources that are on any version of the key, by whichever manifest, in the order of their names.

    Those that no manifest names follow, by their Azure resource ids.
    """
    uri = key.spec.uri
    if uri is None:
        return ()
    found = [
        User(
            _name(key, resource),
            resource.spec.target.resource_type,
            applied.version,
            resource.status.details.attached_to if resource.status.details is not None else (),
        )
        for resource in resources
        if (applied := resource.status.applied) is not None
        and applied.uri is not None
        and applied.uri.versionless == uri.versionless
    ]
    unnamed = [
        User(one.resource_id, ArmId(one.resource_id).resource_type, one.version or "") for one in key.status.without_manifest
    ]
    return (*sorted(found, key=lambda user: user.name), *unnamed)


def users_unknown(key: CustomerManagedKey) -> str | None:
    """Why there may be more users than are known, and who must act; None if Azure's lists show all of them."""
    known = find(key.status.conditions, ConditionType.USERS_KNOWN)
    if known is None:
        return "the operator has not read Azure's lists of what uses the key"
    return None if known.status == "True" else known.message


def _backups_unknown(key: CustomerManagedKey) -> bool:
    """Whether it is not known how long backups that Azure does not list are kept."""
    return key.spec.rotation is None or key.spec.rotation.backup_retention is None


def waiting_for(key: CustomerManagedKey, resources: Iterable[EncryptedResource]) -> tuple[str, ...]:
    """The resources whose manifests name the key and that are not on it yet."""
    on_it = {user.name for user in users_of(key, resources)}
    wanted = (
        _name(key, resource)
        for resource in resources
        if resource.metadata.namespace == key.metadata.namespace and resource.spec.key_ref.name == key.metadata.name
    )
    return tuple(sorted(name for name in wanted if name not in on_it))


def _name(key: CustomerManagedKey, resource: EncryptedResource) -> str:
    namespace, name = resource.metadata.namespace, resource.metadata.name
    return name if namespace == key.metadata.namespace else f"{namespace}/{name}"


class MayDisable(StrEnum):
    """Whether the customer may disable a version now."""

    YES = "Yes"
    BREAKS_BACKUPS = "BreaksBackups"
    """Nothing stops, but backups that need it cannot be restored."""
    NOT_YET = "NotYet"
    NO = "No"
    UNKNOWN = "Unknown"
    """Not everything that may be on it could be listed."""
    ALREADY = "AlreadyDisabled"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a version may be disabled, and why or why not."""

    may: MayDisable
    why: str


def may_disable(key: CustomerManagedKey, entry: VersionReport, users: Iterable[User], now: datetime) -> Verdict:
    """Judge one version; only what status is sure of is said to be safe (law 4: say what is safe, never do it)."""
    on_it = tuple(user.name for user in users if user.version == entry.version)
    known = max(len(on_it), entry.in_use_by_count)
    names = ", ".join(on_it or entry.in_use_by)
    if entry.enabled is False or entry.access == AccessState.DISABLED:
        unknown = users_unknown(key)
        nobody = "no resource needs it" if unknown is None else f"no resource is known to need it; {unknown}"
        return Verdict(MayDisable.ALREADY, f"it is disabled, and {f'{known} on it stop: {names}' if known else nobody}")
    if entry.version == key.status.active_version:
        return Verdict(MayDisable.NO, "it is the active version: the operator moves resources to it")
    if known:
        return Verdict(MayDisable.NO, f"{known} on it would stop: {names}")
    if entry.safe_to_disable_after is None and entry.superseded_at is not None:
        return Verdict(MayDisable.UNKNOWN, entry.reason or "whether anything is on it is not known")
    if entry.safe_to_disable_after is None:
        return Verdict(MayDisable.NO, "some resources may be on it: their service does not report which version it uses")
    if entry.safe_to_disable_after > now:
        return Verdict(MayDisable.NOT_YET, "Azure's services may still use it until the time shown")
    return _by_backups(key, entry, now)


def _by_backups(key: CustomerManagedKey, entry: VersionReport, now: datetime) -> Verdict:
    """Judge a version that nothing is on: only backups may need it."""
    if entry.keep_until is not None and entry.keep_until > now:
        return Verdict(MayDisable.BREAKS_BACKUPS, "no resource is on it; there may be backups that need it until keepUntil")
    if _backups_unknown(key):
        return Verdict(
            MayDisable.BREAKS_BACKUPS,
            "no resource is on it; how long backups that need it are kept is unknown (spec.rotation.backupRetention is not set)",
        )
    if entry.keep_until is None:
        return Verdict(MayDisable.BREAKS_BACKUPS, entry.reason or "how long backups that need it are kept is unknown")
    return Verdict(MayDisable.YES, "no resource is on it, and no backup that needs it is kept any more")


@dataclass(frozen=True, slots=True)
class BrokenBackups:
    """Backups that cannot be restored without a version; `until` is None if it is unknown how long they are kept."""

    version: str
    until: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Impact:
    """What follows when a version (None: the whole key) is disabled at a time."""

    version: str | None
    stops: tuple[Stop, ...]
    backups: tuple[BrokenBackups, ...]
    waiting: tuple[str, ...]
    unaffected: tuple[str, ...]
    in_doubt: tuple[str, ...]
    """Resources among those that stop, whose service does not report which version it uses."""
    untold: int
    """Resources that the key's status counts and that could not be read."""
    lingering_until: datetime | None
    """Until when services that have moved off the version may still use it."""
    unknown: str | None
    """Why there may be more that stops, and who must act; None if everything is known."""
    beside_key: tuple[str, ...] = ()
    """Data of the resources that stop which goes on, because the key does not protect it."""


def impact(
    key: CustomerManagedKey, resources: tuple[EncryptedResource, ...], version: str | None, disabled_at: datetime
) -> Impact:
    """Say what follows when `version`, or with None every version, is disabled."""
    users = users_of(key, resources)
    hit = [user for user in users if version is None or user.version in {version, ""}]
    reports = [entry for entry in key.status.versions if version in {None, entry.version}]
    needing = ", and ".join(("backups made under it", *restores_under(timing_of(user.resource_type) for user in users)))
    counted = sum(entry.in_use_by_count for entry in reports)
    lingering = [entry.safe_to_disable_after for entry in reports if entry.safe_to_disable_after is not None]
    return Impact(
        version=version,
        stops=stops(
            [(user.name, timing_of(user.resource_type)) for user in hit],
            disabled_at,
            {user.name: user.machines for user in hit},
        ),
        backups=tuple(found for entry in reports if (found := _backups(key, entry, needing, disabled_at)) is not None),
        waiting=waiting_for(key, resources) if version in {None, key.status.active_version} else (),
        unaffected=tuple(user.name for user in users if user not in hit),
        in_doubt=tuple(user.name for user in hit if not user.version) if version is not None else (),
        untold=max(0, counted - sum(1 for user in hit if user.version)),
        lingering_until=max((at for at in lingering if at > disabled_at), default=None) if version is not None else None,
        unknown=users_unknown(key),
        beside_key=_beside_key(key, resources, {user.name for user in hit}),
    )


def _beside_key(key: CustomerManagedKey, resources: Iterable[EncryptedResource], hit: set[str]) -> tuple[str, ...]:
    """For each resource that stops, what status lists of it that the key certainly does not protect."""
    found = []
    for resource in resources:
        name, details = _name(key, resource), resource.status.details
        parts = [one.part for one in details.not_covered if one.covered == "No"] if details is not None else []
        if name in hit and parts:
            found.append(f"{name}: {', '.join(parts)}")
    return tuple(sorted(found))


def _backups(key: CustomerManagedKey, entry: VersionReport, needing: str, at: datetime) -> BrokenBackups | None:
    if entry.version == key.status.active_version or entry.in_use_by_count:
        return BrokenBackups(entry.version, None, f"{needing}, which are still made")
    unset = "spec.rotation.backupRetention is not set" if _backups_unknown(key) else ""
    if entry.keep_until is not None and entry.keep_until > at:
        others = f", and others for an unknown time ({unset})" if unset else ""
        return BrokenBackups(entry.version, entry.keep_until, f"{needing} until then{others}")
    if unset or entry.keep_until is None:
        return BrokenBackups(entry.version, None, f"{needing}, for an unknown time ({unset or entry.reason})")
    return None


class UnknownVersionError(ValueError):
    """A text names no known version of a key, or several; the message says which there are."""


def version_named(key: CustomerManagedKey, text: str) -> str:
    """The known version that a text names in full, or by its first letters. Raises `UnknownVersionError`."""
    known = {entry.version: None for entry in key.status.versions}
    if key.status.pending_version is not None:
        known[key.status.pending_version] = None
    matching = [version for version in known if version.startswith(text.lower())]
    if len(matching) == 1:
        return matching[0]
    listed = ", ".join(known) or "none"
    what = "several versions begin with" if matching else "no known version is or begins with"
    raise UnknownVersionError(f"{what} {text!r}; known are: {listed}")
