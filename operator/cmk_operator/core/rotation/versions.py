"""The lifecycle of a key's versions: which is active, which still protects a resource, and when one may be disabled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

HOLD_SUPERSEDED_FOR: Final = timedelta(hours=24)
"""Services check for new versions daily, so a superseded version must stay enabled for a day.

Source: Azure Storage, "Customer-managed keys for account encryption", key rotation.
"""
MAXIMUM_VERSIONS: Final = 20
MOST_WATCHED: Final = 5
"""Most superseded versions to probe; each costs a probe in every interval."""


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version that is or was in use."""

    version: str
    enabled: bool | None = None
    created: datetime | None = None
    expires: datetime | None = None
    users: tuple[str, ...] = ()
    superseded_at: datetime | None = None
    """When it was first neither active nor used by any resource."""


@dataclass(frozen=True, slots=True)
class VersionHistory:
    """The versions of a key that its status holds."""

    active: str | None = None
    versions: tuple[KeyVersion, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """The result of one probe: the version that passed (None: none did), details, and users by version."""

    active: str | None
    details: Mapping[str, KeyVersion] = field(default_factory=dict)
    users: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unversioned: tuple[str, ...] = ()
    """Users for which Azure does not report the version; they may need any of them."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """When resources and backups no longer need an old version, and a sentence on it."""

    safe_to_disable_after: datetime | None
    keep_until: datetime | None
    reason: str


def advance(history: VersionHistory, facts: VersionFacts, now: datetime) -> VersionHistory:
    """Add the result of one probe to the history.

    Only a version that passed the probe becomes active. A version that a resource uses is never dropped and never counts as
    superseded.
    """
    active = facts.active or history.active
    known = {entry.version: entry for entry in history.versions}
    names = dict.fromkeys([*([active] if active else []), *facts.users, *known])
    merged = [_merge(name, known.get(name), facts, active, now) for name in names]
    needed = [entry for entry in merged if entry.version == active or entry.users]
    retired = sorted((entry for entry in merged if entry not in needed), key=_supersession, reverse=True)
    return VersionHistory(active, (*needed, *retired[: max(0, MAXIMUM_VERSIONS - len(needed))]))


def _supersession(entry: KeyVersion) -> float:
    return entry.superseded_at.timestamp() if entry.superseded_at is not None else 0.0


def _merge(name: str, known: KeyVersion | None, facts: VersionFacts, active: str | None, now: datetime) -> KeyVersion:
    seen = facts.details.get(name)
    base = seen or known or KeyVersion(name)
    if seen is not None and known is not None:
        base = replace(seen, created=seen.created or known.created)
    users = facts.users.get(name, ())
    if name == active or users or facts.unversioned:
        return replace(base, users=users, superseded_at=None)
    since = known.superseded_at if known is not None and known.superseded_at is not None else now
    return replace(base, users=(), superseded_at=since)


def watched(retired: Iterable[tuple[str, Retirement]], now: datetime) -> frozenset[str]:
    """Superseded versions that services or backups may still need, so that their loss is reported; `retired` is newest first."""
    needed = [
        version
        for version, until in retired
        if until.safe_to_disable_after is not None and now < max(until.safe_to_disable_after, until.keep_until or now)
    ]
    return frozenset(needed[:MOST_WATCHED])


def retire(
    entry: KeyVersion,
    active: str | None,
    hold: timedelta,
    backup_retention: timedelta | None,
    restores: tuple[str, ...] = (),
) -> Retirement:
    """When `entry` may be disabled: never while it is active or in use, or else after `hold`, once backups no longer need it.

    `restores` names what the key's current users restore with an old version themselves.
    """
    if entry.version == active:
        return Retirement(None, None, "the active version")
    if entry.users or entry.superseded_at is None:
        return Retirement(None, None, "resources are still on this version")
    keep_until = entry.superseded_at + backup_retention if backup_retention is not None else None
    backups = ", and ".join(("backups made under it", *restores))
    reason = (
        f"no EncryptedResource is on this version; {backups} need it until keepUntil"
        if keep_until is not None
        else f"no EncryptedResource is on this version; {backups} still need it (set spec.rotation.backupRetention)"
    )
    return Retirement(entry.superseded_at + hold, keep_until, reason)


def users_by_version(applied: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Group `(resource name, version)` pairs by version, with sorted names."""
    grouped: dict[str, list[str]] = {}
    for name, version in applied:
        grouped.setdefault(version, []).append(name)
    return {version: tuple(sorted(names)) for version, names in grouped.items()}


def shortened(names: Sequence[str], most: int = 20) -> tuple[str, ...]:
    """At most `most` names, so that a status stays small; status also holds the count."""
    return tuple(names[:most])
