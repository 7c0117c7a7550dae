"""Reads what a service reports of a resource strictly by JSON's types, so that no malformed answer becomes a statement.

An SDK's model converts: `{}` becomes the text "{}", and "false" becomes True. Its raw fields are read here instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.protection import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_operator.core.encryption.protection import Protection


_IDENTITY_KINDS: Final = frozenset({"none", "systemassigned", "userassigned"})


class ShapeError(ValueError):
    """A field is missing or has another JSON type; the message names it."""


@dataclass(frozen=True, slots=True)
class Reported:
    """One JSON object of an answer, and its path in the answer for messages. Each method raises `ShapeError`."""

    fields: Mapping[str, object]
    path: str = ""

    def inner(self, name: str) -> Reported:
        """An object within this one."""
        found = self.fields.get(name)
        if not isinstance(found, Mapping):
            raise self._wrong(name, found)
        return Reported(found, f"{self.path}{name}.")

    def optional(self, name: str) -> Reported | None:
        """An object within this one; None if it is absent or null."""
        return self.inner(name) if self.fields.get(name) is not None else None

    def text(self, name: str) -> str:
        """A text; empty if it is absent or null."""
        found = self.fields.get(name)
        if not isinstance(found, str | None):
            raise self._wrong(name, found)
        return found or ""

    def required(self, name: str) -> str:
        """A text that is always present."""
        found = self.text(name)
        if not found:
            raise self._wrong(name, None)
        return found

    def flag(self, name: str) -> bool:
        """True or false; false if it is absent or null."""
        found = self.fields.get(name)
        if not isinstance(found, bool | None):
            raise self._wrong(name, found)
        return bool(found)

    def check_identity(self) -> None:
        """Accept the identity block of a resource only if its types and its kind are known; an absent one is none.

        A plan adds the operator's identity to those that the block lists, so that one that cannot be read would drop them.
        Source: Resource Manager, "Common types", ManagedServiceIdentity.
        """
        identity = self.optional("identity")
        if identity is None or dict(identity.fields) == {"type": ""}:
            return
        kinds = frozenset(identity.required("type").replace(" ", "").lower().split(","))
        if not kinds <= _IDENTITY_KINDS:
            raise ShapeError(f"{identity.path}type has a value that is not known")
        assigned = identity.optional("userAssignedIdentities")
        if assigned is not None and not all(one.startswith("/subscriptions/") for one in map(str.lower, assigned.fields)):
            raise ShapeError(f"{assigned.path[:-1]} lists something that is no identity")

    def _wrong(self, name: str, found: object) -> ShapeError:
        return ShapeError(f"{self.path}{name} {'is missing' if found is None else 'has another type'}")


def protection_of(answer: Mapping[str, object], read: Callable[[Reported], Protection]) -> Protection:
    """What `read` makes of an answer; `Unreadable` with the missing field if the answer lacks what it needs."""
    try:
        return read(Reported(answer))
    except ShapeError as error:
        return Unreadable(str(error))
