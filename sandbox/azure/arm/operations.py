"""Long-running operations: 202 with Location and Azure-AsyncOperation, then the result once virtual time has come."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.azure.clock import seven_digits
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.clock import Clock


@dataclass(frozen=True)
class Operation:
    """One operation under way; only the principal that started it may ask."""

    id: str
    started: float
    ends: float
    result: Callable[[], dict[str, Any]]
    tenant_id: str


class Operations:
    """The status and the result of each operation."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self._clock = clock
        self._all: dict[str, Operation] = {}
        path = "/subscriptions/{subscription}/providers/{namespace}/locations/{location}"
        kind = "Microsoft.Storage/storageAccounts"
        gateway.add("GET", f"{path}/asyncoperations/{{id}}", self.result, kind=kind, action=None)
        gateway.add("GET", f"{path}/operationStatuses/{{id}}", self.status, kind=kind, action=None)

    def started(
        self, call: ArmCall, namespace: str, location: str, ends: float, result: Callable[[], dict[str, Any]]
    ) -> Answer:
        """202 with where to ask."""
        operation = Operation(str(uuid.uuid4()), self._clock.now(), ends, result, call.caller.tenant_id)
        self._all[operation.id] = operation
        version = call.exchange.query["api-version"]
        root = f"https://management.azure.com/subscriptions/{call['subscription']}/providers/{namespace}/locations/{location}"
        headers = {
            "Location": f"{root}/asyncoperations/{operation.id}?monitor=true&api-version={version}",
            "Azure-AsyncOperation": f"{root}/operationStatuses/{operation.id}?api-version={version}",
            **self._wait(operation),
        }
        return Answer(202, headers=headers)

    def _wait(self, operation: Operation) -> dict[str, str]:
        remaining = (operation.ends - self._clock.now()) / self._clock.scale
        return {"Retry-After": str(max(1, math.ceil(remaining)))}

    def _found(self, call: ArmCall) -> Operation:
        operation = self._all.get(call["id"].lower())
        if operation is None or operation.tenant_id != call.caller.tenant_id:
            raise ArmRefusedError(404, "OperationNotFound", f"The operation '{call['id']}' could not be found.")
        return operation

    async def result(self, call: ArmCall) -> Answer:
        """At Location: 202 until it ended, then the resource."""
        operation = self._found(call)
        if operation.ends > self._clock.now():
            headers = {"Location": f"https://management.azure.com{call.exchange.raw_target}", **self._wait(operation)}
            return Answer(202, headers=headers)
        return Answer(200, operation.result())

    async def status(self, call: ArmCall) -> Answer:
        """At Azure-AsyncOperation: always 200, with a status."""
        operation = self._found(call)
        ended = operation.ends <= self._clock.now()
        body = {"id": call.exchange.path, "name": operation.id, "startTime": seven_digits(operation.started)}
        if ended:
            return Answer(json={**body, "status": "Succeeded", "endTime": seven_digits(operation.ends)})
        return Answer(json={**body, "status": "InProgress"}, headers=self._wait(operation))
