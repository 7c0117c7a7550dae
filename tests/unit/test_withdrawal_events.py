"""A claim that the status writer withdraws behind a reconcile's back is reported as an event, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cmk_operator.api.conditions import Condition
from cmk_operator.api.federated_identity import FederatedIdentity, FederatedIdentityStatus
from cmk_operator.kubernetes.client import KubernetesClient, ObjectReference
from cmk_operator.kubernetes.inventory import CustomResource, Inventory
from cmk_operator.kubernetes.observations import Observations
from cmk_operator.kubernetes.status import StatusWriter
from cmk_operator.telemetry import Telemetry
from tests.unit import samples

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
LIMIT = 30.0


class Server(KubernetesClient):
    """Takes every status, as an API server does to which nobody else writes."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    async def apply_status(self, *arguments: Any, **_: Any) -> dict[str, Any]:
        version = str(int(self.body["metadata"]["resourceVersion"]) + 1)
        self.body = self.body | {"metadata": self.body["metadata"] | {"resourceVersion": version}, "status": arguments[3]}
        return self.body


def authenticated(since: datetime) -> FederatedIdentityStatus:
    kinds = ("Ready", "Authenticated")
    about = {"status": "True", "reason": "Ready", "message": "m", "observedGeneration": 1, "lastTransitionTime": since}
    claims = [Condition.model_validate({"type": kind, **about}) for kind in kinds]
    return FederatedIdentityStatus(observed_generation=1, conditions=tuple(claims))


@pytest.mark.parametrize(("age", "events"), [(LIMIT + 1, 1), (LIMIT - 1, 0)])
async def test_what_the_writer_withdraws_is_an_event_and_what_it_keeps_is_none(age: float, events: int) -> None:
    metadata = {"name": "main", "uid": "u", "resourceVersion": "1", "generation": 1}
    before = authenticated(NOW - timedelta(days=1))
    status = before.model_dump(mode="json", by_alias=True, exclude_none=True)
    written = {"metadata": metadata, "spec": samples.identity_body()["spec"], "status": status}
    inventory, server, told = Inventory(), Server(written), list[str]()
    inventory.put(FederatedIdentity.plural, written)
    clock = [0.0]
    observations = Observations(inventory, {FederatedIdentity.plural: LIMIT}, lambda: NOW, lambda: clock[0])

    async def changed(_: ObjectReference, __: int) -> None:
        return

    async def recorded(_: str) -> None:
        return

    async def withdrawn(_: CustomResource, message: str) -> None:
        told.append(message)

    observations.of(ObjectReference(FederatedIdentity.plural, "", "main"))
    writer = StatusWriter(server, inventory, Telemetry(), changed, recorded, observations, withdrawn=withdrawn)
    clock[0] = age
    for _ in range(2):
        # A reconcile that has seen nothing repeats what the status says.
        held = inventory.get(FederatedIdentity, "main")
        assert held is not None
        await writer.write(held, before, None)
    assert len(told) == events
    assert all("not seen" in message for message in told)
