"""Shortens a sequence: leaves steps out as long as the same law is still broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.soak.episode import play

if TYPE_CHECKING:
    from tests.soak.episode import Result, Setting
    from tests.soak.ground import Ground
    from tests.soak.steps import Step


async def shortened(ground: Ground, setting: Setting, result: Result, replays: int) -> tuple[list[Step], Result]:
    """The shortest sequence found within so many replays, and its result; delta debugging by halves, quarters and so on."""
    steps = setting.steps()[: result.at + 1]
    law = (result.violation or "")[:1]
    best, size = result, max(1, len(steps) // 2)
    while replays > 0:
        start, left_out = 0, False
        while start < len(steps) and replays > 0:
            tried = steps[:start] + steps[start + size :]
            replays -= 1
            again = await play(ground, setting, tried)
            if tried and again.violation is not None and again.violation[:1] == law:
                steps, best, left_out = tried[: again.at + 1], again, True
            else:
                start += size
        if not left_out and size == 1:
            break
        size = max(1, size // 2)
    return steps, best
