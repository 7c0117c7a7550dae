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
_OUTSIDE = "What your keys do not protect: disabling a key does not stop the following data of the resources on it."


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
    outside = tuple(_outside(handover))
    if outside:
        lines += ["", *textwrap.wrap(_OUTSIDE, WIDTH), *outside]
    return "\n".join(lines) + "\n"


def _outside(handover: Handover) -> Iterator[str]:
    """For each key, what it may not protect by its nature, and what of the resources on it is known to be outside."""
    for vault in handover.vaults:
        for key in vault.keys:
            kinds = [f"{use.protects}: {use.outside}" for use in key.uses if use.outside]
            for text in (*kinds, *(f"now: {one}" for one in key.outside)):
                yield from textwrap.wrap(
                    printable(f"- {key.uri.key_name} ({text})"),
                    WIDTH,
                    initial_indent="   ",
                    subsequent_indent="     ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )


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
