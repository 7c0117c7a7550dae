"""Lists of a subscription's resources. Drift checks read them, so that calls grow with subscriptions, not resources (law 7)."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from cmk_operator.answer_gate import UnreadableError
from cmk_operator.azure.failures import EXPECTED_FAILURES
from cmk_operator.core.identifiers.arm_id import ArmId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession

FactsT = TypeVar("FactsT")
FactsT_co = TypeVar("FactsT_co", covariant=True)

UNUSED_FOR: Final = 3600.0
"""Seconds after which the list of a subscription that nothing asked for is dropped."""
WRITE_MAX_AGE: Final = 5.0
"""Seconds since a list was requested in which a write may rely on it: as long as a write may wait for its turn."""
MANY: Final = 8
"""Writes within `WRITE_MAX_AGE` for each page of a list, from which the list is cheaper than reads.

Azure Storage allows 800 reads and 100 lists in five minutes, and each page counts as a list.
"""
SINGLY_FOR: Final = 60.0
"""Seconds without a list before a write, after one was refused or took longer than `WRITE_MAX_AGE`."""


@dataclass(slots=True)
class _Listed(Generic[FactsT]):
    """The resources of one subscription from the last list, with single reads since then."""

    at: float = float("-inf")
    began: float = float("-inf")
    """When that list was requested: its facts are not older."""
    used: float = float("-inf")
    """When the list was last requested."""
    resources: dict[str, FactsT] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    """The ids of the resources that the list has and that cannot be read; empty texts for those without an id."""
    read: dict[str, tuple[float, FactsT]] = field(default_factory=dict)
    """Single reads and answers to writes, each with its time. They are newer than a list that ran at that time."""
    written: dict[str, float] = field(default_factory=dict)
    """When the operator last wrote a resource, however the write ended."""
    due: deque[float] = field(default_factory=lambda: deque(maxlen=MANY))
    """When facts for a write were last requested."""
    singly_until: float = float("-inf")
    pages: int = 1
    """The number of pages of the last list."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def many_due(self, now: float) -> bool:
        """Whether a list is cheaper than a read for each write that is due, at the rate of the last writes."""
        return len(self.due) == MANY and now - self.due[0] <= WRITE_MAX_AGE / max(1, self.pages)

    def for_write(self, key: str, now: float) -> FactsT | None:
        """The list's own facts of one resource, if it is young and the resource was neither written nor read since."""
        touched = key in self.read or self.written.get(key, float("-inf")) >= self.began
        return None if touched or now - self.began > WRITE_MAX_AGE else self.resources.get(key)


class Source(Protocol[FactsT_co]):
    """Reads the resources of one type from Azure; facts are hashable."""

    async def read(self, chain: IdentityChain, target: ArmId) -> FactsT_co:
        """Read one resource. Raises what an Azure call raises."""

    def pages(self, chain: IdentityChain, subscription_id: str) -> AsyncIterator[Sequence[tuple[str, FactsT_co | None]]]:
        """List all resources of a subscription, each with its id, and None for one that cannot be read.

        Raises what an Azure call raises.
        """


class Listing(Generic[FactsT]):
    """Resources of one type, from the subscription's list or from single reads."""

    def __init__(
        self, session: AzureSession, source: Source[FactsT], max_age: float, readable: Callable[[FactsT], bool] = lambda _: True
    ) -> None:
        """`readable`: whether facts say what their resource is about; if not, `get` reads the resource by itself."""
        self._session = session
        self._source = source
        self._max_age = max_age
        self._readable = readable
        self._listed: dict[tuple[IdentityChain, str], _Listed[FactsT]] = {}
        """By credential and subscription id; the longest unused first."""

    def __len__(self) -> int:
        """The number of lists held."""
        return len(self._listed)

    async def get(self, chain: IdentityChain, target: ArmId, max_age: float) -> FactsT:
        """The facts from the subscription's list if it is young enough and has the resource, else from a single read.

        `max_age` is in seconds; 0 reads now. Raises what an Azure call raises.
        """
        if max_age > 0:
            listed = await self._young(chain, target.subscription_id, min(max_age, self._max_age))
            found = listed.resources.get(target.key)
            if found is not None and self._readable(found):
                return found
        try:
            return self.remember(chain, target, await self._source.read(chain, target))
        except UnreadableError:
            # The newest answer says nothing, so an older one of the list must not speak for it.
            self._forget(chain, target)
            raise

    async def before_write(self, chain: IdentityChain, target: ArmId) -> FactsT:
        """Facts that a write may rely on: from a single read, or, if many resources are due, from a list of a few seconds.

        Raises what an Azure call raises.
        """
        listed, now = self._of(chain, target.subscription_id), self._session.monotonic()
        listed.due.append(now)
        found = self._if_readable(listed.for_write(target.key, now))
        if found is None and listed.many_due(now) and now >= listed.singly_until:
            found = self._if_readable(await self._list_before_write(chain, target, listed))
        return found if found is not None else await self.get(chain, target, 0.0)

    def _if_readable(self, found: FactsT | None) -> FactsT | None:
        return found if found is not None and self._readable(found) else None

    async def _list_before_write(self, chain: IdentityChain, target: ArmId, listed: _Listed[FactsT]) -> FactsT | None:
        """One list for all that wait for it; None if the list fails or does not help."""
        async with listed.lock:
            now = self._session.monotonic()
            if now < listed.singly_until or now - listed.began <= WRITE_MAX_AGE:
                return listed.for_write(target.key, now)
            try:
                await self._list(chain, target.subscription_id, listed)
            except EXPECTED_FAILURES:
                listed.singly_until = self._session.monotonic() + SINGLY_FOR
                return None
            now = self._session.monotonic()
            if now - listed.began > WRITE_MAX_AGE:
                listed.singly_until = now + SINGLY_FOR
            return listed.for_write(target.key, now)

    def written(self, chain: IdentityChain, target: ArmId) -> None:
        """Note that the operator wrote a resource, or may have: no list that was requested before counts for its next write."""
        self._of(chain, target.subscription_id).written[target.key] = self._session.monotonic()

    async def all(self, chain: IdentityChain, subscription_id: str, max_age: float) -> Mapping[str, FactsT]:
        """The facts of all resources of a subscription that can be read, by `ArmId.key`. Raises what an Azure call raises."""
        return (await self._young(chain, subscription_id, min(max_age, self._max_age))).resources

    async def unread(self, chain: IdentityChain, subscription_id: str, max_age: float) -> tuple[str, ...]:
        """The ids of those that the same list has and that cannot be read; an empty text for one without an id."""
        return (await self._young(chain, subscription_id, min(max_age, self._max_age))).unread

    def remember(self, chain: IdentityChain, target: ArmId, facts: FactsT) -> FactsT:
        """Put a newer read into the list and return it, so that no older list replaces it."""
        listed = self._listed.get((chain, target.subscription_id))
        if listed is not None:
            listed.resources[target.key] = facts
            listed.read[target.key] = (self._session.monotonic(), facts)
        return facts

    def _forget(self, chain: IdentityChain, target: ArmId) -> None:
        listed = self._listed.get((chain, target.subscription_id))
        if listed is not None:
            listed.resources.pop(target.key, None)
            listed.read.pop(target.key, None)

    async def _young(self, chain: IdentityChain, subscription_id: str, max_age: float) -> _Listed[FactsT]:
        listed = self._of(chain, subscription_id)
        async with listed.lock:
            if self._session.monotonic() - listed.at > max_age:
                await self._list(chain, subscription_id, listed)
        return listed

    def _of(self, chain: IdentityChain, subscription_id: str) -> _Listed[FactsT]:
        listed = self._listed.pop((chain, subscription_id), None) or _Listed()
        self._listed[chain, subscription_id] = listed
        listed.used = self._session.monotonic()
        self._drop_unused()
        return listed

    def _drop_unused(self) -> None:
        """Drop the lists of subscriptions that no manifest names any more."""
        now = self._session.monotonic()
        for key, listed in list(self._listed.items()):
            if now - listed.used <= UNUSED_FOR:
                return
            del self._listed[key]

    async def _list(self, chain: IdentityChain, subscription_id: str, listed: _Listed[FactsT]) -> None:
        began = self._session.monotonic()
        # The facts of most resources of a subscription are equal, so equal facts are kept once.
        alike: dict[FactsT, FactsT] = {}
        found: dict[str, FactsT] = {}
        unread: list[str] = []
        pages = 0
        async for page in self._source.pages(chain, subscription_id):
            pages += 1
            found |= {ArmId(one).key: alike.setdefault(facts, facts) for one, facts in page if facts is not None}
            unread += [resource_id for resource_id, facts in page if facts is None]
        listed.read = {key: (at, facts) for key, (at, facts) in listed.read.items() if at > began}
        found |= {key: facts for key, (_, facts) in listed.read.items()}
        listed.written = {key: at for key, at in listed.written.items() if at >= began}
        listed.unread, listed.pages = tuple(sorted(unread)), pages
        listed.resources, listed.began, listed.at = found, began, self._session.monotonic()
