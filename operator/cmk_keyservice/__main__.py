"""`cmk-keyservice`: the composition root of the key service."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command that the arguments name; returns the exit status."""
    sys.stderr.write("cmk-keyservice: no command is built yet\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
