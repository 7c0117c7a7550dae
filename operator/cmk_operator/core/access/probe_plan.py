"""How a key that was well is looked at again: one step of the probe at a time, and the whole probe wherever that would not do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.key_verdict import judge_key_probe
from cmk_operator.core.access.state import AccessState

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.core.access.state import KeyAttributes, KeyProbe

YOUNG: Final = 0.85
"""Share of the interval within which a pass that is not due looks at nothing."""
STEP_EVERY: Final = 2
"""Looks after which a key whose vault's list shows no change has a look of its own nevertheless: no list shows what is granted."""


class Look(StrEnum):
    """What one look at a key asks of its vault."""

    FULL = "get, wrapKey, unwrapKey"
    READ = "get"
    WRAP = "wrapKey"
    UNWRAP = "unwrapKey"
    LIST = "list"
    """Nothing more: the list of the vault's keys, which all of them share, has shown that nothing changed."""


@dataclass(frozen=True, slots=True)
class Proof:
    """When each step of the probe last succeeded with every version, in seconds of one clock."""

    read: float
    wrapped: float
    unwrapped: float

    @property
    def since(self) -> float:
        """The whole probe has been passed, step by step, since then."""
        return min(self.read, self.wrapped, self.unwrapped)

    def after(self, look: Look, at: float) -> Proof:
        """With the step that has just succeeded."""
        if look is Look.FULL:
            return Proof(at, at, at)
        if look is Look.WRAP:
            return replace(self, wrapped=at)
        if look is Look.UNWRAP:
            return replace(self, unwrapped=at)
        return replace(self, read=at) if look is Look.READ else self


def next_look(proof: Proof, now: float, interval: float, *, doubted: bool, listed: bool) -> Look:
    """The next look at a key that was well at the last one.

    `doubted`: the vault's list shows it changed, or could not be read any more. `listed`: the list was just read and shows no
    change. Else the step that was taken longest ago: each alone is refused when the key, its version, the grant, the consent
    or the vault is gone.
    """
    if doubted:
        return Look.READ
    steps = ((proof.read, Look.READ), (proof.wrapped, Look.WRAP), (proof.unwrapped, Look.UNWRAP))
    if listed and now - max(at for at, _ in steps) < (STEP_EVERY - 0.5) * interval:
        return Look.LIST
    return min(steps, key=lambda step: step[0])[1]


def well_versions(probe: KeyProbe, at: datetime) -> frozenset[str]:
    """The versions that passed, and are still valid by their own dates."""
    states = judge_key_probe(replace(probe, at=at), {}).by_version
    return frozenset(version for version, access in states.items() if access.state is AccessState.ACCESSIBLE)


def is_well(probe: KeyProbe, at: datetime) -> bool:
    """Whether the wanted version passed and is still valid: otherwise each look is the whole probe."""
    attributes = probe.wanted.attributes
    return attributes is not None and attributes.version in well_versions(probe, at)


@dataclass(frozen=True, slots=True)
class ListedKey:
    """The attributes that a vault's list shows of a key's latest version, times in Unix seconds.

    Source: Key Vault REST "Get Keys": base identifier, attributes and tags, one entry a key.
    """

    enabled: bool
    not_before: int | None
    expires: int | None
    created: int | None
    updated: int | None
    recovery_level: str = ""
    recoverable_days: int | None = None
    """Of the vault, and no change of the key: its own times stay."""


def listed(attributes: KeyAttributes) -> ListedKey:
    """How the list would show what a GET has read."""
    return ListedKey(
        attributes.enabled,
        _seconds(attributes.not_before),
        _seconds(attributes.expires),
        _seconds(attributes.created),
        _seconds(attributes.updated),
        attributes.recovery_level,
        attributes.recoverable_days,
    )


def _seconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) if moment is not None else None


def pages_worth_reading(keys: int) -> int:
    """How long a vault's list may be, in calls, to be cheaper than the looks that it spares so many keys; 0 is never."""
    return max(0, keys - 1) // STEP_EVERY
