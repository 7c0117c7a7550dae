"""What all operations of Microsoft.Sql share: finding servers, one operation at a time, and the background work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sandbox.azure.arm.identities import not_found
from sandbox.azure.arm.operations import OperationKind
from sandbox.azure.arm.resources import resource_id
from sandbox.azure.clock import short_fraction
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.sql.refusals import refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from sandbox.azure.arm.assigned_identities import AssignedIdentities
    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.arm.operations import Operations
    from sandbox.azure.clock import Clock
    from sandbox.azure.exchange import Answer
    from sandbox.azure.sql.background import Background
    from sandbox.azure.sql.model import Database, Server, Servers
    from sandbox.azure.sql.tde import TransparentDataEncryption
    from sandbox.azure.timings import Timings

SQL = "Microsoft.Sql/servers"


def _kind(name: str) -> OperationKind:
    return OperationKind("Microsoft.Sql", f"{name}AzureAsyncOperation", f"{name}OperationResults", short_fraction)


SERVER, KEY, PROTECTOR = _kind("server"), _kind("serverKey"), _kind("encryptionProtector")
DATABASE, FAILOVER_GROUP = _kind("database"), _kind("failoverGroup")
OPERATIONS = (SERVER, KEY, PROTECTOR, DATABASE, FAILOVER_GROUP)


ONLY_BAD_REQUESTS = "2021-11-01"
"""From this api-version on, a refusal of a vault or of Entra is a 400; before, it was a 401.

Azure/azure-rest-api-specs: EncryptionProtectors.json and ServerKeys.json of preview/2020-11-01-preview and of stable/2021-11-01.
"""


def as_of_version(call: ArmCall, error: ArmRefusedError) -> ArmRefusedError:
    """The refusal with the status that it has at the request's api-version."""
    late = call.exchange.query.get("api-version", "") >= ONLY_BAD_REQUESTS
    return replace(error, status=400) if late and error.status == 401 else error


@dataclass(frozen=True)
class SqlProvider:
    """Everything that the operations need."""

    gateway: Gateway
    servers: Servers
    identities: AssignedIdentities
    tde: TransparentDataEncryption
    operations: Operations
    background: Background
    clock: Clock
    timings: Timings

    def add(
        self, method: str, template: str, handler: Callable[[ArmCall], Awaitable[Answer]], *, kind: str, action: str | None
    ) -> None:
        """Serve an operation, with the statuses of the request's api-version."""

        async def versioned(call: ArmCall) -> Answer:
            try:
                return await handler(call)
            except ArmRefusedError as error:
                raise as_of_version(call, error) from error

        self.gateway.add(method, template, versioned, kind=kind, action=action)

    def server(self, call: ArmCall) -> Server:
        """The server that a path names. Raises ArmRefusedError 404 ResourceNotFound."""
        found = self.servers.with_id(resource_id(self.gateway, call, SQL))
        if found is None:
            raise not_found(SQL, call["name"], call["group"])
        return found

    def database(self, call: ArmCall) -> Database:
        """The database that a path names. Raises ArmRefusedError 404 ResourceNotFound."""
        server = self.server(call)
        found = server.databases.get(call["database"].lower())
        if found is None:
            raise not_found(f"{SQL}/databases", f"{server.name}/{call['database']}", call["group"])
        return found

    def start(
        self,
        call: ArmCall,
        kind: OperationKind,
        held: Server | Database,
        effect: Callable[[], Awaitable[None]],
        result: Callable[[], dict[str, Any] | None],
    ) -> Answer:
        """202; until it ended, the server or the database takes no other change. Raises ArmRefusedError 409."""
        other = self.operations.under_way(held.id)
        if other is not None and other.kind is kind is PROTECTOR:
            raise refused(
                409,
                "EncryptionProtectorChangeInProgress",
                "Cannot update database encryption key protector while protector change is already in progress.",
            )
        if other is not None:
            what = "Database" if kind is DATABASE else "Server"
            raise refused(
                409,
                f"Conflicting{what}Operation",
                f"An operation is currently in progress for the {what.lower()} '{held.name}'. Please wait for it to complete.",
            )

        async def versioned() -> None:
            try:
                await effect()
            except ArmRefusedError as error:
                raise as_of_version(call, error) from error

        return self.operations.started(
            call,
            kind,
            held.location,
            seconds=self.timings.sql_operation_seconds,
            effect=versioned,
            result=result,
            resource_id=held.id,
        )

    async def judged_now(self, check: Callable[[], Awaitable[object]]) -> None:
        """Whether a key may be used is judged when the request comes, unless the timings leave it to the operation."""
        if self.timings.sql_key_is_judged_by_the_request:
            await check()
