"""The lifecycle of a key's versions: which is active, which still protects a resource, and when one may be disabled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from cmk_operator.core.rotation.azure_use import BackupUse, UseInAzure

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


def watched(entries: Iterable[tuple[KeyVersion, Retirement]], now: datetime) -> frozenset[str]:
    """Superseded versions that may still be needed, so that their loss is reported; `entries` are newest first.

    Services, backups, or something that could not be listed may need one.
    """
    needed = [entry.version for entry, until in entries if entry.superseded_at is not None and _may_be_needed(until, now)]
    return frozenset(needed[:MOST_WATCHED])


def _may_be_needed(until: Retirement, now: datetime) -> bool:
    safe = until.safe_to_disable_after
    return safe is None or now < max(safe, until.keep_until or now)


@dataclass(frozen=True, slots=True)
class HoldTerms:
    """How long a superseded version must be kept, from the manifest and the services that use the key."""

    hold: timedelta = HOLD_SUPERSEDED_FOR
    """How long services may use it after they have left it."""
    backup_retention: timedelta | None = None
    """How long backups are kept; None if the manifest does not say."""
    restores: tuple[str, ...] = ()
    """What the key's current users restore with an old version themselves."""


def retire(entry: KeyVersion, active: str | None, terms: HoldTerms, azure: UseInAzure) -> Retirement:
    """When `entry` may be disabled: never while it is active or in use, or while that is not known; else after the hold.

    "Not in use" needs lists of Azure that are newer than the moment at which the last user left (law 12).
    """
    if entry.version == active:
        return Retirement(None, None, "the active version")
    if entry.users:
        return Retirement(None, None, "resources are still on this version")
    if entry.superseded_at is None:
        return Retirement(None, None, "some resources may be on this version: their service does not report which one it uses")
    if not azure.is_complete:
        return Retirement(None, None, f"whether anything in Azure is still on this version is not known: {azure.why_unknown}")
    if not azure.is_newer_than(entry.superseded_at):
        return Retirement(None, None, "the last resource has just left this version: what Azure shows is read once more")
    keep_until, backups = _kept(entry.superseded_at, terms, azure.backups_of(entry.version))
    return Retirement(entry.superseded_at + terms.hold, keep_until, f"nothing that Azure lists is on this version; {backups}")


def _kept(left_at: datetime, terms: HoldTerms, own: tuple[BackupUse, ...]) -> tuple[datetime | None, str]:
    """Until when backups may need a version, and a sentence on it; `own` are resources with backups of their own."""
    needing = ", and ".join(("backups made under it", *terms.restores))
    unreadable = [one for one in own if one.retention is None]
    if unreadable:
        first = unreadable[0]
        more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        return None, (
            f"{needing} still need it, and how long {first.id.shown_name}{more} keeps its own backups is not known: {first.why_unknown}"
        )
    known = [one.retention for one in own if one.retention is not None]
    names = f"{own[0].id.shown_name}{f' and {len(own) - 1} more' if len(own) > 1 else ''}" if own else ""
    if terms.backup_retention is not None:
        among = f" (those of {names} among them)" if own else ""
        return left_at + max([terms.backup_retention, *known]), f"{needing} need it until keepUntil{among}"
    if known:
        text = (
            f"the backups of {names} need it until keepUntil; how long other backups need it is not known (set "
            "spec.rotation.backupRetention)"
        )
        return left_at + max(known), text
    return None, f"{needing} still need it (set spec.rotation.backupRetention)"


def users_by_version(applied: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Group `(resource name, version)` pairs by version, with sorted names."""
    grouped: dict[str, list[str]] = {}
    for name, version in applied:
        grouped.setdefault(version, []).append(name)
    return {version: tuple(sorted(names)) for version, names in grouped.items()}


def shortened(names: Sequence[str], most: int = 20) -> tuple[str, ...]:
    """At most `most` names, so that a status stays small; status also holds the count."""
    return tuple(names[:most])
