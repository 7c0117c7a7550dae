from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from cmk_keyservice.callers.answers import ASK_AGAIN_AFTER, REFUSED_FOR, Answer, Answers
from cmk_keyservice.problem import Kind, ProblemError, problem_error


@dataclass
class Server:
    """Answers questions by plan and counts them; `down` makes it fail as an API server that does not answer."""

    allowed: bool = True
    down: bool = False
    good_for: float = float("inf")
    questions: int = 0
    now: float = 0.0
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self) -> Answer[bool]:
        self.questions += 1
        if self.down:
            raise problem_error(Kind.UNAVAILABLE, "Down", "down", "wait")
        await asyncio.sleep(0)
        return Answer(self.allowed, self.allowed, self.good_for)

    def clock(self) -> float:
        return self.now


def _answers(server: Server, most: int = 100) -> Answers[str, bool]:
    return Answers(60.0, 600.0, most, server.clock)


async def test_an_answer_is_asked_for_once_while_it_is_fresh_and_no_use_makes_it_last_longer() -> None:
    server = Server()
    answers = _answers(server)
    for second in range(54):
        server.now = float(second)
        assert await answers.get("a", server.ask)
    assert server.questions == 1
    server.now = 60.0
    await answers.get("a", server.ask)
    assert server.questions == 2


async def test_a_taken_right_is_refused_once_the_answer_has_ended() -> None:
    server = Server()
    answers = _answers(server)
    assert await answers.get("a", server.ask)
    server.allowed, server.now = False, 60.0
    assert not await answers.get("a", server.ask)


async def test_a_refusal_is_remembered_for_a_short_time_only() -> None:
    server = Server(allowed=False)
    answers = _answers(server)
    assert not await answers.get("a", server.ask)
    server.allowed = True
    assert not await answers.get("a", server.ask)
    server.now = REFUSED_FOR
    assert await answers.get("a", server.ask)


async def test_a_hundred_callers_at_once_ask_one_question() -> None:
    server = Server()
    answers = _answers(server)
    assert all(await asyncio.gather(*(answers.get("a", server.ask) for _ in range(100))))
    assert server.questions == 1


async def test_a_caller_that_goes_away_does_not_end_the_question_of_another() -> None:
    server = Server()
    answers = _answers(server)
    first = asyncio.ensure_future(answers.get("a", server.ask))
    second = asyncio.ensure_future(answers.get("a", server.ask))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert server.questions == 1


async def test_an_outage_is_no_refusal_until_its_grace_ends() -> None:
    server = Server()
    answers = _answers(server)
    assert await answers.get("a", server.ask)
    server.down = True
    for second in (60.0, 300.0, 650.0):
        server.now = second
        assert await answers.get("a", server.ask), second
    server.now = 661.0
    with pytest.raises(ProblemError, match="Unavailable/Down"):
        await answers.get("a", server.ask)


async def test_in_an_outage_nobody_waits_for_the_api_server_again_and_again() -> None:
    server = Server()
    answers = _answers(server)
    await answers.get("a", server.ask)
    server.down, server.now = True, 100.0
    for _ in range(50):
        await answers.get("a", server.ask)
    assert server.questions == 2
    server.now += ASK_AGAIN_AFTER
    await answers.get("a", server.ask)
    assert server.questions == 3


async def test_after_an_outage_a_taken_right_is_refused_at_the_next_question() -> None:
    server = Server()
    answers = _answers(server)
    await answers.get("a", server.ask)
    server.down, server.now = True, 100.0
    assert await answers.get("a", server.ask)
    server.down, server.allowed, server.now = False, False, 100.0 + ASK_AGAIN_AFTER
    assert not await answers.get("a", server.ask)


async def test_nobody_is_let_in_who_was_never_asked_about_in_an_outage() -> None:
    server = Server(down=True)
    with pytest.raises(ProblemError, match="Unavailable"):
        await _answers(server).get("a", server.ask)


async def test_the_end_of_a_token_is_the_end_of_its_answer_even_in_an_outage() -> None:
    server = Server(good_for=20.0)
    answers = _answers(server)
    assert await answers.get("a", server.ask)
    server.down, server.now = True, 19.0
    assert await answers.get("a", server.ask)
    server.now = 20.0
    with pytest.raises(ProblemError, match="Unavailable"):
        await answers.get("a", server.ask)


async def test_memory_is_bounded_and_a_flood_of_refusals_drops_no_right() -> None:
    server = Server()
    answers = _answers(server, most=10)
    await answers.get("right", server.ask)
    server.allowed = False
    for number in range(100):
        await answers.get(f"refused {number}", server.ask)
    assert len(answers) == 11
    before = server.questions
    assert await answers.get("right", server.ask)
    assert server.questions == before
