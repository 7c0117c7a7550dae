"""The organizations that this service knows, by id: what the watch has seen, and a read of one where that may be old."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from cmk_keyservice.vaults.accepted import Organization


class Organizations:
    """Organizations by id. An id belongs to the oldest object that names it and has something accepted.

    `read` asks the API server for one object by namespace and name; it returns None if the object is gone, and raises
    `UnreadableOrganizationError` if nobody answers. `changed` is called with each organization whose entry is another one now.
    """

    def __init__(self, read: Callable[[str, str], Awaitable[Organization | None]]) -> None:
        self._read = read
        self._objects: dict[tuple[str, str], Organization] = {}
        self._named: defaultdict[str, dict[tuple[str, str], Organization]] = defaultdict(dict)
        self._owners: dict[str, Organization] = {}
        self._listeners: list[Callable[[Organization], None]] = []
        self.complete = False
        """Whether a first list was read whole."""

    def listen(self, listener: Callable[[Organization], None]) -> None:
        """Call `listener` with each organization whose accepted configuration, or object, is another one than before."""
        self._listeners.append(listener)

    def __len__(self) -> int:
        """The number of organizations."""
        return len(self._owners)

    def __iter__(self) -> Iterator[Organization]:
        """All organizations, as they are now."""
        return iter(list(self._owners.values()))

    def find(self, organization_id: str) -> Organization | None:
        """The organization; None if no object names it."""
        return self._owners.get(organization_id)

    def note(self, organization: Organization) -> None:
        """An object is as this says; what is older than what is known changes nothing."""
        key = (organization.namespace, organization.name)
        known = self._objects.get(key)
        if known is not None and known.uid == organization.uid and known.resource_version >= organization.resource_version:
            return
        if known is not None:
            self._named[known.id].pop(key, None)
        self._objects[key] = organization
        self._named[organization.id][key] = organization
        if known is not None and known.id != organization.id:
            self._choose(known.id)
        self._choose(organization.id)

    def gone(self, namespace: str, name: str, uid: str | None = None) -> None:
        """An object is deleted; `uid` None: whichever had the name."""
        known = self._objects.get((namespace, name))
        if known is not None and uid in {None, known.uid}:
            del self._objects[namespace, name]
            self._named[known.id].pop((namespace, name), None)
            self._choose(known.id)

    def keep(self, listed: set[tuple[str, str]], resource_version: int) -> None:
        """A list was read whole: an object that is not in it, and is not newer, is gone."""
        for key in [
            key for key, one in self._objects.items() if key not in listed and one.resource_version <= resource_version
        ]:
            self.gone(*key)
        self.complete = True

    async def read_again(self, organization: Organization) -> Organization | None:
        """The organization as the API server has it now. Raises `UnreadableOrganizationError` if nobody answers."""
        found = await self._read(organization.namespace, organization.name)
        if found is None:
            self.gone(organization.namespace, organization.name, organization.uid)
        else:
            self.note(found)
        return self.find(organization.id)

    def _choose(self, organization_id: str) -> None:
        named = self._named[organization_id]
        before = self._owners.get(organization_id)
        if not named:
            del self._named[organization_id]
            self._owners.pop(organization_id, None)
            return
        owner = min(named.values(), key=lambda one: (one.accepted is None, one.created, one.uid))
        self._owners[organization_id] = owner
        if before is None or (before.uid, before.accepted, before.earlier) != (owner.uid, owner.accepted, owner.earlier):
            for listener in self._listeners:
                listener(owner)


class UnreadableOrganizationError(Exception):
    """The API server did not say what an organization's object is now."""
