"""The resource provider Microsoft.Sql, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.azure.sql.background import Background
from sandbox.azure.sql.backups import BackupOperations
from sandbox.azure.sql.database_encryption import DatabaseEncryptionOperations
from sandbox.azure.sql.databases import DatabaseOperations
from sandbox.azure.sql.failover_groups import FailoverGroupOperations
from sandbox.azure.sql.keys import ProtectorOperations, ServerKeyOperations
from sandbox.azure.sql.provider import OPERATIONS, SqlProvider
from sandbox.azure.sql.servers import ServerOperations
from sandbox.azure.sql.tde import TransparentDataEncryption

if TYPE_CHECKING:
    from sandbox.azure.arm.assigned_identities import AssignedIdentities
    from sandbox.azure.arm.gateway import Gateway
    from sandbox.azure.arm.operations import Operations
    from sandbox.azure.clock import Clock
    from sandbox.azure.key_vault.service_access import ServiceAccess
    from sandbox.azure.schedule import Schedule
    from sandbox.azure.sql.model import Servers
    from sandbox.azure.timings import Timings


def serve_sql(
    *,
    gateway: Gateway,
    servers: Servers,
    identities: AssignedIdentities,
    access: ServiceAccess,
    operations: Operations,
    schedule: Schedule,
    clock: Clock,
    timings: Timings,
) -> None:
    """Register every operation."""
    tde = TransparentDataEncryption(access, servers, clock, timings)
    background = Background(servers, tde, schedule, clock, timings)
    for kind in OPERATIONS:
        operations.serve(kind)
    provider = SqlProvider(gateway, servers, identities, tde, operations, background, clock, timings)
    for one in (
        ServerOperations,
        ServerKeyOperations,
        ProtectorOperations,
        DatabaseOperations,
        FailoverGroupOperations,
        DatabaseEncryptionOperations,
        BackupOperations,
    ):
        one(provider)
