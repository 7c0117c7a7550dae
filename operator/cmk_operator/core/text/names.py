"""Names in a message: a few of them, and the number of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_NAMES: Final = 10


def names_shown(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """The first `most` names, and the number of the rest."""
    few = ", ".join(names[:most])
    return few if len(names) <= most else f"{few} and {len(names) - most} more"
