"""Decides whether this operator made an observed change of key.

The evidence, in order: a request of this process whose status is not written yet; an operation of this operator, or a request
whose answer could not be read, if its target is the observed key; the newest entry of the audit record, which also covers
earlier processes. A change that none of these explains was made by somebody else, and is recorded as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cmk_operator.core.audit.change import OPERATOR, Event
from cmk_operator.core.encryption.protection import MicrosoftManaged, OnAnotherKey, OnKey, Unreadable, text_in_force
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.reconcile.audit import key_change_found, key_changed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.audit.journal import Recorded
    from cmk_operator.core.audit.change import Change
    from cmk_operator.core.encryption.protection import Protection
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.kubernetes.client import ObjectReference


@dataclass(frozen=True, slots=True)
class OwnChange:
    """A change of key that this operator made: the new key (empty: the platform key), and Azure's id of the request."""

    key_uri: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request with Azure's id of it."""

    request_id: str | None


class Record(Protocol):
    """The part of the audit record that authorship needs."""

    def note(self, change: Change) -> None:
        """Record a change unless it is already recorded."""

    async def latest(self, uid: str, aspect: str) -> Recorded | None:
        """The newest change of one aspect of an object. Raises `KubernetesError` if the record cannot be read."""


class Authorship:
    """Remembers this operator's own changes, and decides who changed the key of a resource."""

    def __init__(self, record: Record, clock: Callable[[], datetime]) -> None:
        self._record = record
        self._clock = clock
        self._unreported: dict[ObjectReference, OwnChange] = {}
        """Changes of this process whose status is not written yet."""
        self._sent: dict[ObjectReference, _Sent] = {}
        """Requests that Azure carried out with an answer that does not show their result."""

    def made(self, resource: EncryptedResource, before: str, after: Protection, request_id: str | None) -> OwnChange:
        """Record a change that this operator made (law 8), and remember it until its status is written."""
        change = OwnChange(text_in_force(after) or "", request_id)
        self._unreported[reference_of(resource)] = change
        reverts = _is_deleted(resource) and isinstance(after, MicrosoftManaged)
        why = f"the manifest is deleted and reverts to {resource.platform_key}" if reverts else "the manifest says so"
        self._record.note(key_changed(resource, before, change.key_uri, why, request_id, self._clock()))
        return change

    def sent(self, resource: EncryptedResource, request_id: str | None) -> None:
        """Note a request that Azure carried out, but whose answer does not show its result: the next read does."""
        self._sent[reference_of(resource)] = _Sent(request_id)

    def gone(self, reference: ObjectReference) -> None:
        """Forget an object that is gone."""
        self._unreported.pop(reference, None)
        self._sent.pop(reference, None)

    def reported(self, reference: ObjectReference) -> None:
        """Forget the change of an object whose status is written."""
        self._unreported.pop(reference, None)

    async def of(self, resource: EncryptedResource, seen: Protection, wanted: KeyUri) -> OwnChange | None:
        """This operator's own change, if it explains why the key in `seen` differs from the key in status.

        Also records a change that somebody else made. Raises `KubernetesError` if the record is needed and cannot be read.
        """
        after = text_in_force(seen)
        if after is None or after == _reported_uri(resource):
            return None
        own = self._known_change(resource, seen, wanted)
        self._sent.pop(reference_of(resource), None)
        if own is not None:
            return own
        recorded = await self._record.latest(resource.metadata.uid, Event.KEY_CHANGED.aspect)
        if recorded is not None and (recorded.by, recorded.after) == (OPERATOR, after or resource.platform_key):
            return OwnChange(after, recorded.request_id)
        self._note_found(resource, after)
        return None

    def note_unreported(self, resource: EncryptedResource, seen: Protection, wanted: KeyUri) -> None:
        """Record the change that led to the key in `seen`, unless status shows it; called before the next change overwrites it.

        This does not read the record: the record ignores a change that it already holds.
        """
        after = text_in_force(seen)
        if after is not None and after != _reported_uri(resource) and self._known_change(resource, seen, wanted) is None:
            self._note_found(resource, after)

    def _known_change(self, resource: EncryptedResource, seen: Protection, wanted: KeyUri) -> OwnChange | None:
        """The change that this process remembers, or else one that an operation explains, even if it still runs."""
        own = self._unreported.get(reference_of(resource))
        if own is not None and own.key_uri == text_in_force(seen):
            return own
        if not _explains(resource, seen, wanted):
            return None
        request = resource.status.operation or self._sent.get(reference_of(resource))
        return self.made(resource, _reported_uri(resource), seen, request.request_id) if request is not None else None

    def _note_found(self, resource: EncryptedResource, after: str) -> None:
        self._record.note(key_change_found(resource, after or resource.platform_key, self._clock()))


def _explains(resource: EncryptedResource, seen: Protection, wanted: KeyUri) -> bool:
    """Whether this operator's operation leads to the key in `seen`: the wanted key, or on deletion the platform key."""
    match seen:
        case MicrosoftManaged():
            return _is_deleted(resource)
        case OnKey(uri):
            return uri.versionless == wanted.versionless
        case OnAnotherKey() | Unreadable():
            return False


def _is_deleted(resource: EncryptedResource) -> bool:
    return resource.metadata.deletion_timestamp is not None


def _reported_uri(resource: EncryptedResource) -> str:
    applied = resource.status.applied
    return applied.key_uri if applied is not None else ""
