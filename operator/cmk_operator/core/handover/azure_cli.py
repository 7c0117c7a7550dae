"""The steps as one bash script for the az CLI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.core.handover.comments import comment
from cmk_operator.core.handover.shell import quoted
from cmk_operator.core.handover.steps import steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cmk_operator.core.handover.request import Choices, Handover
    from cmk_operator.core.handover.steps import Step


def azure_cli_script(handover: Handover, choices: Choices) -> str:
    """The complete script, which the customer's administrator can run unchanged, and run again."""
    lines = [
        "#!/usr/bin/env bash",
        *comment(
            f"What the administrator of tenant {handover.tenant_id} does so that keys of this tenant protect its data at the "
            f"provider whose application is {handover.shown_application}."
        ),
        *comment("It may be run again at any time: each step checks first, and nothing is deleted, disabled or rotated."),
        *comment(
            "Needs bash and the az CLI 2.90.0 or newer (https://aka.ms/azure-cli), signed in: older ones use api-versions of Key Vault "
            "that end on 27 February 2027."
        ),
        "set -euo pipefail",
        "# Git for Windows would treat ids that start with a slash as paths.",
        "export MSYS_NO_PATHCONV=1",
    ]
    for number, step in enumerate(steps(handover, choices), start=1):
        lines += ["", *_section(number, step)]
    return "\n".join(lines) + "\n"


def _section(number: int, step: Step) -> Iterator[str]:
    yield from comment(f"{number}. {step.title}")
    yield from comment(f"Who: {step.who}.")
    yield from comment(f"Why: {step.why}", indent="     ")
    if step.command:
        yield f"echo {quoted(f'{number}. {step.title}')} >&2"
        yield step.command
