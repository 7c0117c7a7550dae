"""Decides which version of a followed key is active: the latest, or the latest that was approved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.core.access.state import KeyProbe


@dataclass(frozen=True, slots=True)
class AdoptionPolicy:
    """How resources move to a new version of a followed key."""

    by_operator: bool = False
    """Whether the operator moves each resource (its requests name the version), or Azure's services do on their own schedule."""
    needs_approval: bool = False
    """Whether a new version needs approval; only with `by_operator`, because Azure's services wait for nobody."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """The active version, and a newer one that awaits approval."""

    active: str | None
    pending: str | None = None


def adopt(policy: AdoptionPolicy, *, latest: str | None, active: str | None, approved: str | None) -> Adoption:
    """Choose the active version after a probe: `latest` is the newest version if it passed, `active` the previous active one.

    A version that did not pass the probe is never adopted. The first one needs no approval, because it moves no resource.
    """
    if latest is None or latest == active:
        return Adoption(active)
    if policy.needs_approval and active is not None and approved != latest:
        return Adoption(active, pending=latest)
    return Adoption(latest)


def probe_of_adopted(
    probe: KeyProbe, policy: AdoptionPolicy, *, active: str | None, approved: str | None
) -> tuple[KeyProbe, Adoption]:
    """Rearrange a probe so that the active version is the wanted one, and a newer one that awaits approval is in `in_use`.

    `probe` must cover the latest version as the wanted one, and `active` too if approval is needed.
    """
    attributes = probe.wanted.attributes
    latest = attributes.version if attributes is not None else None
    passed = latest if probe.wanted.round_trip else None
    adoption = adopt(policy, latest=passed, active=active, approved=approved)
    in_force = probe.in_use.get(active) if active is not None else None
    if not policy.needs_approval or adoption.active == latest or latest is None or in_force is None or active is None:
        return probe, adoption
    others = {version: seen for version, seen in probe.in_use.items() if version != active} | {latest: probe.wanted}
    return replace(probe, wanted=in_force, in_use=others), adoption
