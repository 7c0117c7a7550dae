"""Formats comments so that untrusted text in them cannot end the comment."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from cmk_operator.core.handover.request import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 110


def comment(text: str, indent: str = "", sign: str = "#") -> Iterator[str]:
    """The lines of a comment; `indent` applies from the second line on."""
    for row in textwrap.wrap(printable(text), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False):
        yield f"{sign} {row}"
