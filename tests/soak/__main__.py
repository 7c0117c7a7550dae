"""`python -m tests.soak`: a long run of episodes from a seed, and the shortest way to whatever goes wrong."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox import environment
from sandbox.operator_process import install_chart
from tests.soak.episode import Setting, play
from tests.soak.ground import opened
from tests.soak.shortening import shortened
from tests.soak.targets import KINDS

if TYPE_CHECKING:
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


async def _soak(ground: Ground, arguments: argparse.Namespace) -> int:
    began, steps, violations = time.monotonic(), 0, 0
    done: Counter[str] = Counter()
    number = arguments.episode if arguments.episode is not None else 0
    while steps < arguments.steps:
        setting = setting_of(arguments.seed, number, arguments.length, arguments.kind)
        result = await play(ground, setting)
        steps += result.steps
        done += result.done
        if result.violation is not None:
            violations += 1
            say(f"VIOLATION in episode {number} ({setting.kind}), step {result.at}: {result.violation}")
            await _tell(ground, setting, result, arguments)
            if violations >= arguments.stop_after:
                break
        if number % 10 == 0 or arguments.episode is not None:
            rate = steps / (time.monotonic() - began)
            say(f"episode {number}: {steps} steps, {rate:.1f} steps/s, {violations} violations")
        number += 1
        if arguments.episode is not None:
            break
    seconds = time.monotonic() - began
    say(f"seed {arguments.seed}, episodes of {arguments.length}: {steps} steps in {seconds:.0f} s ({steps / seconds:.1f}/s)")
    for what, count in done.most_common():
        say(f"  {count:>8} {what}")
    say(f"{violations} violations")
    return 1 if violations else 0


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


def main() -> int:
    """Run what was asked for; the exit status is 1 when a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000, help="actions and passes in all (default: 20000)")
    parser.add_argument("--seed", default="1", help="where all sequences come from (default: 1)")
    parser.add_argument("--episode", type=int, help="play only this episode of the seed")
    parser.add_argument("--length", type=int, default=200, help="steps of an episode (default: 200)")
    parser.add_argument("--kind", choices=sorted(KINDS), help="only this kind of resource (default: all in turn)")
    parser.add_argument("--stop-after", type=int, default=5, help="violations after which to stop (default: 5)")
    parser.add_argument("--shorten", type=int, default=60, metavar="N", help="replays to shorten a violation (default: 60)")
    parser.add_argument("--log", action="store_true", help="show the operator's own log")
    arguments = parser.parse_args()
    # The servers are ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logging.basicConfig(level=logging.INFO if arguments.log else logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="cmk-operator-soak-") as folder:
        sandbox = environment.start(Path(folder) / "sandbox")
        try:
            install_chart(sandbox.cluster)

            async def run() -> int:
                async with opened(sandbox.cluster, sandbox.azure.env, Path(folder)) as ground:
                    return await _soak(ground, arguments)

            return asyncio.run(run())
        finally:
            sandbox.stop()


if __name__ == "__main__":
    sys.exit(main())
