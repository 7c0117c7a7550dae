"""The verdict on a key: its wanted version and every version that still protects something, the worst first."""

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
    """`access` is what the key's status says; `by_version` what each probed version's own state is."""

    access: Access
    by_version: Mapping[str, Access]
    wanted: Access
    """State of the pinned or latest version, which decides whether anything new may be put on the key."""
    loses_data: bool
    """Whether something that is protected now is expected to become inaccessible."""


def judge_key_probe(
    probe: KeyProbe, users: Mapping[str, tuple[str, ...]], *, unversioned: bool = False, shut_out: str | None = None
) -> KeyVerdict:
    """Judge a probe; `users` are the resource names by version, `unversioned` whether others are on versions that nobody tells.

    A version in use that was lost outranks a healthy latest one: its data is what stops. A lost latest version that
    nothing uses yet loses no data. `shut_out` is the sentence that says that the vault's firewall keeps Azure's services out,
    whether it lets the probe in or not.
    """
    wanted = _behind_the_firewall(judge_access(probe), shut_out)
    by_version = {
        version: _behind_the_firewall(judge_access(_alone(probe, entry)), shut_out) for version, entry in probe.in_use.items()
    }
    if probe.wanted.attributes is not None:
        by_version[probe.wanted.attributes.version] = wanted
    lost = [version for version in sorted(users) if version in by_version and by_version[version].state.is_known_loss]
    if lost and wanted.state is AccessState.ACCESSIBLE:
        version, names = lost[0], users[lost[0]]
        access = by_version[version]
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        message = f"version {version}, still in use by {names[0]}{others}: {access.message}"
        return KeyVerdict(replace(access, message=message), by_version, wanted, loses_data=True)
    in_danger = unversioned or any(version not in by_version or by_version[version].state.cuts_data_off for version in users)
    return KeyVerdict(wanted, by_version, wanted, loses_data=wanted.state.cuts_data_off and in_danger)


def _behind_the_firewall(access: Access, shut_out: str | None) -> Access:
    if shut_out is None or access.state not in {AccessState.ACCESSIBLE, AccessState.FIREWALL_BLOCKS_PROBE}:
        return access
    return Access(AccessState.FIREWALL_BLOCKS_SERVICES, shut_out, Actor.CUSTOMER_ADMINISTRATOR, access.request_id)


def _alone(probe: KeyProbe, version: VersionProbe) -> KeyProbe:
    key_exists = probe.latest_exists if probe.wanted.attributes is None else True
    return replace(probe, wanted=version, in_use={}, latest_exists=key_exists)


def lost_since(verdict: KeyVerdict, before: datetime | None, now: datetime) -> datetime | None:
    """When the loss that stops data was first seen: kept while its cause changes, gone when access returns."""
    if not verdict.loses_data:
        return None
    return before if before is not None else now
