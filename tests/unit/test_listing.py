"""Lists of a subscription: one for all that ask, never older than a reading since, and forgotten when nothing asks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError

from cmk_operator.answer_gate import UnreadableError
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.listing import MANY, SINGLY_FOR, UNUSED_FOR, WRITE_MAX_AGE, Listing
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
        self.names = ["a"]
        self.answers = asyncio.Event()
        self.answers.set()
        self.refused = False
        self.unread: list[str] = []
        self.empty_pages = 0

    async def read(self, _: IdentityChain, __: ArmId) -> str:
        self.reads += 1
        return f"read {self.reads}"

    async def pages(self, _: IdentityChain, subscription_id: str) -> AsyncIterator[Sequence[tuple[str, str | None]]]:
        self.lists.append(subscription_id)
        said = f"list {len(self.lists)}"
        await self.answers.wait()
        if self.refused:
            raise ServiceRequestError("no connection")
        yield [(account(subscription_id, name).text, said) for name in self.names]
        if self.unread:
            yield [(unread, None) for unread in self.unread]
        for _number in range(self.empty_pages):
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


async def test_the_facts_of_a_list_belong_to_the_id_that_azure_would_find_there_and_to_no_other() -> None:
    source = Source()
    source.names = ["KELVIN", "other-\N{KELVIN SIGN}"]
    listed = listing(Session(), source)
    assert await listed.get(CHAIN, account(name="kelvin"), 60) == "list 1", "Azure folds the case of ASCII"
    assert await listed.get(CHAIN, account(name="other-k"), 60) == "read 1", "and of no other letter"


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


def many_accounts(source: Source, number: int = 3 * MANY) -> list[ArmId]:
    source.names = [f"a{index}" for index in range(number)]
    return [account(name=name) for name in source.names]


async def test_a_few_writes_read_their_resources_singly() -> None:
    source = Source()
    listed = listing(Session(), source)
    found = [await listed.before_write(CHAIN, target) for target in many_accounts(source)[: MANY - 1]]
    assert (found[0], source.lists, source.reads) == ("read 1", [], MANY - 1)


async def test_many_writes_at_once_share_one_list() -> None:
    source = Source()
    listed = listing(Session(), source)
    found = await asyncio.gather(*(listed.before_write(CHAIN, target) for target in many_accounts(source)))
    assert (len(source.lists), source.reads) == (1, MANY - 1)
    assert found[MANY - 1 :] == ["list 1"] * (2 * MANY + 1)


async def test_writes_that_come_slowly_never_list() -> None:
    session, source = Session(), Source()
    listed = listing(session, source)
    for target in many_accounts(source):
        session.monotonic.now += WRITE_MAX_AGE / (MANY - 1) + 0.1
        await listed.before_write(CHAIN, target)
    assert (len(source.lists), source.reads) == (0, 3 * MANY)


@pytest.mark.parametrize(("pages", "lists"), [(1, 2), (2, 1)])
async def test_a_list_of_more_pages_is_only_cheaper_for_as_many_more_writes(pages: int, lists: int) -> None:
    """Azure counts each page as a list."""
    session, source = Session(), Source()
    source.empty_pages = pages - 1
    listed, targets = await with_a_list(session, source)
    session.monotonic.now += WRITE_MAX_AGE + 1
    for target in targets[:MANY]:
        session.monotonic.now += WRITE_MAX_AGE / MANY
        await listed.before_write(CHAIN, target)
    assert len(source.lists) == lists
    for target in targets[MANY:]:
        await listed.before_write(CHAIN, target)
    assert len(source.lists) == 2, "these came at once"


async def with_a_list(session: Session, source: Source) -> tuple[Listing[str], list[ArmId]]:
    listed, targets = listing(session, source), many_accounts(source)
    await listed.all(CHAIN, SUBSCRIPTION, 60)
    return listed, targets


async def test_a_list_of_a_few_seconds_serves_a_single_write_too() -> None:
    session, source = Session(), Source()
    listed, targets = await with_a_list(session, source)
    session.monotonic.now = WRITE_MAX_AGE
    assert await listed.before_write(CHAIN, targets[0]) == "list 1"
    session.monotonic.now = WRITE_MAX_AGE + 0.1
    assert await listed.before_write(CHAIN, targets[1]) == "read 1"


async def test_the_age_of_a_list_counts_from_when_it_was_asked_for() -> None:
    session, source = Session(), Source()
    listed, targets = listing(session, source), many_accounts(source)
    source.answers.clear()
    asked = asyncio.create_task(listed.all(CHAIN, SUBSCRIPTION, 60))
    await asyncio.sleep(0)
    session.monotonic.now = WRITE_MAX_AGE + 0.1
    source.answers.set()
    await asked
    assert await listed.before_write(CHAIN, targets[0]) == "read 1"


async def test_after_a_write_no_older_list_counts_for_the_resource() -> None:
    session, source = Session(), Source()
    listed, targets = await with_a_list(session, source)
    listed.written(CHAIN, targets[0])
    assert await listed.before_write(CHAIN, targets[0]) == "read 1"
    assert await listed.before_write(CHAIN, targets[1]) == "list 1"


async def test_nor_does_one_that_was_under_way_when_the_write_ended() -> None:
    session, source = Session(), Source()
    listed, targets = listing(session, source), many_accounts(source)
    source.answers.clear()
    asked = asyncio.create_task(listed.all(CHAIN, SUBSCRIPTION, 60))
    await asyncio.sleep(0)
    session.monotonic.now = 1.0
    listed.written(CHAIN, targets[0])
    source.answers.set()
    await asked
    assert await listed.before_write(CHAIN, targets[0]) == "read 1"
    assert await listed.before_write(CHAIN, targets[1]) == "list 1"


async def test_a_list_that_was_asked_for_after_the_write_counts_again() -> None:
    session, source = Session(), Source()
    listed, targets = await with_a_list(session, source)
    listed.written(CHAIN, targets[0])
    session.monotonic.now = 61
    await listed.all(CHAIN, SUBSCRIPTION, 60)
    assert await listed.before_write(CHAIN, targets[0]) == "list 2"


async def test_what_is_not_in_the_list_is_read() -> None:
    session, source = Session(), Source()
    listed, _ = await with_a_list(session, source)
    assert await listed.before_write(CHAIN, account(name="made-since")) == "read 1"


async def test_a_refused_list_leaves_reads_and_is_not_asked_for_again_soon() -> None:
    session, source = Session(), Source()
    listed, targets = listing(session, source), many_accounts(source)
    source.refused = True
    found = await asyncio.gather(*(listed.before_write(CHAIN, target) for target in targets))
    assert all(facts.startswith("read") for facts in found)
    assert (len(source.lists), source.reads) == (1, len(targets))
    source.refused, session.monotonic.now = False, SINGLY_FOR
    await asyncio.gather(*(listed.before_write(CHAIN, target) for target in targets))
    assert len(source.lists) == 2


async def test_a_list_that_takes_longer_than_it_counts_is_not_asked_for_again_soon() -> None:
    session, source = Session(), Source()
    listed, targets = listing(session, source), many_accounts(source)
    source.answers.clear()
    asked = [asyncio.create_task(listed.before_write(CHAIN, target)) for target in targets]
    await asyncio.sleep(0)
    session.monotonic.now = WRITE_MAX_AGE + 0.1
    source.answers.set()
    found = await asyncio.gather(*asked)
    assert all(facts.startswith("read") for facts in found)
    assert len(source.lists) == 1


async def test_what_cannot_be_read_of_a_list_is_named_and_spoils_nothing_else() -> None:
    source = Source()
    source.unread = [account(name="odd").text, ""]
    listed = listing(Session(), source)
    assert list(await listed.all(CHAIN, SUBSCRIPTION, 60)) == [account().key]
    assert await listed.unread(CHAIN, SUBSCRIPTION, 60) == ("", account(name="odd").text)
    assert len(source.lists) == 1, "both are of one list"
    assert await listed.get(CHAIN, account(name="odd"), 60) == "read 1"


async def test_facts_that_do_not_say_what_they_must_are_listed_but_the_resource_is_read_by_itself() -> None:
    having_a_clock: Any = Session()
    listed = Listing(having_a_clock, Source(), 300.0, lambda facts: not facts.startswith("list"))
    assert await listed.get(CHAIN, account(), 60) == "read 1"
    listed = Listing(having_a_clock, Source(), 300.0, lambda facts: not facts.startswith("list"))
    assert await listed.all(CHAIN, SUBSCRIPTION, 60) == {account().key: "list 1"}
    for number in range(1, 2 * MANY):
        assert await listed.before_write(CHAIN, account()) == f"read {number}"


async def test_after_an_answer_that_cannot_be_read_no_older_one_speaks_for_the_resource() -> None:
    class Unreadable(Source):
        async def read(self, _: IdentityChain, __: ArmId) -> str:
            self.reads += 1
            raise UnreadableError("odd")

    source = Unreadable()
    listed = listing(Session(), source)
    assert await listed.get(CHAIN, account(), 60) == "list 1"
    for max_age in (0, 60, 60):
        with pytest.raises(UnreadableError):
            await listed.get(CHAIN, account(), max_age)
    assert (len(source.lists), source.reads) == (1, 3)
