"""The laws under random customers, faults, crashes and edits: a little of what `make soak` does at length."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.soak.episode import Setting, play
from tests.soak.ground import opened
from tests.soak.steps import PICKS, WEIGHTS, Step
from tests.soak.targets import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from tests.soak.ground import Ground

pytestmark = pytest.mark.cluster
SEED = "2026-11-25"
EPISODES = 2
LENGTH = 200
"""With those of `KINDS`: more than two thousand actions and passes."""
STEPS = st.lists(st.builds(Step, st.sampled_from(sorted(WEIGHTS)), st.integers(0, PICKS - 1)), min_size=5, max_size=20)
A_NEWER_VERSION_BEFORE_A_WRITE = (
    Step("seconds", 1),
    Step("new version", 0),
    Step("drift", 1),
    Step("a moment", 0),
    Step("ask for a pass", 1),
    Step("pass", 0),
)
"""Azure was told to take the latest version of a key, and took one that had been made since the probe."""
A_HOSTILE_NEIGHBOUR = (
    Step("quiet", 0),
    *(Step(what, number) for number, what in enumerate(["refused manifests", "missing keys", "neighbour's resource"])),
    Step("annotation storm", 0),
    Step("minutes", 0),
    Step("delete manifest", 1),
    Step("neighbour leaves", 0),
    Step("quiet", 0),
)
"""It names the victim's resources from where nobody admits it, and asks for a revert by its deletion."""


@pytest.fixture(scope="module")
def stage(directory: Path, cluster: Cluster, azure: AzureProcess) -> Iterator[tuple[asyncio.Runner, Ground]]:
    """One event loop for all of these tests, in which the sessions of everybody live."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner, runner.run(stack.enter_async_context(opened(cluster, azure.env, directory)))
        runner.run(stack.aclose())


@pytest.mark.parametrize("number", range(EPISODES))
@pytest.mark.parametrize("kind", KINDS)
def test_random_steps_from_a_seed_break_no_law(stage: tuple[asyncio.Runner, Ground], kind: str, number: int) -> None:
    runner, ground = stage
    result = runner.run(play(ground, Setting(kind, f"{SEED}:{kind}:{number}", LENGTH)))
    assert result.violation is None, "\n".join([*result.trace, result.violation])


@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=False,
)
@given(steps=STEPS)
def test_no_short_sequence_breaks_a_law(stage: tuple[asyncio.Runner, Ground], steps: list[Step]) -> None:
    runner, ground = stage
    result = runner.run(play(ground, Setting("storage", SEED, 0), [*steps, Step("quiet", 0)]))
    assert result.violation is None, "\n".join([*result.trace, result.violation])


def test_a_newer_version_than_was_probed_is_not_taken_over_unseen(stage: tuple[asyncio.Runner, Ground]) -> None:
    runner, ground = stage
    result = runner.run(play(ground, Setting("storage", SEED, 0), A_NEWER_VERSION_BEFORE_A_WRITE))
    assert result.violation is None, "\n".join([*result.trace, result.violation])
    assert [line.split(":")[0].split(None, 1)[1] for line in result.trace] == [
        "time passes",
        "new version",
        "drift",
        "a moment",
        "ask for a pass",
        "pass",
    ]


def test_what_a_hostile_neighbour_does_breaks_no_law_for_its_victim(stage: tuple[asyncio.Runner, Ground]) -> None:
    runner, ground = stage
    result = runner.run(play(ground, Setting("storage", SEED, 0), A_HOSTILE_NEIGHBOUR))
    assert result.violation is None, "\n".join([*result.trace, result.violation])
    assert {step.what for step in A_HOSTILE_NEIGHBOUR} - {"minutes"} <= result.done.keys()
