"""Names in a message: a few of them, and the number of the rest."""

from __future__ import annotations

from typing import Final

_MOST: Final = 10


def names_shown(names: tuple[str, ...]) -> str:
    """At most ten names, and the number of the rest."""
    few = ", ".join(names[:_MOST])
    return few if len(names) <= _MOST else f"{few} and {len(names) - _MOST} more"
