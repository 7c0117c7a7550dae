"""Lists of a subscription's resources. Drift checks read them, so that calls grow with subscriptions, not resources (law 7)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.arm_id import ArmId

FactsT = TypeVar("FactsT")
FactsT_co = TypeVar("FactsT_co", covariant=True)

UNUSED_FOR: Final = 3600.0
"""Seconds after which the list of a subscription that nothing asked for is dropped."""


@dataclass(slots=True)
class _Listed(Generic[FactsT]):
    """The resources of one subscription from the last list, with single reads since then."""

    at: float = float("-inf")
    used: float = float("-inf")
    """When the list was last requested."""
    resources: dict[str, FactsT] = field(default_factory=dict)
    read: dict[str, tuple[float, FactsT]] = field(default_factory=dict)
    """Single reads and answers to writes, each with its time. They are newer than a list that ran at that time."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Source(Protocol[FactsT_co]):
    """Reads the resources of one type from Azure; facts are hashable."""

    async def read(self, chain: IdentityChain, target: ArmId) -> FactsT_co:
        """Read one resource. Raises what an Azure call raises."""

    def pages(self, chain: IdentityChain, subscription_id: str) -> AsyncIterator[Sequence[tuple[str, FactsT_co]]]:
        """List all resources of a subscription, each with its id. Raises what an Azure call raises."""


class Listing(Generic[FactsT]):
    """Resources of one type, from the subscription's list or from single reads."""

    def __init__(self, session: AzureSession, source: Source[FactsT], max_age: float) -> None:
        self._session = session
        self._source = source
        self._max_age = max_age
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
            if found is not None:
                return found
        return self.remember(chain, target, await self._source.read(chain, target))

    async def all(self, chain: IdentityChain, subscription_id: str, max_age: float) -> Mapping[str, FactsT]:
        """The facts of all resources of a subscription, by `ArmId.key`. Raises what an Azure call raises."""
        return (await self._young(chain, subscription_id, min(max_age, self._max_age))).resources

    def remember(self, chain: IdentityChain, target: ArmId, facts: FactsT) -> FactsT:
        """Put a newer read into the list and return it, so that no older list replaces it."""
        listed = self._listed.get((chain, target.subscription_id))
        if listed is not None:
            listed.resources[target.key] = facts
            listed.read[target.key] = (self._session.monotonic(), facts)
        return facts

    async def _young(self, chain: IdentityChain, subscription_id: str, max_age: float) -> _Listed[FactsT]:
        listed = self._listed.pop((chain, subscription_id), None) or _Listed()
        self._listed[chain, subscription_id] = listed
        listed.used = self._session.monotonic()
        self._drop_unused()
        async with listed.lock:
            if self._session.monotonic() - listed.at > max_age:
                await self._list(chain, subscription_id, listed)
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
        async for page in self._source.pages(chain, subscription_id):
            found |= {resource_id.lower(): alike.setdefault(facts, facts) for resource_id, facts in page}
        listed.read = {key: (at, facts) for key, (at, facts) in listed.read.items() if at > began}
        found |= {key: facts for key, (_, facts) in listed.read.items()}
        listed.resources, listed.at = found, self._session.monotonic()
