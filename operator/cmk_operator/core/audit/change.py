"""One change of key, access or configuration, before it has its place in the record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import rfc8785

from cmk_operator.core.text.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

OPERATOR: Final = "cmk-operator"
OBSERVED: Final = "Azure or the customer"
"""Who else can change what was found in Azure: its own services, or those who administer the key or the resource."""
UNTOLD: Final = "unknown"
"""Where neither Kubernetes nor Azure tells who it was."""
_LONGEST_TEXT: Final = 1024
_LARGEST_SPEC: Final = 4096


class Event(StrEnum):
    """What happened."""

    RECORD_STARTED = "RecordStarted"
    RECORD_DAMAGED = "RecordDamaged"
    CONFIGURATION_CHANGED = "ConfigurationChanged"
    MANIFEST_DELETED = "ManifestDeleted"
    IDENTITY_REGISTERED = "IdentityRegistered"
    CONSENT_CHANGED = "ConsentChanged"
    KEY_ACCESS_CHANGED = "KeyAccessChanged"
    KEY_VERSION_CHANGED = "KeyVersionChanged"
    KEY_CHANGE_STARTED = "KeyChangeStarted"
    KEY_CHANGED = "KeyChanged"
    KEY_CHANGE_FOUND = "KeyChangeFound"
    COPY_MISSED = "CopyMissed"

    @property
    def aspect(self) -> str:
        """What of the object it is about: of the changes of one aspect, each follows the one before."""
        return "key" if self in {Event.KEY_CHANGED, Event.KEY_CHANGE_FOUND} else self.value

    @property
    def words(self) -> str:
        """The event as a log line says it."""
        return _WORDS[self]


_WORDS: Final[Mapping[Event, str]] = {
    Event.RECORD_STARTED: "the audit record begins",
    Event.RECORD_DAMAGED: "the audit record was found damaged",
    Event.CONFIGURATION_CHANGED: "configuration changed",
    Event.MANIFEST_DELETED: "manifest deleted",
    Event.IDENTITY_REGISTERED: "identity registered",
    Event.CONSENT_CHANGED: "consent changed",
    Event.KEY_ACCESS_CHANGED: "key access changed",
    Event.KEY_VERSION_CHANGED: "key version changed",
    Event.KEY_CHANGE_STARTED: "key change started",
    Event.KEY_CHANGED: "key changed",
    Event.KEY_CHANGE_FOUND: "key change found",
    Event.COPY_MISSED: "entries left the cluster before the audit sink had taken them",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that the change is about; all empty for the record itself."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Who or what changed something from what to what, why, and Azure's id of the request that did or showed it.

    `id` is the same whenever the same change is seen again, so that it is recorded once.
    """

    id: str
    at: str
    """RFC 3339; when the operator did or saw it."""
    event: Event
    subject: Subject
    by: str
    before: str
    after: str
    why: str
    target: str = ""
    request_id: str | None = None
    spec: Mapping[str, Any] | None = None

    def wire(self) -> dict[str, Any]:
        """The change with the names and bounds of the record, and without what is empty; texts hold no token."""
        subject = {
            "kind": self.subject.kind,
            "namespace": self.subject.namespace,
            "name": self.subject.name,
            "uid": self.subject.uid,
        }
        wire: dict[str, Any] = {
            "id": self.id,
            "at": self.at,
            "event": self.event.value,
            "object": {name: value for name, value in subject.items() if value},
            "target": self.target,
            "by": _bounded(self.by),
            "from": _bounded(self.before),
            "to": _bounded(self.after),
            "why": _bounded(self.why),
            "azureRequestId": _bounded(self.request_id or ""),
            "spec": _bounded_spec(self.spec) if self.spec is not None else None,
        }
        return {name: value for name, value in wire.items() if value not in ("", None, {})}


def identity_of(uid: str, what: str, epoch: str, after: str = "") -> str:
    """The id of a change of one aspect of one object to `after`, since the state that began at `epoch`."""
    return sha256(rfc8785.dumps([uid, what, epoch, after])).hexdigest()[:32]


def _bounded(text: str) -> str:
    return redacted(text)[:_LONGEST_TEXT]


def _bounded_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec, or only its digest when it is too large for the record."""
    canonical = rfc8785.dumps(dict(spec))
    return dict(spec) if len(canonical) <= _LARGEST_SPEC else {"sha256": sha256(canonical).hexdigest()}
