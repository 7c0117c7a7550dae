"""Kubernetes events for people: one for each change, or one for many that are alike.

The same fact is always in status or in the audit record too.

Source: Kubernetes instrumentation, "Event style guide".
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.model import API_VERSION
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.rfc3339 import to_rfc3339_micro
from cmk_operator.kubernetes.client import FIELD_MANAGER, KubernetesClient, KubernetesError
from cmk_operator.kubernetes.status import reference_of

if TYPE_CHECKING:
    from cmk_operator.core.faults.reason import EventReason
    from cmk_operator.kubernetes.inventory import CustomResource, Inventory

_LARGEST_NOTE: Final = 1024
"""Bytes, not characters. Source: events.k8s.io/v1, `note`."""
_LONGEST_INSTANCE: Final = 128
_LONGEST_NAME: Final = 200
ALONE: Final = 5
"""Events of one kind, reason and key in one namespace that are created one by one; those that follow become one event."""
GATHER_FOR: Final = 5.0
"""Seconds within which they count as one occurrence, such as the loss of a key that thousands of resources use."""
_MOST_NAMES: Final = 20
_LOG: Final = logging.getLogger(__name__)

Severity = Literal["Normal", "Warning"]


@dataclass(slots=True)
class _Occurrence:
    """Events that say the same of many objects within `GATHER_FOR` seconds."""

    resource: CustomResource
    kind: Severity
    reason: Reason | EventReason
    note: str
    action: str
    alone: int = 0
    names: list[str] = field(default_factory=list)
    """The objects without an event of their own."""


class EventRecorder:
    """Creates events. Kubernetes deletes events after some time anyway, so a failure is only logged.

    One occurrence may concern thousands of objects: the first few get an event each, and the others one event together, on
    their key if they have one, whose `series` counts them.
    """

    def __init__(self, client: KubernetesClient, instance: str, inventory: Inventory) -> None:
        self._client = client
        self._instance = instance[:_LONGEST_INSTANCE]
        self._inventory = inventory
        self._occurrences: dict[tuple[str, ...], _Occurrence] = {}
        self._creating: set[asyncio.Task[None]] = set()

    async def record_withdrawal(self, resource: CustomResource, message: str) -> None:
        """Create the event that claims about `resource` were withdrawn, because nobody observed them for too long."""
        await self.record(resource, "Warning", Reason.NOT_SEEN_LATELY, message, "WithdrawClaims")

    async def record(
        self, resource: CustomResource, kind: Severity, reason: Reason | EventReason, note: str, action: str
    ) -> None:
        """Create one event about `resource`, or count it for the event that many objects have together."""
        reference = reference_of(resource)
        same = (reference.plural, reference.namespace, _key_name(resource), kind, reason.value, action)
        occurrence = self._occurrences.get(same)
        if occurrence is None:
            occurrence = self._occurrences[same] = _Occurrence(resource, kind, reason, note, action)
            asyncio.get_running_loop().call_later(GATHER_FOR, self._end, same)
        if occurrence.alone >= ALONE:
            occurrence.names.append(reference.name)
            return
        occurrence.alone += 1
        await self._create(resource, kind, reason, note, action)

    def _end(self, same: tuple[str, ...]) -> None:
        """Create the event of those that got none of their own."""
        occurrence = self._occurrences.pop(same)
        if not occurrence.names:
            return
        task = asyncio.ensure_future(self._create_together(occurrence))
        self._creating.add(task)
        task.add_done_callback(self._creating.discard)

    async def _create_together(self, occurrence: _Occurrence) -> None:
        resource, names = occurrence.resource, sorted(occurrence.names)
        about: CustomResource = resource
        if isinstance(resource, EncryptedResource):
            key = self._inventory.get(CustomerManagedKey, resource.spec.key_ref.name, resource.metadata.namespace or "")
            about = key if key is not None else resource
        more = f" and {len(names) - _MOST_NAMES} others" if len(names) > _MOST_NAMES else ""
        few = ", ".join(names[:_MOST_NAMES])
        note = f"{len(names)} more of kind {type(resource).__name__}: {cut_note(occurrence.note, 400)}; {few}{more}"
        await self._create(about, occurrence.kind, occurrence.reason, note, occurrence.action, len(names))

    async def _create(
        self,
        resource: CustomResource,
        kind: Severity,
        reason: Reason | EventReason,
        note: str,
        action: str,
        count: int = 1,
    ) -> None:
        reference = reference_of(resource)
        namespace = reference.namespace or "default"
        at = to_rfc3339_micro(datetime.now(UTC))
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": event_name(reference.name, secrets.token_hex(8)), "namespace": namespace},
            "eventTime": at,
            "type": kind,
            "reason": reason.value,
            "action": action,
            "note": cut_note(note),
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": type(resource).__name__,
                "name": reference.name,
                "namespace": reference.namespace or None,
                "uid": resource.metadata.uid,
            },
            "reportingController": f"cmk-operator.dev/{FIELD_MANAGER}",
            "reportingInstance": self._instance,
        }
        if count > 1:
            event["series"] = {"count": count, "lastObservedTime": at}
        try:
            await self._client.create_event(namespace, event)
        except KubernetesError as error:
            _LOG.warning(
                "an event could not be created", extra={"object": str(reference), "reason": reason.value, "error": str(error)}
            )


def _key_name(resource: CustomResource) -> str:
    return resource.spec.key_ref.name if isinstance(resource, EncryptedResource) else ""


def event_name(name: str, suffix: str) -> str:
    """A legal name for an event about an object: cut, and without a separator in front of the suffix."""
    return f"{name[:_LONGEST_NAME].rstrip('-.')}.{suffix}"


def cut_note(note: str, largest: int = _LARGEST_NOTE) -> str:
    """The note in at most `largest` bytes, cut between two characters."""
    content = note.encode(errors="replace")
    if len(content) <= largest:
        return content.decode()
    return f"{content[: largest - len('…'.encode())].decode(errors='ignore')}…"
