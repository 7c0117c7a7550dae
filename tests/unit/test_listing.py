"""Lists of a subscription: one for all that ask, never older than a reading since, and forgotten when nothing asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.listing import UNUSED_FOR, Listing
from tests.unit.samples import APPLICATION, SUBSCRIPTION
from tests.unit.test_management import CHAIN, Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from cmk_operator.azure.credentials import IdentityChain


class Session:
    """Its clock is all that a list needs."""

    def __init__(self) -> None:
        self.monotonic = Clock()


class Source:
    """Gives the number of the request as the facts of every resource."""

    def __init__(self) -> None:
        self.lists: list[str] = []
        self.reads = 0

    async def read(self, _: IdentityChain, __: ArmId) -> str:
        self.reads += 1
        return f"read {self.reads}"

    async def pages(self, _: IdentityChain, subscription_id: str) -> AsyncIterator[Sequence[tuple[str, str]]]:
        self.lists.append(subscription_id)
        yield [(account(subscription_id).text, f"list {len(self.lists)}")]
        yield []


def account(subscription_id: str = SUBSCRIPTION, name: str = "a") -> ArmId:
    return ArmId(f"/subscriptions/{subscription_id}/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/{name}")


def listing(session: Session, source: Source) -> Listing[str]:
    having_a_clock: Any = session
    return Listing(having_a_clock, source, 300.0)


async def test_one_list_serves_all_that_ask_while_it_is_young() -> None:
    session, source = Session(), Source()
    listed = listing(session, source)
    assert [await listed.get(CHAIN, account(), 60) for _ in range(3)] == ["list 1"] * 3
    assert await listed.get(CHAIN, account(name="not-listed"), 60) == "read 1"
    session.monotonic.now = 61
    assert await listed.get(CHAIN, account(), 60) == "list 2"
    assert (len(source.lists), source.reads) == (2, 1)


async def test_a_reading_by_itself_takes_the_place_of_the_list_s() -> None:
    listed = listing(Session(), Source())
    await listed.get(CHAIN, account(), 60)
    assert await listed.get(CHAIN, account(), 0) == "read 1"
    assert await listed.get(CHAIN, account(), 60) == "read 1"


async def test_the_list_of_a_subscription_that_nothing_asks_for_is_forgotten() -> None:
    session, source = Session(), Source()
    listed = listing(session, source)
    await listed.all(CHAIN, SUBSCRIPTION, 60)
    await listed.all(CHAIN, APPLICATION, 60)
    assert len(listed) == 2
    session.monotonic.now = 0.6 * UNUSED_FOR
    await listed.all(CHAIN, SUBSCRIPTION, 60)
    session.monotonic.now = 1.2 * UNUSED_FOR
    await listed.all(CHAIN, SUBSCRIPTION, 60)
    assert len(listed) == 1
