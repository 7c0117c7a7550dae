"""Records to tamper with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from cmk_operator.core.audit.chain import ORIGIN, Anchor, Entry, Line, follow
from cmk_operator.core.audit.change import Change, Event, Subject, identity_of
from cmk_operator.core.audit.layout import Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TEXTS = st.text(max_size=6)
"""Any text, but for lone surrogates, which JSON in UTF-8 cannot hold."""


def change(number: int = 1, **fields: Any) -> Change:
    """A change of the key that protects a resource."""
    subject = Subject("EncryptedResource", "team", "docs", "uid-1")
    known: dict[str, Any] = {
        "id": identity_of("uid-1", "key", str(number), "to"),
        "at": "2026-11-25T10:00:00Z",
        "event": Event.KEY_CHANGED,
        "subject": subject,
        "by": "cmk-operator",
        "before": "a key of Microsoft",
        "after": f"version {number}",
        "why": "the manifest says so",
        "request_id": f"request-{number}",
    }
    return Change(**(known | fields))


def record(changes: Iterable[Change], anchor: Anchor = ORIGIN) -> list[Entry]:
    """The entries that record changes after `anchor`."""
    entries: list[Entry] = []
    for one in changes:
        entries.append(follow(anchor, one))
        anchor = entries[-1].anchor
    return entries


def lines(entries: Iterable[Entry]) -> list[Line]:
    """As an exported file holds them."""
    return [Line(entry.line, f"line {number}") for number, entry in enumerate(entries, start=1)]


def head_of(entries: Sequence[Entry], base: Anchor = ORIGIN) -> Head:
    """The head of a record."""
    return Head(entries[-1].anchor, base)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Any change."""
    spec = st.none() | st.dictionaries(TEXTS, TEXTS | st.booleans() | st.lists(TEXTS, max_size=2), max_size=2)
    return Change(
        draw(TEXTS),
        "2026-11-25T10:00:00Z",
        draw(st.sampled_from(Event)),
        Subject("CustomerManagedKey", draw(TEXTS), draw(TEXTS), draw(TEXTS)),
        draw(TEXTS),
        draw(TEXTS),
        draw(TEXTS),
        draw(TEXTS),
        draw(TEXTS),
        draw(st.none() | TEXTS),
        draw(spec),
    )


def records(least: int = 1) -> st.SearchStrategy[list[Entry]]:
    """Any record from its beginning: the same few changes may come again."""
    one = st.builds(change, st.integers(0, 3), why=TEXTS)
    return st.lists(one, min_size=least, max_size=6).map(record)
