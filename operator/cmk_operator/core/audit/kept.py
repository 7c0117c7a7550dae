"""The part of the record that is kept when the rest of its time has left the cluster: each tenant has a share of its own.

What leaves the newest part of the record goes here. When this part is full, the tenant that takes the most gives up an entry, the
oldest of the namespace that takes the most of it. So no tenant loses an entry while its own entries take no more than an equal share,
however much others record, and no namespace of it while they take no more than an equal share of that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.audit.chain import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cmk_operator.core.audit.chain import Entry

_MISSING_COST: Final = 1024
"""Bytes that an entry counts which the index names and nobody finds: it ages out of the index as others do."""
_SHOWN_DIGEST: Final = 32
"""Hexadecimal digits of a digest in the index: 128 bits, so that nobody finds another entry with the same ones."""


def shortened(digest: str) -> str:
    """The part of an entry's digest that the index holds."""
    return digest[:_SHOWN_DIGEST]


def tenant_of(entry: Entry) -> str:
    """The tenant whose share an entry takes; empty for the operator's own entries and those of older versions."""
    tenant = entry.body.get("tenant")
    return tenant if isinstance(tenant, str) else ""


@dataclass(frozen=True, slots=True)
class Held:
    """One entry of the kept part; the tenant is None if nobody can read it any more. `cost` is in bytes."""

    sequence: int
    digest: str
    tenant: str | None
    cost: int
    at: str = ""
    namespace: str = ""


def held_of(entry: Entry, cost: int, digest: str | None = None) -> Held:
    """An entry as it is kept; `digest` is the one that the entry after it states, which an edit cannot change."""
    about = entry.body.get("object")
    namespace = about.get("namespace", "") if isinstance(about, dict) else ""
    return Held(
        entry.sequence,
        shortened(entry.digest if digest is None else digest),
        tenant_of(entry),
        cost,
        str(entry.body.get("at", "")),
        str(namespace),
    )


@dataclass(frozen=True, slots=True)
class Loss:
    """The newest entry that has left the record, and when it was made (empty: unknown). 0 means that none has."""

    sequence: int = 0
    at: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """The index of the kept part: which entries up to `to` must be there, and what each tenant has lost.

    `going` are entries that were given up, and may still be there. `lost_by_all` bounds what can be said of every tenant: up to
    there, entries were lost whose tenant nobody knows.
    """

    to: int = 0
    digests: Mapping[int, str] = field(default_factory=dict)
    going: Mapping[int, str] = field(default_factory=dict)
    lost: Mapping[str, Loss] = field(default_factory=dict)
    lost_by_all: Loss = Loss()

    def whole_after(self, tenant: str) -> Loss:
        """The newest entry that a tenant has lost: its record is whole after it."""
        return max(self.lost.get(tenant, Loss()), self.lost_by_all, key=lambda loss: loss.sequence)

    def dump(self) -> str:
        """The index as one line of canonical JSON."""
        return canonical(
            {
                "to": self.to,
                "entries": {str(sequence): digest for sequence, digest in self.digests.items()},
                "going": {str(sequence): digest for sequence, digest in self.going.items()},
                "lost": {tenant: {"sequence": loss.sequence, "at": loss.at} for tenant, loss in self.lost.items()},
                "lostByAll": {"sequence": self.lost_by_all.sequence, "at": self.lost_by_all.at},
            }
        )


def digest_of_index(line: str) -> str:
    """The digest of an index, which the head states; hexadecimal SHA-256."""
    return sha256(line.encode()).hexdigest()


def parse_kept(line: str) -> Kept | None:
    """Parse the index from its line; None if the line is not an index."""
    try:
        found: Any = json.loads(line)
        return Kept(
            int(found["to"]),
            {int(sequence): str(digest) for sequence, digest in found["entries"].items()},
            {int(sequence): str(digest) for sequence, digest in found["going"].items()},
            {str(tenant): _loss(loss) for tenant, loss in found["lost"].items()},
            _loss(found["lostByAll"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _loss(found: Mapping[str, Any]) -> Loss:
    return Loss(int(found["sequence"]), str(found["at"]))


def keep(known: Kept, held: Iterable[Held], leaving: Sequence[Held], to: int, budget: int) -> tuple[Kept, tuple[Held, ...]]:
    """The index after entries up to `to` have left the newest part, and what was given up, so that at most `budget` bytes are kept.

    An entry that the index names and that is not `held` stays named: whoever removed it is found. An entry up to `to` that is neither
    kept nor `leaving` was removed before: nobody knows whose it was.
    """
    held = tuple(held)
    there = {one.sequence: one for one in held if known.digests.get(one.sequence) == one.digest}
    still_going = {one.sequence: one.digest for one in held if known.going.get(one.sequence) == one.digest}
    removed = [
        Held(sequence, digest, None, _MISSING_COST) for sequence, digest in known.digests.items() if sequence not in there
    ]
    arrived = {one.sequence: one for one in leaving if known.to < one.sequence <= to}
    holes = (sequence for sequence in range(to, known.to, -1) if sequence not in arrived)
    everything = sorted(chain(there.values(), removed, arrived.values()), key=lambda one: one.sequence)
    given_up = _given_up(everything, budget)
    gone = {one.sequence for one in given_up}
    lost, lost_by_all = dict(known.lost), max(known.lost_by_all, Loss(next(holes, 0)), key=lambda loss: loss.sequence)
    for one in given_up:
        loss = Loss(one.sequence, one.at)
        if one.tenant is None:
            lost_by_all = max(lost_by_all, loss, key=lambda each: each.sequence)
        else:
            lost[one.tenant] = max(lost.get(one.tenant, Loss()), loss, key=lambda each: each.sequence)
    index = Kept(
        to,
        {one.sequence: one.digest for one in everything if one.sequence not in gone},
        still_going | {one.sequence: one.digest for one in given_up if one.sequence in there},
        lost,
        lost_by_all,
    )
    return index, given_up


def _given_up(everything: Iterable[Held], budget: int) -> tuple[Held, ...]:
    """The oldest entries of the namespace that takes the most of the tenant that takes the most, until the rest fits."""
    shares: dict[str | None, dict[str, list[Held]]] = {}
    for one in everything:
        shares.setdefault(one.tenant, {}).setdefault(one.namespace, []).append(one)
    sizes = {tenant: {name: sum(one.cost for one in its) for name, its in share.items()} for tenant, share in shares.items()}
    totals = {tenant: sum(share.values()) for tenant, share in sizes.items()}
    oldest = {tenant: {name: iter(its) for name, its in share.items()} for tenant, share in shares.items()}
    excess = sum(totals.values()) - budget
    given_up: list[Held] = []
    while excess > 0:
        tenant = max(totals, key=lambda name: (totals[name], name or ""))
        namespace = max(sizes[tenant], key=lambda name: (sizes[tenant][name], name))
        one = next(oldest[tenant][namespace])
        totals[tenant] -= one.cost
        sizes[tenant][namespace] -= one.cost
        excess -= one.cost
        given_up.append(one)
    return tuple(given_up)
