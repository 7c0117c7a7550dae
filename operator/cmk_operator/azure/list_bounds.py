"""Bounds one list, page by page: pages, objects, time, and links that lead back to a page that was read."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cmk_operator.answer_gate import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_LIST: Final = 1000
"""Most pages of one list, because the links of a faulty list may never end."""
LARGEST_LIST: Final = 100_000
"""Most objects of one list, because all of them are held. Azure allows 50,000 disks in a region of a subscription."""
LONGEST_LIST_TIME: Final = 300.0
"""Most seconds from the first page to the last: others wait for the list."""


@dataclass(slots=True)
class ListBounds:
    """The bounds of one list that is being read."""

    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _pages: int = 0
    _objects: int = 0
    _links: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Start the time."""
        self._began = self.clock()

    def page(self, objects: int, link: str | None) -> None:
        """Count one page and note its link to the next. Raises `UnreadableError` for a list that exceeds a bound."""
        self._pages += 1
        self._objects += objects
        if self._objects > LARGEST_LIST:
            raise UnreadableError(f"the list has more than {LARGEST_LIST} objects")
        if not link:
            return
        if link in self._links:
            raise UnreadableError("a page of the list links to a page that was read before")
        self._links.add(link)
        if self._pages >= LONGEST_LIST:
            raise UnreadableError(f"the list has more than {LONGEST_LIST} pages")
        if self.clock() - self._began > LONGEST_LIST_TIME:
            raise UnreadableError(f"the list takes longer than {LONGEST_LIST_TIME:.0f} s")
