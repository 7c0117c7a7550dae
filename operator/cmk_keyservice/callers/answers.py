"""Remembers what the API server said: for a bounded time, of bounded size, and with one question at a time for each key.

A use never makes an answer last longer. An outage of the API server is no refusal: an answer that it gave may be used for some
minutes more, but never beyond the end of the token that it is about (docs/decisions/0150-an-outage-of-the-api-server.md).
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from cmk_keyservice.problem import Kind, ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

REFUSED_FOR: Final = 10.0
"""Most seconds for which a refusal is remembered: a right that was just granted works after that."""
ASK_AGAIN_AFTER: Final = 5.0
"""Seconds between questions about one key while the API server does not answer."""
PATIENCE: Final = 2.0
"""Seconds that a caller waits for the API server while there is an answer that an outage allows to use."""
JITTER: Final = 0.1
"""Part of the time by which answers last shorter at random, so that they do not all end at once."""
K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Answer(Generic[V]):
    """What the API server said; `good_for` bounds in seconds how long that can hold, whatever else happens."""

    value: V
    allowed: bool
    good_for: float = float("inf")


@dataclass(slots=True)
class _Kept(Generic[V]):
    value: V
    fresh_until: float
    ends: float


class Answers(Generic[K, V]):
    """Answers by key. Refusals have a table of their own, so that a flood of them drops nobody's rights."""

    def __init__(self, fresh_for: float, outage_grace: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh_for, self._outage_grace, self._most, self._clock = fresh_for, outage_grace, most, clock
        self._allowed: OrderedDict[K, _Kept[V]] = OrderedDict()
        self._refused: OrderedDict[K, _Kept[V]] = OrderedDict()
        self._asked: dict[K, asyncio.Task[V]] = {}
        self._silent_until = float("-inf")
        """Until when nobody waits for the API server who has an answer to use: it was just asked and did not answer."""

    def __len__(self) -> int:
        return len(self._allowed) + len(self._refused)

    async def get(self, key: K, ask: Callable[[], Awaitable[Answer[V]]]) -> V:
        """The answer for a key, from memory or by `ask`. Raises `ProblemError` (Unavailable) if nobody answers."""
        now = self._clock()
        for table in (self._allowed, self._refused):
            kept = table.get(key)
            if kept is not None and now < kept.fresh_until:
                table.move_to_end(key)
                return kept.value
        kept = self._allowed.get(key)
        usable = kept is not None and now < kept.ends
        if kept is not None and usable and now < self._silent_until:
            return kept.value
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.ensure_future(self._ask(key, ask))
            asked.add_done_callback(functools.partial(self._answered, key))
        # A caller that goes away does not end the question of the others.
        if kept is None or not usable:
            return await asyncio.shield(asked)
        try:
            return await asyncio.wait_for(asyncio.shield(asked), PATIENCE)
        except TimeoutError:
            pass
        except ProblemError as error:
            if error.problem.kind is not Kind.UNAVAILABLE:
                raise
        self._silent_until = self._clock() + ASK_AGAIN_AFTER
        return kept.value

    def _answered(self, key: K, asked: asyncio.Task[V]) -> None:
        del self._asked[key]
        if not asked.cancelled():
            asked.exception()  # whoever still waits for it is told; nobody may

    async def _ask(self, key: K, ask: Callable[[], Awaitable[Answer[V]]]) -> V:
        answer = await ask()
        self._keep(key, answer)
        return answer.value

    def _keep(self, key: K, answer: Answer[V]) -> None:
        self._allowed.pop(key, None)
        self._refused.pop(key, None)
        table = self._allowed if answer.allowed else self._refused
        longest = self._fresh_for if answer.allowed else min(self._fresh_for, REFUSED_FOR)
        lasts = longest * random.uniform(1 - JITTER, 1)  # noqa: S311 - spreading, not cryptography
        now = self._clock()
        fresh_until = now + min(lasts, answer.good_for)
        table[key] = _Kept(answer.value, fresh_until, now + min(lasts + self._outage_grace, answer.good_for))
        if len(table) > self._most:
            table.popitem(last=False)
