"""One change of key, access or configuration, before it becomes an entry of the audit record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import rfc8785

from cmk_operator.core.faults.reason import EventReason
from cmk_operator.core.text.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

OPERATOR: Final = "cmk-operator"
OBSERVED: Final = "Azure or the customer"
"""The author of an observed change: Azure's services, or whoever administers the key or the resource."""
PROVIDER: Final = "the provider"
"""The author of a change of the Licence: the provider's administrator or billing system."""
UNKNOWN_AUTHOR: Final = "unknown"
"""The author of a change if neither Kubernetes nor Azure names one."""
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
    LICENCE_CHANGED = "LicenceChanged"
    BREAK_GLASS_USED = EventReason.BREAK_GLASS_USED.value
    ADMINISTRATOR_PROMOTED = EventReason.ADMINISTRATOR_PROMOTED.value
    PROMOTION_ENDED = EventReason.PROMOTION_ENDED.value
    KEY_VERSION_CHANGED = "KeyVersionChanged"
    KEY_CHANGE_STARTED = "KeyChangeStarted"
    KEY_CHANGED = "KeyChanged"
    KEY_CHANGE_FOUND = "KeyChangeFound"
    COPY_MISSED = "CopyMissed"

    @property
    def aspect(self) -> str:
        """The aspect of the object that changed; successive changes of one aspect form a sequence."""
        return "key" if self in {Event.KEY_CHANGED, Event.KEY_CHANGE_FOUND} else self.value

    @property
    def words(self) -> str:
        """The event in words, for a log line."""
        return _WORDS[self]


_WORDS: Final[Mapping[Event, str]] = {
    Event.RECORD_STARTED: "the audit record begins",
    Event.RECORD_DAMAGED: "the audit record was found damaged",
    Event.CONFIGURATION_CHANGED: "configuration changed",
    Event.MANIFEST_DELETED: "manifest deleted",
    Event.IDENTITY_REGISTERED: "identity registered",
    Event.CONSENT_CHANGED: "consent changed",
    Event.KEY_ACCESS_CHANGED: "key access changed",
    Event.LICENCE_CHANGED: "licence changed",
    Event.BREAK_GLASS_USED: "a break-glass account was used",
    Event.ADMINISTRATOR_PROMOTED: "support made somebody an administrator",
    Event.PROMOTION_ENDED: "somebody's promotion by support ended",
    Event.KEY_VERSION_CHANGED: "key version changed",
    Event.KEY_CHANGE_STARTED: "key change started",
    Event.KEY_CHANGED: "key changed",
    Event.KEY_CHANGE_FOUND: "key change found",
    Event.COPY_MISSED: "entries were removed from the cluster before the audit sink had accepted them",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that changed; all fields are empty for the record itself."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A change: its author, the states before and after, the reason, and Azure's id of the request that made or showed it.

    `id` is the same each time the same change is observed, so that it is recorded once.
    """

    id: str
    at: str
    """When the operator made or observed the change; RFC 3339."""
    event: Event
    subject: Subject
    by: str
    before: str
    after: str
    why: str
    target: str = ""
    request_id: str | None = None
    spec: Mapping[str, Any] | None = None
    tenant: str = ""
    """The CustomerTenant that the object belongs to, whose share of the record the entry takes; empty for what has none."""

    def wire(self) -> dict[str, Any]:
        """The change as the record stores it: with bounded and redacted texts, and without empty fields."""
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
            "tenant": self.tenant,
            "target": _bounded(self.target),
            "by": _bounded(self.by),
            "from": _bounded(self.before),
            "to": _bounded(self.after),
            "why": _bounded(self.why),
            "azureRequestId": _bounded(self.request_id or ""),
            "spec": _bounded_spec(self.spec) if self.spec is not None else None,
        }
        return {name: value for name, value in wire.items() if value not in ("", None, {})}


def identity_of(uid: str, what: str, epoch: str, after: str = "") -> str:
    """The id of a change of one aspect of an object, from the state that began at `epoch` to `after`."""
    return sha256(rfc8785.dumps([uid, what, epoch, after])).hexdigest()[:32]


def _bounded(text: str) -> str:
    return redacted(text)[:_LONGEST_TEXT]


def _bounded_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with redacted texts, or its digest if it is too large for the record."""
    canonical = rfc8785.dumps(dict(spec))
    if len(canonical) > _LARGEST_SPEC:
        return {"sha256": sha256(canonical).hexdigest()}
    shown: dict[str, Any] = _redacted_node(dict(spec))
    return shown


def _redacted_node(node: Any) -> Any:  # noqa: ANN401 - JSON is what it is
    if isinstance(node, str):
        return redacted(node)
    if isinstance(node, list):
        return [_redacted_node(item) for item in node]
    return {name: _redacted_node(value) for name, value in node.items()} if isinstance(node, dict) else node
