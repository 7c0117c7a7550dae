"""Entry point of `kubectl-cmk`, which kubectl finds on the PATH and runs as `kubectl cmk`."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; without its libraries, say how to get them: the operator's image has no use for them."""
    if find_spec("click") is None or find_spec("rich") is None:
        sys.stderr.write("Error: kubectl cmk needs its own libraries: pip install 'cmk-operator[cli]'\n")
        sys.exit(1)
    from cmk_operator.cli.commands import cmk  # noqa: PLC0415 - only once its libraries are known to be there

    # Azure's names and this program's own marks are not in every locale's alphabet, nor in that of a Windows console.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    cmk(prog_name="kubectl cmk")


if __name__ == "__main__":
    main()
