"""Which data of a resource the wanted key does not protect, although the resource itself is on that key; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from cmk_operator.core.encryption.protection import MicrosoftManaged, OnAnotherKey, OnKey, Unreadable
from cmk_operator.core.text.names import names_shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cmk_operator.core.encryption.protection import Protection
    from cmk_operator.core.identifiers.key_uri import KeyUri

MICROSOFT_MANAGED: Final = "a Microsoft-managed key"
NAMES_IN_A_LINE: Final = 5


@dataclass(frozen=True, slots=True)
class Part:
    """Data of a resource that another key than that of the resource may protect."""

    name: str
    """Such as `queues` or `encryption scope logs`."""
    key: KeyUri | None = None
    """The key of a vault that protects it; None: see `protected_by`."""
    protected_by: str = ""
    """What protects it instead of a key of a vault; empty if that is not known."""
    remedy: str = ""
    """Who can do what, as a sentence."""

    @property
    def shown(self) -> str:
        """What protects it, for people."""
        return str(self.key) if self.key is not None else self.protected_by

    @staticmethod
    def under(name: str, protection: Protection, remedy: str) -> Part:
        """A part with what the service reports of its protection."""
        key = protection.uri if isinstance(protection, OnKey) else None
        return Part(name, key, "" if key is not None else shown_protection(protection), remedy)


def shown_protection(protection: Protection) -> str:
    """What protects something, for people; empty if that cannot be read."""
    match protection:
        case OnKey(uri):
            return str(uri)
        case MicrosoftManaged():
            return MICROSOFT_MANAGED
        case OnAnotherKey(said):
            return f"another key: {said}"
        case Unreadable():
            return ""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a resource that only reads of their own show, and how many calls these reads took."""

    found: tuple[Part, ...] = ()
    reads: int = 1


@dataclass(frozen=True, slots=True)
class PartsSeen:
    """What is known of the parts of a resource from reads of their own."""

    found: tuple[Part, ...] | None = None
    """None: this process has not read them yet, or not lately."""
    is_old: bool = False
    """Whether they were not read within three of their intervals."""


NOT_READ: Final = PartsSeen()
NO_READS_NEEDED: Final = PartsSeen(())
"""The resource itself shows all of its parts."""


@dataclass(frozen=True, slots=True)
class NotCovered:
    """A part that the key does not protect, or of which Azure does not show that it does."""

    part: str
    covered: Literal["No", "Unknown"]
    protected_by: str = field(default="")
    remedy: str = field(default="")

    def __str__(self) -> str:
        return f"{self.part} ({self.protected_by})" if self.protected_by else self.part


def not_covered(parts: Iterable[Part], wanted: KeyUri) -> tuple[NotCovered, ...]:
    """The parts that a version of the wanted key does not protect; first those that certainly are not covered."""
    found = [
        NotCovered(part.name, "No" if part.shown else "Unknown", part.shown, part.remedy)
        for part in parts
        if part.key is None or part.key.versionless != wanted.versionless
    ]
    return tuple(sorted(found, key=lambda one: (one.covered != "No", one.part)))


def merged(found: Iterable[NotCovered], known: Iterable[NotCovered]) -> tuple[NotCovered, ...]:
    """All of `found`, and those of `known` that are about other parts."""
    entries = {one.part: one for one in known} | {one.part: one for one in found}
    return tuple(sorted(entries.values(), key=lambda one: (one.covered != "No", one.part)))


def named(entries: tuple[NotCovered, ...]) -> str:
    """Some of the parts, and the number of the rest, for a message."""
    return names_shown([str(one) for one in entries], NAMES_IN_A_LINE)
