"""Kubernetes events for people: one for each change. The same fact is always in status or in the audit record too.

Source: Kubernetes instrumentation, "Event style guide".
"""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from cmk_operator.api.model import API_VERSION
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.rfc3339 import to_rfc3339_micro
from cmk_operator.kubernetes.client import FIELD_MANAGER, KubernetesClient, KubernetesError
from cmk_operator.kubernetes.status import reference_of

if TYPE_CHECKING:
    from cmk_operator.core.faults.reason import EventReason
    from cmk_operator.kubernetes.inventory import CustomResource

_NOTE_LIMIT: Final = 1000
_LOG: Final = logging.getLogger(__name__)


class EventRecorder:
    """Creates events. Kubernetes deletes events after some time anyway, so a failure is only logged."""

    def __init__(self, client: KubernetesClient, instance: str) -> None:
        self._client = client
        self._instance = instance

    async def record_withdrawal(self, resource: CustomResource, message: str) -> None:
        """Create the event that claims about `resource` were withdrawn, because nobody observed them for too long."""
        await self.record(resource, "Warning", Reason.NOT_SEEN_LATELY, message, "WithdrawClaims")

    async def record(
        self, resource: CustomResource, kind: Literal["Normal", "Warning"], reason: Reason | EventReason, note: str, action: str
    ) -> None:
        """Create one event about `resource`; `note` is cut after 1,000 characters."""
        reference = reference_of(resource)
        namespace = reference.namespace or "default"
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{reference.name[:200]}.{secrets.token_hex(8)}", "namespace": namespace},
            "eventTime": to_rfc3339_micro(datetime.now(UTC)),
            "type": kind,
            "reason": reason.value,
            "action": action,
            "note": note[:_NOTE_LIMIT],
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
        try:
            await self._client.create_event(namespace, event)
        except KubernetesError as error:
            _LOG.warning(
                "an event could not be created", extra={"object": str(reference), "reason": reason.value, "error": str(error)}
            )
