"""The one answer to the question whether a change of key that shows is this operator's own.

The evidence, in order: a request of this process whose status has not landed yet; an operation of this operator, which accounts
only for what leads to where it went; the newest entry of the record, which also holds what a process before this one did.
What none of these accounts for was done by somebody else, and is recorded so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cmk_operator.core.audit.change import OPERATOR, Event
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
    """A change of key that this operator made: to which key (empty: the platform key), and the id of the request that made it."""

    key_uri: str
    request_id: str | None


class Record(Protocol):
    """What is needed of the audit record."""

    def note(self, change: Change) -> None:
        """Record a change, unless it is recorded already."""

    async def latest(self, uid: str, aspect: str) -> Recorded | None:
        """The newest change of one aspect of an object. Raises `KubernetesError` when the record cannot be read."""


class Authorship:
    """Remembers and judges who changed the key of a resource."""

    def __init__(self, record: Record, clock: Callable[[], datetime]) -> None:
        self._record = record
        self._clock = clock
        self._unreported: dict[ObjectReference, OwnChange] = {}
        """Changes of this process whose status has not landed yet."""

    def made(self, resource: EncryptedResource, before: str, after: Protection, request_id: str | None) -> OwnChange:
        """Record a change that this operator made, by law 8, and remember it until its status lands."""
        change = OwnChange(after.active_key_text, request_id)
        self._unreported[reference_of(resource)] = change
        reverts = _is_deleted(resource) and not after.customer_managed
        why = f"the manifest is deleted and reverts to {resource.platform_key}" if reverts else "the manifest says so"
        self._record.note(key_changed(resource, before, change.key_uri, why, request_id, self._clock()))
        return change

    def reported(self, reference: ObjectReference) -> None:
        """Forget what status says by now, or what is gone."""
        self._unreported.pop(reference, None)

    async def of(self, resource: EncryptedResource, seen: Protection, wanted: KeyUri) -> OwnChange | None:
        """This operator's own change, if that is what the key `seen` differs by from the one in status.

        Whoever made a change, it is recorded by then. Raises `KubernetesError` when the record must be asked and cannot be read.
        """
        after = seen.active_key_text
        if after == _reported_uri(resource):
            return None
        own = self._at_hand(resource, seen, wanted)
        if own is not None:
            return own
        recorded = await self._record.latest(resource.metadata.uid, Event.KEY_CHANGED.aspect)
        if recorded is not None and (recorded.by, recorded.after) == (OPERATOR, after or resource.platform_key):
            return OwnChange(after, recorded.request_id)
        self._note_found(resource, after)
        return None

    def note_unreported(self, resource: EncryptedResource, seen: Protection, wanted: KeyUri) -> None:
        """Before another change of this operator hides it: record the change that led to the key `seen`, if status does not say it.

        The record itself is not asked: it recognises a change that it has.
        """
        after = seen.active_key_text
        if after != _reported_uri(resource) and self._at_hand(resource, seen, wanted) is None:
            self._note_found(resource, after)

    def _at_hand(self, resource: EncryptedResource, seen: Protection, wanted: KeyUri) -> OwnChange | None:
        """What this process remembers, else what an operation accounts for, also while it still runs."""
        own = self._unreported.get(reference_of(resource))
        if own is not None and own.key_uri == seen.active_key_text:
            return own
        operation = resource.status.operation
        if operation is None or not _leads_there(resource, seen, wanted):
            return None
        return self.made(resource, _reported_uri(resource), seen, operation.request_id)

    def _note_found(self, resource: EncryptedResource, after: str) -> None:
        self._record.note(key_change_found(resource, after or resource.platform_key, self._clock()))


def _leads_there(resource: EncryptedResource, seen: Protection, wanted: KeyUri) -> bool:
    """Whether an operation of this operator goes to the key `seen`: the wanted key, or the platform key when the manifest reverts."""
    if seen.key_uri is None:
        return _is_deleted(resource)
    return seen.key_uri.versionless == wanted.versionless


def _is_deleted(resource: EncryptedResource) -> bool:
    return resource.metadata.deletion_timestamp is not None


def _reported_uri(resource: EncryptedResource) -> str:
    applied = resource.status.applied
    return applied.key_uri if applied is not None else ""
