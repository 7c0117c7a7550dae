"""Text from outside, inside a comment: it stays a comment, whatever it contains."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from cmk_operator.core.handover.request import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 110


def comment(text: str, indent: str = "", sign: str = "#") -> Iterator[str]:
    """Lines of a comment, the second and later ones indented."""
    for row in textwrap.wrap(printable(text), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False):
        yield f"{sign} {row}"
