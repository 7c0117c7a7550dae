"""Data of a resource that is not under its key: named in status, and in the way of Ready only if the manifest asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.administrators.compute import ComputeAdministrator
from sandbox.kubernetes.objects import condition, has
from tests.e2e.test_disks import Disks
from tests.e2e.test_sql import SqlWorld
from tests.monitoring.live import begun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.conftest import Operator
    from tests.environment import Environment

MICROSOFT = "a Microsoft-managed key"
REQUESTED = "cmk-operator.dev/reconcile-requested-at"


def names(*parts: str) -> Callable[[dict[str, Any]], bool]:
    """Whether status lists exactly these parts."""
    return lambda seen: {one["part"] for one in listed(seen)} == set(parts)


def listed(status: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (status.get("details") or {}).get("notCovered", [])
    return found


async def test_queues_tables_and_encryption_scopes_of_an_account_are_named_and_ready_stays(environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.customer.create_key(environment.vault, "other")
    account = await environment.account()
    await environment.apply_all()
    status = await environment.resource_until("queues", names("queues", "tables"))
    assert has("Ready")(status)
    scope = environment.provider.create_encryption_scope
    await scope(account, "plain")
    await scope(account, "own", environment.key_uri())
    await scope(account, "foreign", environment.key_uri(key="other"))
    found = {"queues", "tables", "encryption scope plain", "encryption scope foreign"}
    status = await environment.resource_until("scopes", names(*found))
    assert has("DataCovered", "False", "DataNotCovered")(status)
    assert (has("Ready")(status), has("Encrypted")(status)) == (True, True)
    told = {one["part"]: one for one in listed(status)}
    assert {one["covered"] for one in told.values()} == {"No"}
    assert told["encryption scope foreign"]["protectedBy"] == environment.key_uri(key="other")
    assert told["encryption scope plain"]["protectedBy"] == told["queues"]["protectedBy"] == MICROSOFT
    assert all("must" in one["remedy"] for one in told.values())
    await scope(account, "plain", environment.key_uri())
    await scope(account, "foreign", environment.key_uri())
    await environment.resource_until("moved", names("queues", "tables"))


async def test_a_manifest_that_asks_for_full_coverage_is_ready_only_then(environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.account()
    covered = await environment.account("whole", under_account_key=("queue", "table"))
    await environment.provider.create_encryption_scope(covered, "plain")
    await environment.apply_all()
    for name in ("docs", "whole"):
        await environment.apply_resource(name, requireFullCoverage=True)
    status = await environment.resource_until("not Ready", has("Ready", "False", "DataNotCovered"))
    assert "queues" in condition(status, "Stalled")["message"]
    assert has("Encrypted")(status)
    await environment.resource_until("a scope", has("Ready", "False", "DataNotCovered"), "whole")
    await environment.provider.create_encryption_scope(covered, "plain", environment.key_uri())
    status = await environment.resource_until("Ready", has("Ready"), "whole")
    assert has("DataCovered", "True", "AllDataCovered")(status)
    await environment.apply_resource("docs")
    await environment.resource_until("Ready", has("Ready"))


async def test_what_the_operator_may_not_read_is_unknown_with_the_permission(environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.account(under_account_key=("queue", "table"))
    await environment.control.inject(
        kind="status", host="management.azure.com", path=".*/encryptionScopes.*", status=403, code="AuthorizationFailed"
    )
    await environment.apply_all()
    status = await environment.resource_until("Unknown", has("DataCovered", "Unknown", "CoverageNotShown"))
    (entry,) = listed(status)
    assert (entry["part"], entry["covered"]) == ("encryption scopes", "Unknown")
    assert "Microsoft.Storage/storageAccounts/encryptionScopes/read" in entry["remedy"]
    await environment.control.clear_faults()
    await environment.resource_until("covered", has("DataCovered", "True", "AllDataCovered"))


async def test_databases_with_a_key_of_their_own_or_without_encryption_are_named(environment: Environment) -> None:
    await environment.control.set_timings(sql_operation_seconds=0)
    world = SqlWorld(environment, environment.provider.sql)
    server, _ = await world.ready()
    await world.until("covered", has("DataCovered", "True", "AllDataCovered"))
    other = await environment.customer.create_key(environment.vault, "other")
    identity = environment.identity
    properties = {
        "encryptionProtector": f"{environment.key_uri(key='other')}/{other.rsplit('/', 1)[-1]}",
        "federatedClientId": identity.application_client_id,
    }
    assigned = {"type": "UserAssigned", "userAssignedIdentities": {identity.managed_identity_resource_id: {}}}
    await world.sql.create_database(server, "own", identity=assigned, properties=properties)
    plain = await world.sql.create_database(server, "plain")
    await world.sql.set_encryption(plain, on=False)
    status = await world.until("named", names("database own", "database plain"))
    told = {one["part"]: one for one in listed(status)}
    assert told["database own"]["protectedBy"] == properties["encryptionProtector"]
    assert told["database plain"]["protectedBy"] == "no key: transparent data encryption is off"
    assert (has("Ready")(status), has("DataCovered", "False", "DataNotCovered")(status)) == (True, True)


async def test_a_geo_secondary_that_does_not_rotate_by_itself_is_told_at_once_and_when_it_holds_a_rotation_back(
    environment: Environment, operator: Operator, tmp_path: Path
) -> None:
    await environment.control.set_timings(sql_operation_seconds=0)
    world = SqlWorld(environment, environment.provider.sql)
    primary, version = await world.ready()
    well = await operator.scrape()
    secondary = await world.server("geo", location="northeurope", database=False)
    await world.sql.set_identity(secondary, environment.identity)
    await world.sql.set_protector(secondary, environment.key_uri(version))
    await world.sql.create_failover_group(primary, "group", secondary, [f"{primary}/databases/orders"])
    patch = {"metadata": {"annotations": {REQUESTED: "now"}}}
    await environment.objects.merge("EncryptedResource", "sql", patch, environment.namespace)
    status = await world.until(
        "told", lambda seen: "autoRotationEnabled" in ((seen.get("details") or {}).get("rotationError") or "")
    )
    (replica,) = status["details"]["geoReplicas"]
    assert replica == {
        "server": f"{environment.name}-geo",
        "role": "Secondary",
        "protectedBy": environment.key_uri(),
        "autoRotation": False,
    }
    assert has("Ready")(status)
    newer = await world.new_version()
    await environment.key_until("newer", lambda seen: seen["activeVersion"] == newer)
    status = await world.until("held back", has("KeyCurrent", "False", "RotationHeldBack"))
    assert f"{environment.name}-geo" in condition(status, "KeyCurrent")["message"]
    held_back = await operator.scrape(rf'cmk_key_resources_with_rotation_error\{{.*"{environment.namespace}"')
    assert "CmkRotationFailing" in begun(well, held_back, tmp_path, namespace=environment.namespace)


async def test_a_confidential_set_is_rotated_by_the_operator_once_its_machines_are_deallocated(
    environment: Environment,
) -> None:
    await environment.control.set_timings(compute_operation_seconds=0)
    first = await environment.vault_with_key()
    await environment.provider.create_resource_group(environment.group)
    await environment.apply_all()
    disks = Disks(environment, ComputeAdministrator(environment.provider, environment.group))
    creation = {"location": "westeurope", "encryptionType": "ConfidentialVmEncryptedWithCustomerKey"}
    await disks.apply_set(diskEncryptionSet=creation)
    await disks.until("Ready", has("Ready"))
    assert (await disks.compute.disk(disks.set_id))["properties"]["rotationToLatestKeyVersionEnabled"] is False
    disk = await disks.compute.create_confidential_disk("os", disks.set_id)
    machine = await disks.compute.create_machine("vm", system=disk)
    status = await disks.until("named", names("disk os"))
    assert status["details"]["encryptedDisks"] == ["os"]
    assert has("DataCovered", "Unknown", "CoverageNotShown")(status)
    await disks.apply_disk("os")
    placed = await disks.until("Ready", has("Ready"), "os")
    assert placed["applied"]["version"] == first
    second = (await environment.customer.new_version(environment.vault, "cmk")).rsplit("/", 1)[-1]
    status = await disks.until("held", has("Ready", "False", "ConfidentialMachinesRunning"))
    assert "must deallocate vm" in condition(status, "Stalled")["message"]
    assert has("Encrypted")(status)
    await disks.compute.deallocate(machine)
    status = await disks.until("moved", lambda seen: seen["applied"]["version"] == second)
    assert status["rotations"][0]["by"] == "cmk-operator"
    await disks.until("Ready", has("Ready"))
