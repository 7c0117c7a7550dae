"""Which version of a followed key is in force: the latest at once, or the one that a person has approved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.core.access.state import KeyProbe


@dataclass(frozen=True, slots=True)
class AdoptionPolicy:
    """How a new version of a followed key is taken over."""

    by_operator: bool = False
    """Whether this operator moves each resource itself (the version is on the wire), or Azure's services do by their schedule."""
    needs_approval: bool = False
    """Whether a person must name the new version first; only where `by_operator`, because Azure's services ask nobody."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """The version that resources are put on, and a newer one that waits for approval."""

    active: str | None
    pending: str | None = None


def adopt(policy: AdoptionPolicy, *, latest: str | None, active: str | None, approved: str | None) -> Adoption:
    """Choose after a visit: `latest` is the newest version if it passed the probe, `active` the one in force before.

    A version that did not pass the probe is never adopted, and the first one needs no approval: nothing is moved by it.
    """
    if latest is None or latest == active:
        return Adoption(active)
    if policy.needs_approval and active is not None and approved != latest:
        return Adoption(active, pending=latest)
    return Adoption(latest)


def probe_of_adopted(
    probe: KeyProbe, policy: AdoptionPolicy, *, active: str | None, approved: str | None
) -> tuple[KeyProbe, Adoption]:
    """Look at a visit from the version in force: it is the wanted one, and a newer one that waits is one of the others.

    `probe` visited the latest version as the wanted one, and `active` too when approval is needed.
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
