"""What happens next: a sequence that follows from a seed alone, so that it can be repeated and shortened."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PICKS: Final = 10_000
WEIGHTS: Final[Mapping[str, int]] = {
    # the operator
    "pass": 330,
    "crash in a pass": 45,
    "race with a pass": 70,
    "crash": 6,
    # time
    "a moment": 90,
    "seconds": 30,
    "minutes": 24,
    "an hour": 5,
    "a day": 4,
    "quiet": 14,
    # the customer
    "new version": 22,
    "disable": 26,
    "enable": 30,
    "expire": 5,
    "delete key": 8,
    "recover key": 14,
    "delete vault": 4,
    "recover vault": 10,
    "revoke role": 10,
    "grant role": 20,
    "withdraw consent": 5,
    "consent": 12,
    "firewall on": 8,
    "firewall off": 12,
    "lock vault": 4,
    "fail over": 6,
    # the provider, past the operator
    "drift": 14,
    "lock resource": 8,
    "unlock resource": 14,
    # the network and Azure
    "fault": 40,
    "operation fault": 8,
    "faults end": 30,
    # manifests
    "pin": 14,
    "follow": 18,
    "approve": 20,
    "mode": 14,
    "deletion policy": 14,
    "other key": 14,
    "delete manifest": 14,
    "create manifest": 24,
    "delete key manifest": 3,
    "create key manifest": 10,
    "scope": 6,
    "ask for a pass": 8,
    "events arrive": 20,
    # a hostile neighbour
    "refused manifests": 5,
    "missing keys": 4,
    "neighbour's resource": 5,
    "annotation storm": 8,
    "neighbour leaves": 5,
}
"""How often each kind of step comes, among all."""
CUSTOMER: Final = (
    "new version",
    "disable",
    "enable",
    "delete key",
    "revoke role",
    "withdraw consent",
    "firewall on",
    "drift",
    "lock resource",
    "pin",
    "follow",
    "approve",
    "mode",
    "deletion policy",
    "other key",
    "delete manifest",
    "delete key manifest",
    "scope",
    "refused manifests",
    "annotation storm",
)
"""What may come in the middle of a pass."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `pick` decides among what is possible at that moment, so that a step means something after others are left out."""

    what: str
    pick: int

    def __str__(self) -> str:
        return f"{self.what}/{self.pick}"


def steps_of(seed: str, count: int) -> list[Step]:
    """The first `count` steps of a seed."""
    source = random.Random(seed)  # noqa: S311 - a sequence that can be repeated, not cryptography
    kinds = source.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    return [Step(kind, source.randrange(PICKS)) for kind in kinds]


class Picks:
    """Choices out of one number."""

    def __init__(self, pick: int) -> None:
        self._source = random.Random(pick)  # noqa: S311 - as above

    def of(self, choices: object) -> int:
        """A number below `choices` (a number or something with a length)."""
        length = choices if isinstance(choices, int) else len(choices)  # type: ignore[arg-type]
        return self._source.randrange(length)

    def chance(self, one_in: int) -> bool:
        """True once in so many."""
        return self._source.randrange(one_in) == 0
