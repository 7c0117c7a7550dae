"""Entry point of `kubectl-cmk`, which kubectl finds on the PATH and runs as `kubectl cmk`."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; without its libraries, say how to get them: the operator's image has no use for them."""
    if find_spec("click") is None or find_spec("rich") is None:
        hint = "pip install kubectl_cmk-VERSION-py3-none-any.whl brings them (make dist builds it)"
        sys.stderr.write(f"Error: kubectl cmk needs click and rich, which are not installed: {hint}\n")
        sys.exit(1)
    # Only once its libraries are known to be there.
    from cmk_operator.cli import completion  # noqa: PLC0415
    from cmk_operator.cli.commands import cmk  # noqa: PLC0415

    # Azure's names and this program's own marks are not in every locale's alphabet, nor in that of a Windows console.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    if sys.argv[1:2] == [completion.COMMAND]:
        completion.answer(sys.argv[2:])
    else:
        cmk(prog_name="kubectl cmk")


if __name__ == "__main__":
    main()
