"""Data keys in memory, single flight, and when new data gets a new data key."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_keyservice.crypto.suites import DataKeyPrimitive, new_material
from cmk_keyservice.keys.cache import Cache, Held
from cmk_keyservice.keys.data_key import DataKey
from cmk_keyservice.keys.epochs import NewEpoch, NewestKey, new_epoch
from cmk_keyservice.keys.flights import Flights
from cmk_keyservice.keys.wrapping import Wrapping
from cmk_keyservice.store.rows import DataKeyRow
from cmk_keyservice.vaults.accepted import PLATFORM_KEY, Accepted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OWN = Accepted(3, "https://v.vault.azure.net/keys/k/" + "a" * 32, "RSA-OAEP-256")
PLATFORM = Accepted(1, PLATFORM_KEY, "")
PRIMITIVE = DataKeyPrimitive(uuid4(), 1, new_material())


def held(data_key_id: UUID, organization: str = "acme") -> Held:
    data_key = DataKey(data_key_id, organization, "shop/api", "rows", 1, PRIMITIVE, 60.0)
    return Held(data_key, OWN.kid, 0.0, 60.0, 60.0)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["acme", "contoso"])), max_size=60), st.integers(1, 5))
def test_memory_never_holds_more_than_it_may_and_evicts_an_organization_whole(
    uses: list[tuple[int, str]], capacity: int
) -> None:
    cache = Cache(capacity)
    for number, organization in uses:
        cache.put(held(UUID(int=number), organization))
        assert len(cache) <= capacity
        assert cache.get(UUID(int=number)) is not None
    cache.evict("acme")
    left = [cache.get(UUID(int=number)) for number in range(10)]
    assert {one.data_key.organization for one in left if one is not None} <= {"contoso"}
    assert len(cache) == sum(one is not None for one in left)


def test_the_longest_unused_data_key_leaves_first() -> None:
    cache = Cache(2)
    first, second, third = (UUID(int=number) for number in range(3))
    cache.put(held(first))
    cache.put(held(second))
    cache.get(first)
    cache.put(held(third))
    assert [cache.get(one) is not None for one in (first, second, third)] == [True, False, True]


def test_no_text_form_shows_a_key() -> None:
    one = held(uuid4())
    shown = f"{one!r} {one.data_key!r} {one.data_key}"
    assert PRIMITIVE.material.hex() not in shown
    assert repr(PRIMITIVE.material) not in shown


@pytest.mark.parametrize(
    ("newest", "accepted", "expected"),
    [
        (None, OWN, NewEpoch.FIRST),
        (NewestKey(1, OWN.kid, 1), OWN, None),
        (NewestKey(1, OWN.kid, 90), OWN, NewEpoch.AGE),
        (NewestKey(1, PLATFORM_KEY, 1), OWN, NewEpoch.OWN_KEY),
        (NewestKey(1, OWN.kid, 1, retired=True), OWN, NewEpoch.OWN_KEY),
        (NewestKey(1, PLATFORM_KEY, 1), PLATFORM, None),
        (NewestKey(2, OWN.kid, 1), PLATFORM, None),
    ],
)
def test_new_data_gets_a_new_data_key_by_age_and_with_the_organizations_first_own_key(
    newest: NewestKey | None, accepted: Accepted, expected: NewEpoch | None
) -> None:
    assert new_epoch(newest, accepted) is expected


async def test_callers_share_one_attempt_and_one_that_leaves_does_not_end_it() -> None:
    flights: Flights[str, int] = Flights()
    begun: list[int] = []
    gate = asyncio.Event()

    async def attempt() -> int:
        begun.append(1)
        await gate.wait()
        return 7

    waiting = [asyncio.create_task(flights.join("a", attempt)) for _ in range(200)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert results[1:] == [7] * 199
    assert isinstance(results[0], asyncio.CancelledError)
    assert (len(begun), len(flights)) == (1, 0)


async def test_a_failed_attempt_is_told_to_all_and_not_kept() -> None:
    flights: Flights[str, int] = Flights()
    results: list[Any] = []

    async def fail() -> int:
        raise LookupError

    async def succeed() -> int:
        return 1

    for attempt in (fail, succeed):
        begin = cast("Callable[[], Awaitable[int]]", attempt)
        results += await asyncio.gather(*(flights.join("a", begin) for _ in range(3)), return_exceptions=True)  # type: ignore[arg-type]  # coroutines
    assert [type(one) for one in results] == [LookupError] * 3 + [int] * 3


@pytest.mark.parametrize(("purpose", "kept"), [("orders", False), ("wrap/a", False), ("index/a", True), ("leased/a", True)])
def test_a_data_key_keeps_its_bytes_only_where_it_leaves_the_service_or_serves_indexes(*, purpose: str, kept: bool) -> None:
    primitive = Wrapping.data_key(row(purpose), new_material(), 60.0).primitive
    if kept:
        assert len(primitive.material) == 32
    else:
        with pytest.raises(LookupError, match="neither leaves the service nor serves indexes"):
            _ = primitive.material


def test_data_keys_share_the_texts_that_they_have_in_common_whatever_kind_of_text_a_row_has() -> None:
    class Text(str):
        __slots__ = ()

    first, second = (Wrapping.data_key(row("orders", text), new_material(), 60.0) for text in (str, Text))
    assert first.organization is second.organization
    assert first.service is second.service
    assert type(second.service) is str


def row(purpose: str, text: Callable[[str], str] = str) -> DataKeyRow:
    now = datetime(2026, 11, 30, tzinfo=UTC)
    return DataKeyRow(
        id=uuid4(),
        organization=text(b"acme".decode()),
        service=text(b"shop/api".decode()),
        purpose=purpose,
        epoch=1,
        suite=1,
        state="Active",
        kid=OWN.kid,
        algorithm=OWN.algorithm,
        edek=b"",
        context_digest=b"",
        created_at=now,
        age=0.0,
        row_version=1,
        previous_kid=None,
        previous_algorithm=None,
        previous_edek=None,
    )
