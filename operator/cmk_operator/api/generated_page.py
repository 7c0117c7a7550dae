"""What every generated page of the documents shares: text in its tables, and the command that writes or checks it."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def text_in_a_cell(text: str) -> str:
    """Text in a cell of a table: on one line, and nothing in it is markup."""
    return re.sub(
        r"`[^`]*`|[\\|<>*_\[\]]", lambda found: found[0] if found[0][0] == "`" else f"\\{found[0]}", " ".join(text.split())
    )


def write_or_check(program: str, page: Path, rendered: Callable[[Path], str], source: str) -> int:
    """Write a page, or with --check say whether it differs; returns the exit status, 1 if it does.

    `page` is its path below the root of the repository; `rendered` gets the path of the page as it is; `source` is what it is made of.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description="Write the page, or with --check say whether it differs; exit status 1 when it does.",
    )
    parser.add_argument("--check", action="store_true", help=f"write nothing; fail when the page differs from {source}")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the repository (default: the current folder)")
    arguments = parser.parse_args()
    path = arguments.root / page
    wanted = rendered(path)
    if path.exists() and path.read_text(encoding="utf-8") == wanted:
        return 0
    if arguments.check:
        sys.stderr.write(f"{page} differs from {source}; run `make docs-tables`\n")
        return 1
    path.write_text(wanted, encoding="utf-8")
    return 0
