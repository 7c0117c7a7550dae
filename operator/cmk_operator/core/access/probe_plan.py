"""Plans how to probe an accessible key again: one step at a time, and the whole probe where one step is not enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.key_verdict import judge_key_probe
from cmk_operator.core.access.state import AccessState

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.core.access.state import KeyAttributes, KeyProbe

NOT_DUE_WITHIN: Final = 0.85
"""Fraction of the interval within which no step is due."""
STEP_AT_LEAST_EVERY: Final = 2
"""Intervals after which a key gets a step of its own even if the vault's list shows no change; the list does not show grants."""
UNWRAPPED_WITHIN: Final = STEP_AT_LEAST_EVERY - 0.5
"""Intervals after which neither the list nor a read alone is enough: an unwrapKey follows."""


class ProbeStep(StrEnum):
    """The vault operations of one step of the probe."""

    FULL = "get, wrapKey, unwrapKey"
    READ = "get"
    ROUND_TRIP = "wrapKey, unwrapKey"
    """No step wraps only: a vault may wrap with a disabled key that it refuses to unwrap with (azure-sdk-for-python#45342)."""
    UNWRAP = "unwrapKey"
    LIST = "list"
    """None: the list of the vault's keys, which all keys share, shows no change."""


@dataclass(frozen=True, slots=True)
class Proof:
    """When each step last succeeded for every version, in seconds of one clock."""

    read: float
    wrapped: float
    unwrapped: float

    @property
    def since(self) -> float:
        """Every step has succeeded since this time."""
        return min(self.read, self.wrapped, self.unwrapped)

    def after(self, step: ProbeStep, at: float) -> Proof:
        """The proof after a step succeeded at `at`."""
        if step is ProbeStep.FULL:
            return Proof(at, at, at)
        if step is ProbeStep.ROUND_TRIP:
            return replace(self, wrapped=at, unwrapped=at)
        if step is ProbeStep.UNWRAP:
            return replace(self, unwrapped=at)
        return replace(self, read=at) if step is ProbeStep.READ else self


def next_probe_step(proof: Proof, now: float, interval: float, *, doubted: bool, listed: bool) -> ProbeStep:
    """The next step for a key that was accessible at the last one.

    `doubted`: the vault's list shows a change, or can no longer be read. `listed`: the list was just read and shows no change.
    Otherwise the step that succeeded longest ago, because each step alone fails if the key, its version, the grant, the consent or
    the vault is gone. Of two that succeeded at the same time, the cheaper one comes first.
    """
    if doubted:
        return ProbeStep.READ
    if listed:
        return _step_beside_list(proof, now, interval)
    steps = ((proof.read, ProbeStep.READ), (proof.unwrapped, ProbeStep.UNWRAP), (proof.wrapped, ProbeStep.ROUND_TRIP))
    return min(steps, key=lambda step: step[0])[1]


def _step_beside_list(proof: Proof, now: float, interval: float) -> ProbeStep:
    """The step of a key whose list shows no change: every second one is an unwrapKey, every sixth a get, every sixth a wrapKey too."""
    if not needs_unwrap(proof, now, interval):
        return ProbeStep.LIST
    older, newer = sorted((proof.read, proof.wrapped))
    # Both come again within six intervals: the older in the next step, the newer in the one after it.
    if now - older < (2 * STEP_AT_LEAST_EVERY + 0.5) * interval and now - newer < (STEP_AT_LEAST_EVERY + 0.5) * interval:
        return ProbeStep.UNWRAP
    return ProbeStep.READ if proof.read <= proof.wrapped else ProbeStep.ROUND_TRIP


def needs_unwrap(proof: Proof, now: float, interval: float) -> bool:
    """Whether a read must be followed by an unwrapKey, because only an unwrap proves access and the last one is too old."""
    return now - proof.unwrapped >= UNWRAPPED_WITHIN * interval


def accessible_versions(probe: KeyProbe, at: datetime) -> frozenset[str]:
    """The versions that passed the probe and are still valid by their own dates."""
    states = judge_key_probe(replace(probe, at=at), {}).by_version
    return frozenset(version for version, access in states.items() if access.state is AccessState.ACCESSIBLE)


def is_accessible(probe: KeyProbe, at: datetime) -> bool:
    """Whether the wanted version passed the probe and is still valid; if not, each step is the whole probe."""
    attributes = probe.wanted.attributes
    return attributes is not None and attributes.version in accessible_versions(probe, at)


@dataclass(frozen=True, slots=True)
class ListedKey:
    """The attributes of a key's latest version in a vault's list; times in Unix seconds.

    Source: Key Vault REST "Get Keys": base identifier, attributes and tags, one entry a key.
    """

    enabled: bool
    not_before: int | None
    expires: int | None
    created: int | None
    updated: int | None
    recovery_level: str = ""
    recoverable_days: int | None = None
    """A property of the vault; a change of it is no change of the key and leaves its times."""


def listed(attributes: KeyAttributes) -> ListedKey:
    """What the list would show for a key version that a GET returned."""
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
    """Most calls that reading a vault's list may take to be cheaper than the steps it saves for `keys` keys; 0 means never."""
    return max(0, keys - 1) // STEP_AT_LEAST_EVERY
