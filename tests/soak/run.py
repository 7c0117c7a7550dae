"""Plays episodes one after the other on a sandbox of its own, and reports the shortest sequence for each violation."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox import environment
from sandbox.operator_process import install_chart
from tests.soak.episode import Setting, play
from tests.soak.ground import opened
from tests.soak.shortening import shortened

if TYPE_CHECKING:
    import argparse

    from tests.soak.episode import Result
    from tests.soak.ground import Ground

KINDS_IN_TURN = ("storage", "storage", "sql", "sets")
LEFT_TO_TELL = 40


def setting_of(seed: str, number: int, length: int, kind: str | None) -> Setting:
    """The setting of an episode: it follows from seed and number alone."""
    return Setting(kind or KINDS_IN_TURN[number % len(KINDS_IN_TURN)], f"{seed}:{number}", length)


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass
class Share:
    """What one process did of the whole."""

    steps: int = 0
    episodes: int = 0
    violations: int = 0
    done: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        self.steps += result.steps
        self.episodes += 1
        self.violations += result.violation is not None
        self.done += result.done


async def _soak(ground: Ground, arguments: argparse.Namespace) -> Share:
    """Play this process's share of the episodes: each n-th, so that an episode is the same whoever plays it."""
    began, share = time.monotonic(), Share()
    number, of = (arguments.episode, 1) if arguments.episode is not None else arguments.share
    while share.steps < arguments.steps // of and share.violations < arguments.stop_after:
        setting = setting_of(arguments.seed, number, arguments.length, arguments.kind)
        result = await play(ground, setting)
        share.add(result)
        if result.violation is not None:
            say(f"VIOLATION in episode {number} ({setting.kind}), step {result.at}: {result.violation}")
            await _tell(ground, setting, result, arguments)
        if share.episodes % 10 == 1:
            rate = share.steps / (time.monotonic() - began)
            say(f"episode {number}: {share.steps} steps, {rate:.1f} steps/s, {share.violations} violations")
        number += of
        if arguments.episode is not None:
            break
    return share


async def _tell(ground: Ground, setting: Setting, result: Result, arguments: argparse.Namespace) -> None:
    for line in result.trace[-LEFT_TO_TELL:]:
        say(f"    {line}")
    say(f"  again: python -m tests.soak --seed {arguments.seed} --episode {setting.seed.rpartition(':')[2]}"
        f" --length {setting.length}{f' --kind {arguments.kind}' if arguments.kind else ''}")  # fmt: skip
    if arguments.shorten:
        steps, again = await shortened(ground, setting, result, arguments.shorten)
        say(f"  shortest found: {len(steps)} steps: {' '.join(str(step) for step in steps)}")
        for line in again.trace:
            say(f"    {line}")
        say(f"    {again.violation}")


def play_share(arguments: argparse.Namespace) -> Share:
    """Play a share on a sandbox of its own."""
    # The servers are ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logging.basicConfig(level=logging.INFO if arguments.log else logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="cmk-operator-soak-") as folder:
        sandbox = environment.start(Path(folder) / "sandbox")
        try:
            install_chart(sandbox.cluster)

            async def run() -> Share:
                async with opened(sandbox.cluster, sandbox.azure.env, Path(folder)) as ground:
                    return await _soak(ground, arguments)

            return asyncio.run(run())
        finally:
            sandbox.stop()
