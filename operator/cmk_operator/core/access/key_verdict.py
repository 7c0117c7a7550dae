"""Judges a key: its wanted version, and every version that still protects a resource; the worst state wins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cmk_operator.core.access.state import Access, AccessState, KeyProbe, VersionProbe
from cmk_operator.core.access.verdict import judge_access
from cmk_operator.core.faults.fault import Actor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class KeyVerdict:
    """The verdict on a key: `access` for its status, and `by_version` for each probed version."""

    access: Access
    by_version: Mapping[str, Access]
    wanted: Access
    """The state of the pinned or latest version, which decides whether resources may move to the key."""
    loses_data: bool
    """Whether protected data is expected to become inaccessible."""
    lost_before: bool = False
    """Whether it was before this probe; a delay of Azure does not end that."""

    def stops(self, version: str) -> bool:
        """Whether data on this version is expected to become inaccessible; True for a version that was not probed."""
        own = self.by_version.get(version)
        return own is None or stops_data(own.state, lost_before=self.lost_before)


def stops_data(state: AccessState, *, lost_before: bool) -> bool:
    """Whether data stops in this state; a delay begins no loss and ends none."""
    return state.cuts_data_off or (lost_before and state.is_delay)


def judge_key_probe(
    probe: KeyProbe,
    users: Mapping[str, tuple[str, ...]],
    *,
    unversioned: bool = False,
    services_blocked: str | None = None,
    lost_before: bool = False,
) -> KeyVerdict:
    """Judge a probe of a key.

    `users` are resource names by version; `unversioned` says whether other resources use versions that Azure does not report.
    `services_blocked` is the message that the vault's firewall blocks Azure's services, whether or not it admits the probe.
    `lost_before`: data was expected to stop before this probe.
    A lost version in use outranks a healthy latest version, because its data stops. A lost latest version that no resource uses
    yet stops no data.
    """
    wanted = _with_firewall(judge_access(probe), services_blocked)
    by_version = {
        version: _with_firewall(judge_access(_probe_of_version(probe, entry)), services_blocked)
        for version, entry in probe.in_use.items()
    }
    if probe.wanted.attributes is not None:
        by_version[probe.wanted.attributes.version] = wanted
    lost = [version for version in sorted(users) if version in by_version and by_version[version].state.is_known_loss]
    if lost and wanted.state is AccessState.ACCESSIBLE:
        version, names = lost[0], users[lost[0]]
        access = by_version[version]
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        message = f"version {version}, still in use by {names[0]}{others}: {access.message}"
        return KeyVerdict(replace(access, message=message), by_version, wanted, loses_data=True, lost_before=lost_before)
    verdict = KeyVerdict(wanted, by_version, wanted, loses_data=False, lost_before=lost_before)
    in_danger = unversioned or any(verdict.stops(version) for version in users)
    return replace(verdict, loses_data=stops_data(wanted.state, lost_before=lost_before) and in_danger)


def _with_firewall(access: Access, services_blocked: str | None) -> Access:
    if services_blocked is None or access.state not in {AccessState.ACCESSIBLE, AccessState.FIREWALL_BLOCKS_PROBE}:
        return access
    return Access(AccessState.FIREWALL_BLOCKS_SERVICES, services_blocked, Actor.CUSTOMER_ADMINISTRATOR, access.request_id)


def _probe_of_version(probe: KeyProbe, version: VersionProbe) -> KeyProbe:
    key_exists = probe.latest_exists if probe.wanted.attributes is None else True
    return replace(probe, wanted=version, in_use={}, latest_exists=key_exists)


def lost_since(verdict: KeyVerdict, before: datetime | None, now: datetime) -> datetime | None:
    """When the loss that stops data was first observed: kept while its cause changes, None once access returns."""
    if not verdict.loses_data:
        return None
    return before if before is not None else now
