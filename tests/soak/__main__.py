"""`python -m tests.soak`: a long run of episodes from a seed."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import time
from collections import Counter

from tests.soak.run import Share, play_share, say
from tests.soak.targets import KINDS


def _play_all(arguments: argparse.Namespace) -> list[Share]:
    if arguments.processes == 1 or arguments.episode is not None:
        return [play_share(arguments)]
    shares = [
        argparse.Namespace(**{**vars(arguments), "share": (number, arguments.processes)})
        for number in range(arguments.processes)
    ]
    # Left by SIGTERM or Ctrl-C, the pool ends its processes, and each of them its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        return pool.map(play_share, shares, chunksize=1)


def main() -> int:
    """Run what was asked for; the exit status is 1 when a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000, help="actions and passes in all (default: 20000)")
    parser.add_argument("--seed", default="1", help="where all sequences come from (default: 1)")
    parser.add_argument("--episode", type=int, help="play only this episode of the seed")
    parser.add_argument("--length", type=int, default=200, help="steps of an episode (default: 200)")
    parser.add_argument("--kind", choices=sorted(KINDS), help="only this kind of resource (default: all in turn)")
    parser.add_argument("--stop-after", type=int, default=5, help="violations after which a process stops (default: 5)")
    parser.add_argument("--shorten", type=int, default=60, metavar="N", help="replays to shorten a violation (default: 60)")
    parser.add_argument("--processes", type=int, default=2, help="sandboxes at once, each with its share (default: 2)")
    parser.add_argument("--log", action="store_true", help="show the operator's own log")
    arguments = parser.parse_args()
    arguments.share = (0, 1)
    began = time.monotonic()
    shares = _play_all(arguments)
    seconds, steps = time.monotonic() - began, sum(share.steps for share in shares)
    episodes, violations = sum(share.episodes for share in shares), sum(share.violations for share in shares)
    say(
        f"seed {arguments.seed}: {steps} steps in {episodes} episodes of {arguments.length}, "
        f"{seconds:.0f} s ({steps / seconds:.1f} steps/s)"
    )
    for what, count in sum((share.done for share in shares), Counter()).most_common():
        say(f"  {count:>8} {what}")
    say(f"{violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
