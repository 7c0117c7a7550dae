"""What the record of an organization holds: one entry for each act on its keys, and one a minute for what was done with data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from cmk_operator.core.text.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cmk_keyservice.store.records import Count

KEY_SERVICE: Final = "cmk-keyservice"
"""The author of what the key service does by itself."""
_LONGEST_TEXT: Final = 1024


class Event(StrEnum):
    """What happened."""

    RECORD_STARTED = "RecordStarted"
    SETTINGS_OBSERVED = "SettingsObserved"
    DATA_KEY_CREATED = "DataKeyCreated"
    DATA_KEY_REWRAPPED = "DataKeyRewrapped"
    KEY_USED = "KeyUsed"
    """The organization's key wrapped or unwrapped something."""
    KEY_REFUSED = "KeyRefused"
    """The organization's key, or the way to it, refused."""
    KEY_REGAINED = "KeyRegained"
    REQUEST_FORBIDDEN = "RequestForbidden"
    DATA_OPERATIONS = "DataOperations"
    DATABASE_RESTORED = "DatabaseRestored"

    @property
    def words(self) -> str:
        """The event in words, for a log line."""
        return _WORDS[self]


_WORDS: Final[Mapping[Event, str]] = {
    Event.RECORD_STARTED: "the record of the organization begins",
    Event.SETTINGS_OBSERVED: "settings observed",
    Event.DATA_KEY_CREATED: "data key created",
    Event.DATA_KEY_REWRAPPED: "data key wrapped by another key version",
    Event.KEY_USED: "the organization's key was used",
    Event.KEY_REFUSED: "the organization's key refused",
    Event.KEY_REGAINED: "the organization's key can be used again",
    Event.REQUEST_FORBIDDEN: "a caller was refused",
    Event.DATA_OPERATIONS: "data operations of one minute",
    Event.DATABASE_RESTORED: "the database was restored from a backup",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One act, before it becomes an entry. The texts name ids, key versions and Azure's codes, never data or keys."""

    event: Event
    by: str
    """A caller's ServiceAccount `namespace/name`, or the key service."""
    why: str
    data_key: str = ""
    before: str = ""
    after: str = ""
    target: str = ""
    """The key version or the request that the act was about."""
    request_id: str = ""
    """Azure's id of the request, by which the organization finds it in its own vault's log."""
    minute: str = ""
    operations: Sequence[Count] = ()
    id: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True, slots=True)
class Dated:
    """A record with its organization and time: all that an entry says."""

    record: Record
    organization: str
    at: str

    def wire(self) -> dict[str, Any]:
        """The fields of the operator's entries, with `organization`, `minute` and `operations` beside them."""
        record = self.record
        operations = [
            {
                "service": one.service,
                "operation": one.operation,
                **({"dataKey": one.data_key} if one.data_key else {}),
                "items": one.items,
                "refused": one.refused,
            }
            for one in record.operations
        ]
        texts = {
            "target": record.target,
            "by": record.by,
            "from": record.before,
            "to": record.after,
            "why": record.why,
            "azureRequestId": record.request_id,
        }
        wire: dict[str, Any] = {
            "id": record.id,
            "at": self.at,
            "event": record.event.value,
            "organization": self.organization,
            "object": {"kind": "DataKey", "name": record.data_key} if record.data_key else {},
            "minute": record.minute,
            "operations": operations,
        } | {name: _bounded(text) for name, text in texts.items()}
        return {name: value for name, value in wire.items() if value not in ("", {}, [])}


def _bounded(text: str) -> str:
    """Redacted, and without the halves of surrogate pairs that an answer's JSON may hold but UTF-8 does not."""
    return redacted(text.encode(errors="replace").decode())[:_LONGEST_TEXT]
