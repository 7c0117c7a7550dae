"""SQL servers and databases on the customer's key: on the way there, at rotation, at loss and return, and with geo-secondaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes.objects import has

if TYPE_CHECKING:
    from sandbox.administrators.sql import SqlAdministrator
    from tests.environment import Environment

MINUTE, DAY = 60.0, 86_400.0


@dataclass
class SqlWorld:
    """An environment with SQL servers in the tenant's scope."""

    environment: Environment
    sql: SqlAdministrator

    async def server(self, suffix: str = "sql", *, location: str = "westeurope", database: bool = True) -> str:
        """A server with one database on a key of Microsoft; its ARM id."""
        environment = self.environment
        await environment.provider.create_resource_group(environment.group)
        name = f"{environment.name}-{suffix}"
        server = await self.sql.create_server(name, resource_group=environment.group, location=location)
        if database:
            await self.sql.create_database(server, "orders")
        return server

    async def declare(self, server: str, name: str = "sql", **spec: Any) -> None:
        """An EncryptedResource for it."""
        await self.environment.apply_resource(name, resourceId=server, **spec)

    async def foundation(self, **key: Any) -> str:
        """Consent, vault, key and the manifests above; the version of the key."""
        environment = self.environment
        version = await environment.vault_with_key(**key)
        await environment.provider.create_resource_group(environment.group)
        await environment.apply_all()
        return version

    async def until(self, what: str, test: Any, name: str = "sql") -> dict[str, Any]:
        """Wait for the status of a resource."""
        return await self.environment.resource_until(what, test, name)

    async def requests(self, since: int, *methods: str) -> list[str]:
        """What the operator asked of Microsoft.Sql: method and path below the server."""
        found = await self.environment.operator_requests("/providers/Microsoft.Sql/servers/", since, *methods)
        return [f"{one['method']} {one['path'].split('/servers/')[1].split('?')[0]}" for one in found]


@pytest.fixture
async def world(environment: Environment) -> SqlWorld:
    # Operations that end at once, but are asked about all the same.
    await environment.control.set_timings(sql_operation_seconds=0)
    return SqlWorld(environment, environment.provider.sql)


async def test_a_server_gets_identity_key_and_protector_in_this_order(world: SqlWorld) -> None:
    server = await world.server()
    version = await world.foundation()
    since = await world.environment.position()
    await world.declare(server)
    status = await world.until("Ready", has("Ready"))
    name = world.environment.name
    named = f"{world.environment.vault}_cmk_{version}"
    assert await world.requests(since, "PATCH", "PUT", "POST") == [
        f"PATCH {name}-sql",
        f"PUT {name}-sql/keys/{named}",
        f"PUT {name}-sql/encryptionProtector/current",
    ]
    assert status["applied"]["version"] == version
    assert "operation" not in status
    assert status["rotations"][0]["by"] == "cmk-operator"
    protector = await world.sql.protector(server)
    assert (protector["uri"], protector["autoRotationEnabled"]) == (world.environment.key_uri(version), True)
