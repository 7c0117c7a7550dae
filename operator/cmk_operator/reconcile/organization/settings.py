"""The settings that a manifest asks for, compared with those in force, and the status once they are accepted; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Literal

from cmk_operator.api.durations import parse_duration
from cmk_operator.api.organization_key import (
    MOST_EARLIER,
    AcceptedKey,
    EarlierKey,
    EffectiveOrganizationKey,
)
from cmk_operator.core.identifiers.key_uri import KeyUri, key_uri_or_none

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from cmk_operator.api.organization_key import AcceptedAccess, Canary, OrganizationKey, OrganizationKeyStatus

PLATFORM_KEY: Final = "platform-key"
"""The `kid` of the platform's own key, which the key service holds."""
CHECK_INTERVAL: Final = "1h"
PROBE_INTERVAL: Final = "60s"
OUTAGE_GRACE: Final = "10m"


class Difference(Enum):
    """How the settings of a manifest differ from those in force."""

    NONE = auto()
    BOUNDS = auto()
    """Only intervals, which need no test."""
    ACCESS = auto()
    """The same key, reached in another way."""
    KEY = auto()
    """Another key, another mode, or nothing is in force yet."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The settings that a manifest asks for; without key and access for the platform's key."""

    probe_interval_seconds: int
    outage_grace_seconds: int
    key_uri: KeyUri | None = None
    access: AcceptedAccess | None = None

    @property
    def mode(self) -> Literal["CustomerManaged", "PlatformManaged"]:
        """Whose key it is."""
        return "PlatformManaged" if self.key_uri is None else "CustomerManaged"


@dataclass(frozen=True, slots=True)
class Proven:
    """What the test of settings has shown: the version that wraps, and the canary that it has wrapped."""

    kid: str = PLATFORM_KEY
    algorithm: str | None = None
    canary: Canary | None = None
    old_access: AcceptedAccess | None = None
    """How the key in force is reached, if only the new access still reaches it."""
    request_id: str | None = None
    vault_region: str | None = None
    """The region that the vault names; None if it names none."""


def effective_settings(organization: OrganizationKey) -> EffectiveOrganizationKey:
    """The values in force: from the manifest, or the defaults."""
    spec = organization.spec
    rotation, revocation = spec.rotation, spec.revocation
    pinned = spec.uri is not None and spec.uri.version is not None
    return EffectiveOrganizationKey(
        mode=spec.mode or "PlatformManaged",
        rotation=None if not spec.customer_managed else "Pinned" if pinned else "Following",
        check_interval=(rotation.check_interval if rotation is not None else None) or CHECK_INTERVAL,
        approval=(rotation.approval if rotation is not None else None) or "Automatic",
        probe_interval=(revocation.probe_interval if revocation is not None else None) or PROBE_INTERVAL,
        outage_grace=(revocation.outage_grace if revocation is not None else None) or OUTAGE_GRACE,
        backup_retention=spec.backup_retention,
    )


def wanted_settings(
    organization: OrganizationKey, key_uri: KeyUri | None = None, access: AcceptedAccess | None = None
) -> Wanted:
    """What the manifest asks for, with the key and access to which its references lead."""
    effective = effective_settings(organization)
    return Wanted(
        max(1, int(parse_duration(effective.probe_interval).total_seconds())),
        int(parse_duration(effective.outage_grace).total_seconds()),
        key_uri,
        access,
    )


def difference(accepted: AcceptedKey | None, wanted: Wanted) -> Difference:
    """How wanted settings differ from those in force."""
    if accepted is None or accepted.mode != wanted.mode or key_of(accepted) != wanted.key_uri:
        return Difference.KEY
    if accepted.access != wanted.access:
        return Difference.ACCESS
    bounds = (wanted.probe_interval_seconds, wanted.outage_grace_seconds)
    return Difference.NONE if bounds == (accepted.probe_interval_seconds, accepted.outage_grace_seconds) else Difference.BOUNDS


def key_of(accepted: AcceptedKey) -> KeyUri | None:
    """The key that settings name, as their manifest named it; None for the platform's key."""
    return key_uri_or_none(accepted.key_uri) if accepted.key_uri is not None else None


def version_of(accepted: AcceptedKey) -> KeyUri | None:
    """The key version in force; None for the platform's key."""
    return key_uri_or_none(accepted.kid)


def known_kid(status: OrganizationKeyStatus, kid: str) -> str:
    """The name that the status already has for a key version; the given one if it has none.

    Key Vault compares names without regard to case, and a manifest may be spelled anew: a second name for the version in force
    would make the first look unused.
    """
    known = (status.accepted, *status.earlier) if status.accepted is not None else status.earlier
    return next((one.kid for one in known if one.kid.lower() == kid.lower()), kid)


def with_accepted(status: OrganizationKeyStatus, wanted: Wanted, proven: Proven, now: datetime) -> OrganizationKeyStatus:
    """The status with settings in force that have passed their test; those before become the first of `earlier`."""
    before = status.accepted
    revision = before.revision + 1 if before is not None else 1
    left: list[EarlierKey] = []
    if before is not None and proven.old_access is not None and proven.old_access != before.access:
        # Only the new access still reaches the key in force: whoever needs that key must find this access first.
        bridge = before.model_copy(update={"revision": revision, "access": proven.old_access, "since": now})
        left.append(_ended(bridge, now))
        revision += 1
    accepted = AcceptedKey(
        revision=revision,
        mode=wanted.mode,
        key_uri=str(wanted.key_uri) if wanted.key_uri is not None else None,
        kid=known_kid(status, proven.kid),
        algorithm=proven.algorithm,
        canary=proven.canary,
        since=now,
        probe_interval_seconds=wanted.probe_interval_seconds,
        outage_grace_seconds=wanted.outage_grace_seconds,
        access=wanted.access,
    )
    if before is not None and (before.kid, before.access) != (accepted.kid, accepted.access):
        left.append(_ended(before, now))
    in_use = {entry.kid for entry in status.data_keys.by_kid if entry.data_keys} if status.data_keys is not None else set()
    return status.model_copy(update={"accepted": accepted, "earlier": _kept((*left, *status.earlier), in_use)})


def with_bounds(status: OrganizationKeyStatus, wanted: Wanted) -> OrganizationKeyStatus:
    """The status with other intervals; the key and its access stay as they are."""
    if status.accepted is None:
        return status
    accepted = status.accepted.model_copy(
        update={
            "revision": status.accepted.revision + 1,
            "probe_interval_seconds": wanted.probe_interval_seconds,
            "outage_grace_seconds": wanted.outage_grace_seconds,
        }
    )
    return status.model_copy(update={"accepted": accepted})


def _ended(accepted: AcceptedKey, now: datetime) -> EarlierKey:
    return EarlierKey(**{**accepted.model_dump(), "until": now})


def _kept(entries: Iterable[EarlierKey], in_use: AbstractSet[str]) -> tuple[EarlierKey, ...]:
    """The newest entry of each key and access. If there are too many, the oldest go that no data key is on."""
    newest: dict[tuple[str, AcceptedAccess | None], EarlierKey] = {}
    for entry in entries:
        newest.setdefault((entry.kid, entry.access), entry)
    kept = list(newest.values())
    for entry in reversed(newest.values()):
        if len(kept) > MOST_EARLIER and entry.kid not in in_use:
            kept.remove(entry)
    return tuple(kept[:MOST_EARLIER])
