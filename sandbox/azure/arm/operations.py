"""Long-running operations: 202 with Location and Azure-AsyncOperation; what they do happens at their end, and may fail.

https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.azure.clock import seven_digits
from sandbox.azure.endpoints import here
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.clock import Clock
    from sandbox.azure.faults import Faults
    from sandbox.azure.schedule import Schedule


LONGEST_WAIT = 15
"""Seconds in `Retry-After`, whatever an operation takes."""


@dataclass(frozen=True)
class OperationKind:
    """Where one kind of operation of a resource provider is asked about: the segments below `.../locations/{location}/`.

    Providers that use one segment for both tell the result from the status by `monitor=true`.
    """

    namespace: str
    status: str = "operationStatuses"
    result: str = "asyncoperations"
    printed: Callable[[float], str] = seven_digits  # how the provider writes a moment

    def action(self, segment: str) -> str:
        """The right to ask there: a read of its own, which the right to write does not include."""
        return f"{self.namespace}/locations/{segment}/read"


@dataclass
class Operation:
    """One operation; only the tenant that started it may ask. Times are virtual seconds."""

    id: str
    kind: OperationKind
    started: float
    ends: float
    tenant_id: str
    resource_id: str
    result: Callable[[], dict[str, Any] | None]
    failure: ArmRefusedError | None = field(default=None)
    ended: bool = False

    def shown(self, path: str) -> dict[str, Any]:
        """The body at Azure-AsyncOperation."""
        body: dict[str, Any] = {
            "id": path,
            "name": self.id,
            "status": "InProgress",
            "startTime": self.kind.printed(self.started),
        }
        if self.ended:
            body |= {"status": "Failed" if self.failure else "Succeeded", "endTime": self.kind.printed(self.ends)}
        if self.failure is not None:
            body["error"] = {"code": self.failure.code, "message": self.failure.message}
        return body


class Operations:
    """The status and the result of each operation of every resource provider."""

    def __init__(self, gateway: Gateway, schedule: Schedule, faults: Faults, clock: Clock) -> None:
        self._gateway = gateway
        self._schedule = schedule
        self._faults = faults
        self._clock = clock
        self._all: dict[str, Operation] = {}
        self._by_resource: dict[str, Operation] = {}

    def serve(self, kind: OperationKind) -> None:
        """Answer for the operations of this kind, to callers of the tenant that started one who have the right to ask."""
        self._gateway.actions |= {kind.action(segment).lower() for segment in (kind.status, kind.result)}
        place = f"/subscriptions/{{subscription}}/providers/{kind.namespace}/locations/{{location}}"
        add = self._gateway.add
        if kind.status == kind.result:
            add("GET", f"{place}/{kind.status}/{{id}}", self.either, kind=kind.namespace, action=None)
            return
        add("GET", f"{place}/{kind.result}/{{id}}", self.result, kind=kind.namespace, action=None)
        add("GET", f"{place}/{kind.status}/{{id}}", self.status, kind=kind.namespace, action=None)

    def under_way(self, resource_id: str) -> Operation | None:
        """The operation that holds a resource now, so that another may be refused."""
        operation = self._by_resource.get(resource_id.lower())
        return None if operation is None or operation.ended else operation

    def started(
        self,
        call: ArmCall,
        kind: OperationKind,
        location: str,
        *,
        seconds: float,
        result: Callable[[], dict[str, Any] | None],
        effect: Callable[[], Awaitable[None]] | None = None,
        resource_id: str = "",
        failed: Callable[[], None] | None = None,
    ) -> Answer:
        """202 with where to ask. After `seconds` the effect takes place: an ArmRefusedError that it raises is the operation's failure.

        Injected faults `slow_operation` and `failing_operation` that match the request apply; `failed` tells the resource of the second.
        """
        slow, failing = self._faults.take_operation(call.exchange, "slow_operation", "failing_operation")
        now = self._clock.now()
        ends = now + seconds + (slow.seconds if slow else 0)
        operation = Operation(
            str(uuid.uuid4()), kind, now, ends, call.caller.tenant_id, resource_id or call.exchange.path, result
        )
        self._all[operation.id] = operation
        self._by_resource[operation.resource_id.lower()] = operation

        injected = ArmRefusedError(failing.status, failing.code, failing.message) if failing else None

        async def end(_: float) -> None:
            try:
                if injected is None and effect is not None:
                    await effect()
                operation.failure = injected
                if injected is not None and failed is not None:
                    failed()
            except ArmRefusedError as error:
                operation.failure = error
            operation.ended = True

        self._schedule.at(ends, end)
        version = call.exchange.query["api-version"]
        root = f"https://{here().resource_manager}/subscriptions/{call['subscription']}/providers/{kind.namespace}/locations/{location}"
        headers = {
            "Location": f"{root}/{kind.result}/{operation.id}?monitor=true&api-version={version}",
            "Azure-AsyncOperation": f"{root}/{kind.status}/{operation.id}?api-version={version}",
            **self._wait(operation),
        }
        return Answer(202, headers=headers)

    def _wait(self, operation: Operation) -> dict[str, str]:
        """When to ask again, which says nothing of the end: Azure does not know it. Half of what is left, at least one second."""
        remaining = (operation.ends - self._clock.now()) / self._clock.scale
        return {"Retry-After": str(min(max(1, math.floor(remaining / 2)), LONGEST_WAIT) if remaining > 0 else 0)}

    def _found(self, call: ArmCall) -> Operation:
        """The operation, for who may ask: by a role at the location, or at the resource that the operation is about.

        Whether a role on the resource alone is enough is not documented; a role in its resource group is usual.
        """
        operation = self._all.get(call["id"].lower())
        if operation is None or operation.tenant_id != call.caller.tenant_id:
            raise ArmRefusedError(404, "OperationNotFound", f"The operation '{call['id']}' could not be found.")
        segment = call.exchange.path.strip("/").split("/")[-2]
        known = {one.lower(): one for one in (operation.kind.status, operation.kind.result)}
        action = operation.kind.action(known.get(segment.lower(), segment))
        if not self._gateway.authorization.allows(call.caller.object_id, action, operation.resource_id):
            self._gateway.authorize(call.caller, action, call.scope)
        return operation

    async def either(self, call: ArmCall) -> Answer:
        """For providers that have one path for both."""
        monitored = call.exchange.query.get("monitor", "").lower() == "true"
        return await (self.result(call) if monitored else self.status(call))

    async def result(self, call: ArmCall) -> Answer:
        """At Location: 202 until it ended, then the resource, nothing if it is gone (204), or the refusal itself."""
        operation = self._found(call)
        if not operation.ended:
            headers = {"Location": f"https://{here().resource_manager}{call.exchange.raw_target}", **self._wait(operation)}
            return Answer(202, headers=headers)
        if operation.failure is not None:
            raise operation.failure
        body = operation.result()
        return Answer(204) if body is None else Answer(200, body)

    async def status(self, call: ArmCall) -> Answer:
        """At Azure-AsyncOperation: always 200, with a status; a failure is one of these."""
        operation = self._found(call)
        return Answer(json=operation.shown(call.exchange.path), headers={} if operation.ended else self._wait(operation))
