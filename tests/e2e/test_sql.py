"""SQL servers and databases on the customer's key: on the way there, at rotation, at loss and return, and with geo-secondaries."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.reconcile.resource.part_readings import PACE
from sandbox.kubernetes.objects import condition, has
from tests.e2e.conftest import DRIFT_CHECK_INTERVAL
from tests.e2e.test_audit import entries_of
from tests.monitoring.live import begun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sandbox.administrators.sql import SqlAdministrator
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

MINUTE, DAY = 60.0, 86_400.0


@dataclass
class SqlWorld:
    """An environment with SQL servers in the tenant's scope."""

    environment: Environment
    sql: SqlAdministrator

    async def server(self, suffix: str = "sql", *, location: str = "westeurope", database: bool = True) -> str:
        """A server with one database on a Microsoft-managed key; its ARM id."""
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

    async def until(self, what: str, test: Callable[[dict[str, Any]], object], name: str = "sql") -> dict[str, Any]:
        """Wait for the status of a resource."""
        return await self.environment.resource_until(what, test, name)

    async def ready(self, suffix: str = "sql", **key: Any) -> tuple[str, str]:
        """A server that is Ready on the key; its ARM id and the version."""
        server = await self.server(suffix)
        version = await self.foundation(**key)
        await self.declare(server, suffix)
        await self.until("Ready", has("Ready"), suffix)
        return server, version

    async def new_version(self) -> str:
        """A new version of the key."""
        return (await self.environment.customer.new_version(self.environment.vault, "cmk")).rsplit("/", 1)[-1]

    async def writes(self, since: int) -> list[str]:
        """As `requests`, but only what changes something."""
        return await self.requests(since, "PATCH", "PUT", "POST", "DELETE")

    async def another_application(self) -> str:
        """An application of the provider that the customer consented to and that may use the key; its client id."""
        environment, graph = self.environment, self.environment.provider.graph
        body = {"displayName": f"{environment.name} other", "signInAudience": "AzureADMultipleOrgs"}
        made = await graph.json("POST", "/applications", body)
        trust = {
            "name": "managed-identity",
            "issuer": f"https://login.microsoftonline.com/{environment.provider.tenant_id}/v2.0",
            "subject": environment.identity.managed_identity_principal_id,
            "audiences": ["api://AzureADTokenExchange"],
        }
        await graph.json("POST", f"/applications/{made['id']}/federatedIdentityCredentials", trust)
        await environment.customer.consent(made["appId"])
        await environment.customer.grant(made["appId"], environment.vault)
        return str(made["appId"])

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


async def test_sql_follows_a_new_version_by_itself_and_the_operator_neither_writes_nor_fights(
    world: SqlWorld, operator: Operator
) -> None:
    server, old = await world.ready()
    since = await world.environment.position()
    new = await world.new_version()
    await world.until("behind", has("KeyCurrent", "False", "AzureWillRotate"))
    await world.environment.control.advance(DAY + 60)
    status = await world.until("followed", lambda seen: seen["applied"]["version"] == new)
    assert status["rotations"][0]["by"] == "found in Azure"
    await operator.after_passes(2)
    assert await world.writes(since) == []
    assert f"{world.environment.vault}_cmk_{old}" in await world.sql.keys(server), "backups need the old key"


async def test_a_pinned_server_moves_when_the_manifest_names_another_version_and_keeps_its_old_key(world: SqlWorld) -> None:
    server = await world.server()
    old = await world.foundation()
    await world.environment.apply_key(keyUri=world.environment.key_uri(old))
    await world.declare(server)
    await world.until("Ready", has("Ready"))
    assert (await world.sql.protector(server))["autoRotationEnabled"] is False
    new = await world.new_version()
    await world.environment.apply_key(keyUri=world.environment.key_uri(new))
    await world.until("moved", lambda seen: seen["applied"]["version"] == new and has("Ready")(seen))
    names = [f"{world.environment.vault}_cmk_{version}" for version in (old, new)]
    assert await world.sql.keys(server) == ["ServiceManaged", *names]


async def test_what_others_change_is_put_right_and_the_version_in_force_is_left_alone(world: SqlWorld) -> None:
    server, version = await world.ready()
    await world.new_version()
    since = await world.environment.position()
    protector = f"{server}/encryptionProtector/current"
    pinned = {"serverKeyType": "AzureKeyVault", "serverKeyName": f"{world.environment.vault}_cmk_{version}"}
    await world.sql.put(protector, {"properties": {**pinned, "autoRotationEnabled": False}})

    async def follows() -> bool:
        return bool((await world.sql.protector(server))["autoRotationEnabled"])

    await world.environment.eventually("rotation on", follows)
    assert (await world.sql.protector(server))["uri"] == world.environment.key_uri(version)
    assert await world.writes(since) == [f"PUT {protector.split('/servers/')[1]}"]
    await world.until("settled", lambda seen: "operation" not in seen and has("Ready")(seen))
    await world.sql.set_protector(server, None)

    async def back() -> bool:
        return "uri" in await world.sql.protector(server)

    await world.environment.eventually("back on the key", back)
    status = await world.until("told", lambda seen: len(seen["rotations"]) == 3 and has("Ready")(seen))
    assert [one["by"] for one in status["rotations"]] == ["cmk-operator", "found in Azure", "cmk-operator"]


async def test_what_another_does_while_an_operation_of_the_operator_runs_is_not_told_as_the_operators(world: SqlWorld) -> None:
    # Law 8: the operation was under way when somebody put the server back on a Microsoft-managed key, and the same pass sees both.
    server, version = await world.ready()
    environment, control = world.environment, world.environment.control
    await control.set_timings(sql_operation_seconds=100_000)
    await environment.apply_key(keyUri=environment.key_uri(version))
    await world.until("rotation is being turned off", lambda seen: "operation" in seen)
    await control.set_timings(sql_operation_seconds=0)
    await control.advance(100_001)
    await world.sql.set_protector(server, None)
    now = {"metadata": {"annotations": {RECONCILE_REQUESTED_AT: "now"}}}
    await environment.objects.merge("EncryptedResource", "sql", now, environment.namespace)
    status = await world.until(
        "back on the key", lambda seen: "operation" not in seen and len(seen["rotations"]) > 1 and has("Ready")(seen)
    )
    key = environment.key_uri(version)
    told = [(one["by"], one["to"]) for one in status["rotations"]]
    assert told == [("cmk-operator", key), ("found in Azure", "a Microsoft-managed key"), ("cmk-operator", key)]


async def test_closed_databases_are_named_and_opened_again_when_the_key_is_back_and_never_moved(
    world: SqlWorld, operator: Operator, tmp_path: Path
) -> None:
    server, _ = await world.ready()
    environment, control = world.environment, world.environment.control
    well, since = await operator.scrape(), await environment.position()
    await environment.customer.disable(environment.vault, "cmk")
    await environment.key_until("disabled", has("KeyAccessible", "False", "Disabled"))
    await control.advance(60 * MINUTE)
    status = await world.until("named", lambda seen: seen.get("details", {}).get("inaccessibleDatabases") == ["orders"])
    status = await world.until("waits", has("Ready", "False", "Disabled"))
    assert "customer's administrator" in condition(status, "Ready")["message"]
    assert has("Encrypted")(status)
    closed = await operator.scrape(rf'cmk_key_inaccessible_sql_databases\{{.*"{environment.namespace}"')
    assert "CmkSqlDatabasesInaccessible" in begun(well, closed, tmp_path, namespace=environment.namespace)
    await operator.after_passes(2)
    assert await world.writes(since) == [], "nothing is asked of SQL while the key is away"
    await environment.customer.enable(environment.vault, "cmk")
    await world.until("open", lambda seen: "inaccessibleDatabases" not in seen.get("details", {}) and has("Ready")(seen))
    assert await world.sql.status(server, "orders") == "Online"
    name = server.rsplit("/", 1)[-1]
    assert await world.writes(since) == [f"POST {name}/encryptionProtector/current/revalidate"]


async def test_a_primary_waits_for_its_geo_secondary_which_is_named_and_both_settle(
    world: SqlWorld, operator: Operator
) -> None:
    primary, secondary = await world.server("one"), await world.server("two", location="northeurope", database=False)
    await world.sql.create_failover_group(primary, "group", secondary, [f"{primary}/databases/orders"])
    await world.foundation()
    await world.declare(primary, "one")
    status = await world.until("waits", has("Ready", "False", "GeoSecondaryNotReady"), "one")
    message = condition(status, "Ready")["message"]
    assert f"platform engineer must apply an EncryptedResource for {secondary.rsplit('/', 1)[-1]}" in message
    assert status["details"]["geoSecondaries"] == [secondary.rsplit("/", 1)[-1]]
    assert (await world.sql.protector(primary))["serverKeyType"] == "ServiceManaged"
    await world.declare(secondary, "two")
    await world.until("Ready", has("Ready"), "two")
    await world.until("Ready", has("Ready"), "one")
    uri = (await world.sql.protector(primary))["uri"]
    assert (await world.sql.protector(secondary))["uri"] == uri
    since = await world.environment.position()
    await operator.after_passes(4)
    assert await world.writes(since) == [], "no loop between the two"
    new = await world.new_version()
    await world.environment.apply_key(keyUri=world.environment.key_uri(new))
    for name in ("one", "two"):
        await world.until("moved", lambda seen: seen["applied"]["version"] == new and has("Ready")(seen), name)
    assert "KeyMaterialNotFoundOnRemoteServer" not in operator.log(), "the secondary knew each key first"


async def test_plain_geo_replication_without_a_failover_group_is_seen_and_the_secondary_knows_each_key_first(
    world: SqlWorld, operator: Operator
) -> None:
    primary, secondary = await world.server("one"), await world.server("two", location="northeurope", database=False)
    await world.sql.replicate_database(f"{primary}/databases/orders", secondary, location="northeurope")
    await world.foundation()
    await world.declare(primary, "one")
    status = await world.until("waits", has("Ready", "False", "GeoSecondaryNotReady"), "one")
    assert status["details"]["geoSecondaries"] == [secondary.rsplit("/", 1)[-1]]
    assert secondary.rsplit("/", 1)[-1] in condition(status, "Ready")["message"]
    await world.declare(secondary, "two")
    await world.until("Ready", has("Ready"), "two")
    await world.until("Ready", has("Ready"), "one")
    assert (await world.sql.protector(secondary))["uri"] == (await world.sql.protector(primary))["uri"]
    assert "SameKeyMaterialNotFoundOnRemoteServer" not in operator.log(), "the secondary knew each key first"


async def test_a_key_that_the_secondary_lacks_is_named_with_the_secondary(world: SqlWorld) -> None:
    server, key = await world.server(), world.environment.key_uri("0123456789abcdef0123456789abcdef")
    said = (
        "The remote server does not have access to an encryption protector key with the same key material as the encryption protector "
        f"key '{key}'. Please add a key with the same key material to the remote server and try again. If required, update policies on "
        "the Key Vault of the remote server 'elsewhere' with the following permissions: Get, WrapKey, UnwrapKey."
    )
    fault = await world.environment.control.inject(
        kind="status",
        status=400,
        method="PUT",
        path=f"{server.rsplit('/', 1)[-1]}/encryptionProtector",
        code="SameKeyMaterialNotFoundOnRemoteServer",
        message=said,
    )
    await world.foundation()
    await world.declare(server)
    status = await world.until("refused", has("Ready", "False", "SameKeyMaterialNotFoundOnRemoteServer"))
    assert (
        f"geo-secondary elsewhere of {server.rsplit('/', 1)[-1]} does not have the key {key}, "
        in condition(status, "Ready")["message"]
    )
    await world.environment.control.clear_fault(fault)
    await world.until("Ready", has("Ready"))


async def test_a_geo_secondary_that_cannot_be_read_is_named_and_the_primary_waits(world: SqlWorld) -> None:
    primary, secondary = await world.server("one"), await world.server("two", location="northeurope", database=False)
    await world.sql.create_failover_group(primary, "group", secondary)
    fault = await world.environment.control.inject(
        kind="status", path=f"{secondary.rsplit('/', 1)[-1]}/keys", status=403, code="AuthorizationFailed", message="No."
    )
    await world.foundation()
    await world.declare(primary, "one")
    status = await world.until("waits", has("Ready", "False", "GeoSecondaryUnreachable"), "one")
    message = condition(status, "Ready")["message"]
    assert f"geo-secondary {secondary.rsplit('/', 1)[-1]}" in message
    assert "provider's administrator" in message
    await world.environment.control.clear_fault(fault)
    await world.until("heard", has("Ready", "False", "GeoSecondaryNotReady"), "one")


async def test_a_server_on_another_key_of_the_same_application_moves_directly(world: SqlWorld) -> None:
    server = await world.server()
    await world.foundation()
    environment = world.environment
    other = await environment.customer.create_key(environment.vault, "other")
    await world.sql.set_identity(server, environment.identity)
    await world.sql.set_protector(server, other)
    since = await environment.position()
    await world.declare(server)
    status = await world.until("Ready", has("Ready"))
    assert [one.split("/")[1] for one in await world.writes(since)] == ["keys", "encryptionProtector"]
    assert status["rotations"][0]["from"] == other


async def test_another_application_is_taken_over_a_key_of_microsoft_only_where_the_manifest_says_so(world: SqlWorld) -> None:
    server = await world.server()
    await world.foundation()
    environment = world.environment
    application = await world.another_application()
    other = await environment.customer.create_key(environment.vault, "other")
    identity = environment.identity.managed_identity_resource_id
    await world.sql.patch(
        server,
        {
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}},
            "properties": {"primaryUserAssignedIdentityId": identity, "federatedClientId": application},
        },
    )
    await world.sql.set_protector(server, other)
    since = await environment.position()
    await world.declare(server)
    status = await world.until("waits", has("Ready", "False", "SwitchNeedsServiceManagedKey"))
    message = condition(status, "Ready")["message"]
    assert "platform engineer must allow" in message
    assert application in message
    assert await world.writes(since) == []
    await world.declare(server, sqlServer={"switchThroughServiceManagedKey": True})
    await world.until("Ready", has("Ready"))
    steps = [one.split("/", 1) for one in await world.writes(since)]
    assert [one[1].split("/")[0] if len(one) > 1 else "server" for one in steps] == [
        "encryptionProtector",
        "server",
        "keys",
        "encryptionProtector",
    ]
    assert (await world.sql.get(server))["properties"]["federatedClientId"] == environment.identity.application_client_id


async def test_consent_that_is_withdrawn_in_the_middle_of_an_operation_is_told_and_healed(world: SqlWorld) -> None:
    server = await world.server()
    await world.foundation()
    environment, control = world.environment, world.environment.control
    await control.inject(kind="slow_operation", path="/encryptionProtector/current", method="PUT", seconds=5000, times=1)
    await world.declare(server)
    status = await world.until("under way", lambda seen: seen.get("operation", {}).get("purpose", "").startswith("protect"))
    assert has("Ready", "False", "OperationInProgress")(status)
    await environment.customer.withdraw_consent(environment.identity.application_client_id)
    await control.advance(6000)
    status = await world.until("told", lambda seen: "operation" not in seen and has("Ready", "False", "ConsentMissing")(seen))
    assert "customer's administrator" in condition(status, "Ready")["message"]
    assert (await world.sql.protector(server))["serverKeyType"] == "ServiceManaged"
    await environment.customer.consent(environment.identity.application_client_id)
    await environment.customer.grant(environment.identity.application_client_id, environment.vault)
    await world.until("Ready", has("Ready"))


async def test_an_operation_that_fails_is_told_with_who_must_act_and_tried_again(world: SqlWorld) -> None:
    server = await world.server()
    await world.foundation()
    await world.environment.control.inject(
        kind="failing_operation",
        path="/keys/",
        status=400,
        code="AzureKeyVaultRsaKeyNotSupported",
        message="Too long.",
    )
    await world.declare(server)
    status = await world.until("told", has("Ready", "False", "AzureKeyVaultRsaKeyNotSupported"))
    assert "2048 or 3072 bits only for" in condition(status, "Ready")["message"]
    await world.environment.control.clear_faults()
    await world.until("Ready", has("Ready"))


@pytest.mark.parametrize(("prerequisites", "reason"), [("Enforce", "KeySizeFailed"), ("Warn", "KeySizeNotSupported")])
async def test_a_key_of_4096_bits_is_refused_before_anything_is_written(
    world: SqlWorld, prerequisites: str, reason: str
) -> None:
    server = await world.server(database=False)
    await world.foundation(size=4096)
    await world.environment.apply_key(prerequisites=prerequisites)
    since = await world.environment.position()
    await world.declare(server)

    def told(seen: dict[str, Any]) -> bool:
        # The key hears of its first SQL server a moment later, and tells then what SQL takes.
        return has("Ready", "False", reason)(seen) and "2048 or 3072 bits only" in condition(seen, "Ready")["message"]

    status = await world.until("told", told)
    assert "the customer's administrator must" in condition(status, "Ready")["message"]
    assert await world.writes(since) == []


async def test_a_database_gets_a_key_of_its_own_and_goes_back_where_the_manifest_says_so(world: SqlWorld) -> None:
    server = await world.server(database=False)
    database = await world.sql.create_database(server, "orders")
    version = await world.foundation()
    environment = world.environment
    await world.declare(database, "orders", deletionPolicy="RevertToPlatformKey")
    status = await world.until("Ready", has("Ready"), "orders")
    assert (status["target"]["kind"], status["target"]["name"]) == ("SqlDatabase", f"{server.rsplit('/', 1)[-1]}/orders")
    found = (await world.sql.get(database))["properties"]
    assert (found["encryptionProtector"], found["encryptionProtectorAutoRotation"]) == (environment.key_uri(version), True)
    assert (await world.sql.protector(server))["serverKeyType"] == "ServiceManaged"
    await environment.customer.disable(environment.vault, "cmk")
    await environment.control.advance(60 * MINUTE)
    await world.until("closed", lambda seen: seen.get("details", {}).get("inaccessibleDatabases") == ["orders"], "orders")
    await environment.customer.enable(environment.vault, "cmk")
    await world.until(
        "open", lambda seen: "inaccessibleDatabases" not in seen.get("details", {}) and has("Ready")(seen), "orders"
    )
    await environment.objects.delete("EncryptedResource", "orders", environment.namespace)
    await environment.objects.until_gone("EncryptedResource", "orders", environment.namespace)
    assert "encryptionProtector" not in (await world.sql.get(database))["properties"]


async def test_a_server_goes_back_to_a_key_of_microsoft_where_the_manifest_says_so(world: SqlWorld) -> None:
    server, _ = await world.ready()
    await world.declare(server, deletionPolicy="RevertToPlatformKey")
    environment = world.environment

    async def held() -> bool:
        metadata = (await environment.objects.get("EncryptedResource", "sql", environment.namespace))["metadata"]
        return bool(metadata.get("finalizers"))

    await environment.eventually("a finalizer", held)
    await environment.objects.delete("EncryptedResource", "sql", environment.namespace)
    await environment.objects.until_gone("EncryptedResource", "sql", environment.namespace)
    assert (await world.sql.protector(server))["serverKeyType"] == "ServiceManaged"
    assert len(await world.sql.keys(server)) == 2, "backups need the key"
    record = await entries_of(environment, "EncryptedResource")
    changes = [(entry["by"], entry["to"]) for entry in record if entry["event"] in {"KeyChanged", "KeyChangeFound"}]
    assert changes[-1] == ("cmk-operator", "a Microsoft-managed key"), "the end of an operation is recorded, not only its start"


async def test_observe_shows_every_change_that_is_ahead_and_makes_none(world: SqlWorld) -> None:
    server = await world.server()
    version = await world.foundation()
    since = await world.environment.position()
    await world.declare(server, mode="Observe")
    status = await world.until("planned", lambda seen: version in str(seen.get("plan")))
    summary = "\n".join(status["plan"]["summary"])
    named = f"{world.environment.vault}_cmk_{version}"
    for line in (
        "properties.federatedClientId: (unset)",
        f"keys/{named}: (unset) -> {world.environment.key_uri(version)}",
        f"encryptionProtector.serverKeyName: ServiceManaged -> {named}",
        "encryptionProtector.autoRotationEnabled: false -> true",
    ):
        assert line in summary
    assert await world.writes(since) == []


async def test_a_server_at_rest_costs_two_calls_a_look_and_a_share_of_one_list(world: SqlWorld, operator: Operator) -> None:
    server = await world.server("a")
    others = [await world.server(name, database=False) for name in ("b", "c")]
    await world.foundation()
    for name, one in zip("abc", (server, *others), strict=True):
        await world.declare(one, name)
        await world.until("Ready", has("Ready"), name)
    since, began = await world.environment.position(), asyncio.get_running_loop().time()
    await operator.after_passes(6)
    asked = await world.requests(since)
    each_time = ("/encryptionProtector/current", "/inaccessibleDatabases")
    found = [one for one in asked if one.endswith(each_time)]
    assert all(one.startswith("GET") for one in asked)
    # What is covered and what uses the key is read once in twelve intervals each; only server a has a database to read.
    slowly = (asyncio.get_running_loop().time() - began) / ((PACE - 1) * DRIFT_CHECK_INTERVAL) + 1
    encryption = [one for one in asked if one.endswith("/transparentDataEncryption/current")]
    assert len(encryption) <= slowly
    databases = [one for one in asked if one.endswith("/databases")]
    assert len(databases) <= 2 * 3 * slowly
    assert len(found) > len(asked) / 2
    lists = await world.environment.operator_requests("/providers/Microsoft.Sql/servers?", since)
    assert len(lists) <= len(found) / 2 / 3 + 2
