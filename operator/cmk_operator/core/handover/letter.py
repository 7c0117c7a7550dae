"""The steps as a letter, for administrators who do them by hand or read them before running anything."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from cmk_operator.core.handover.request import printable
from cmk_operator.core.handover.steps import steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cmk_operator.core.handover.request import Choices, Handover
    from cmk_operator.core.handover.steps import Step

WIDTH = 100


def letter(handover: Handover, choices: Choices) -> str:
    """Plain text: for each step who does it, why, and the commands; later commands use variables of earlier ones."""
    opening = (
        f"To the administrator of tenant {handover.tenant_id}: what to do so that your own keys protect your data at the provider "
        f"whose application is {handover.shown_application}."
    )
    promise = "You may repeat all of it at any time: each command checks first, and nothing is deleted, disabled or rotated."
    lines = [*textwrap.wrap(opening, WIDTH), "", *textwrap.wrap(promise, WIDTH)]
    for number, step in enumerate(steps(handover, choices), start=1):
        lines += ["", *_step(number, step)]
    return "\n".join(lines) + "\n"


def _step(number: int, step: Step) -> Iterator[str]:
    yield printable(f"{number}. {step.title}")
    for label, text in (("Who", step.who), ("Why", step.why)):
        yield from textwrap.wrap(
            printable(f"{label}: {text}"),
            WIDTH,
            initial_indent="   ",
            subsequent_indent="        ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    if step.command:
        yield ""
        yield from (f"   {row}" for row in step.command.split("\n"))
