"""A story: steps with a title, in the order in which they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.demo.stage import Stage

    Play: TypeAlias = Callable[[Stage], Awaitable[str]]


class Story(list[tuple[str, "Play"]]):
    """Each step checks what it claims, and returns one line about what was observed."""

    def step(self, title: str) -> Callable[[Play], Play]:
        """Add a step."""

        def add(play: Play) -> Play:
            self.append((title, play))
            return play

        return add
