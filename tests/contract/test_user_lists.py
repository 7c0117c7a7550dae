"""What Azure's lists show on a key: of every kind, of children and geo-secondaries, and what is kept for backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.rotation.azure_use import FoundUse
from cmk_operator.providers.registry import FOLDERS, make_user_lists
from cmk_operator.providers.user_lists import Details, read_list

if TYPE_CHECKING:
    from tests.contract.world import World

ARM = "management.azure.com"
NEVER = datetime.max.replace(tzinfo=UTC)
"""Nothing that was read before is young enough."""
STORAGE = "2026-09-01"
COMPUTE = "2026-03-02"


def now() -> datetime:
    return datetime.now(UTC)


async def everything(world: World, subscription: str | None = None) -> FoundUse:
    """What all lists of the subscription show on the keys of the world's own vault, and all that cannot be listed."""
    chosen = subscription or world.provider_admin.subscription_id
    lists = make_user_lists(world.session)
    found = FoundUse.of_all(
        [await read_list(one, world.chain, chosen, frozenset({chosen}), Details(now, NEVER, NEVER)) for one in lists]
    )
    host = f"{world.vault}.vault.azure.net"
    return FoundUse(
        tuple(one for one in found.users if one.key.vault_host == host),
        tuple(one for one in found.backups if one.key.vault_host == host),
        found.unlisted,
    )


def shown(found: FoundUse) -> set[tuple[str, str]]:
    return {(one.id.key, one.version) for one in found.users}


def key_uri(world: World, version: str) -> str:
    return f"https://{world.vault}.vault.azure.net/keys/cmk/{version}"


async def account_on(world: World, version: str, *, pinned: bool) -> str:
    admin, mine = world.provider_admin, world.identity.managed_identity_resource_id
    account = await admin.create_storage_account(f"{world.name}a"[:24])
    body = {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {mine: {}}},
        "properties": {
            "encryption": {
                "keySource": "Microsoft.Keyvault",
                "keyvaultproperties": {
                    "keyvaulturi": f"https://{world.vault}.vault.azure.net/",
                    "keyname": "cmk",
                    "keyversion": version if pinned else "",
                },
                "identity": {
                    "userAssignedIdentity": mine,
                    "federatedIdentityClientId": world.identity.application_client_id,
                },
            }
        },
    }
    await admin.patch(account, STORAGE, body)
    return account


async def set_on(world: World, version: str) -> str:
    admin, mine = world.provider_admin, world.identity.managed_identity_resource_id
    encryption_set = admin.compute.id_of("diskEncryptionSets", f"{world.name}-des", None)
    body = {
        "location": "westeurope",
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {mine: {}}},
        "properties": {
            "encryptionType": "EncryptionAtRestWithCustomerKey",
            "activeKey": {"keyUrl": key_uri(world, version)},
            "federatedClientId": world.identity.application_client_id,
        },
    }
    await admin.put(encryption_set, COMPUTE, body)
    return encryption_set


async def server_on(world: World, version: str | None, suffix: str = "sql", *, location: str = "westeurope") -> str:
    sql = world.provider_admin.sql
    server = await sql.create_server(f"{world.name}-{suffix}", location=location)
    await sql.set_identity(server, world.identity)
    if version is not None:
        await sql.set_protector(server, key_uri(world, version))
    return server


@pytest.fixture(autouse=True)
async def no_waiting(world: World) -> None:
    await world.control.set_timings(sql_operation_seconds=0, compute_operation_seconds=0)


def test_each_folder_of_kinds_says_what_it_lists() -> None:
    """A new kind whose users nobody lists would make versions look unused."""
    assert len(FOLDERS) == 4, "the lists of the new folder must be tried below"


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "following"])
async def test_an_account_counts_at_the_version_in_force(world: World, *, pinned: bool) -> None:
    version = await world.key()
    account = await account_on(world, version, pinned=pinned)
    found = await everything(world)
    assert shown(found) == {(account.lower(), version)}
    assert found.unlisted == ()


async def test_an_encryption_scope_counts_by_itself(world: World) -> None:
    old = await world.key()
    account = await account_on(world, await world.newer(), pinned=False)
    scope = f"{account}/encryptionScopes/payroll"
    properties = {"source": "Microsoft.KeyVault", "keyVaultProperties": {"keyUri": key_uri(world, old)}}
    await world.provider_admin.put(scope, STORAGE, {"properties": properties})
    found = await everything(world)
    assert (scope.lower(), old) in shown(found)
    assert len(found.users) == 2
    await world.control.inject(kind="status", status=403, code="AuthorizationFailed", host=ARM, path="/encryptionScopes")
    unlisted = (await everything(world)).unlisted
    assert any(f"the encryption scopes of {account.rsplit('/', 1)[-1]}" in one.message for one in unlisted)


async def test_what_is_read_one_by_one_goes_on_in_the_next_pass(world: World) -> None:
    await account_on(world, await world.key(), pinned=True)
    chosen, accounts = world.provider_admin.subscription_id, make_user_lists(world.session)[0]

    async def read(details: Details) -> FoundUse:
        return await read_list(accounts, world.chain, chosen, frozenset({chosen}), details)

    began = now()
    none_left = await read(Details(now, began, began, _left=0))
    assert [one.reason for one in none_left.unlisted] == [Reason.NOT_LISTED_YET]
    await world.control.inject(kind="status", status=503, host=ARM, path="/encryptionScopes")
    silent = await read(Details(now, began, began))
    assert len(silent.unlisted) == 1, "one fault for all, and no account is tried after it"
    await world.control.clear_faults()
    first = Details(now, began, began)
    assert (await read(first)).unlisted == ()
    await world.control.inject(kind="status", status=503, host=ARM, path="/encryptionScopes")
    again = Details(now, began, began, first.read)
    assert (await read(again)).unlisted == (), "what was just read is not read again"
    assert again.oldest == first.oldest
    assert again.complete
    idle = Details(now, NEVER, NEVER, wanted=False)
    assert (await read(idle)).unlisted == (), "nothing waits, so nothing is read one by one"
    assert not idle.complete


async def test_a_disk_encryption_set_counts_for_its_disks_and_snapshots(world: World) -> None:
    version = await world.key()
    encryption_set = await set_on(world, version)
    assert shown(await everything(world)) == {(encryption_set.lower(), version)}


async def test_a_server_and_a_database_with_a_key_of_its_own_count_each(world: World) -> None:
    old, sql = await world.key(), world.provider_admin.sql
    new = await world.newer()
    server = await server_on(world, new)
    mine = world.identity.managed_identity_resource_id
    database = await sql.create_database(
        server,
        "own",
        identity={"type": "UserAssigned", "userAssignedIdentities": {mine: {}}},
        properties={
            "encryptionProtector": key_uri(world, old),
            "federatedClientId": world.identity.application_client_id,
        },
    )
    await sql.create_database(server, "plain")
    assert shown(await everything(world)) == {(server.lower(), new), (database.lower(), old)}


async def test_a_geo_secondary_in_another_subscription_is_read_by_itself(world: World) -> None:
    old, admin = await world.key(), world.provider_admin
    elsewhere = await admin.in_another_subscription(f"{world.name}-geo", world.identity.managed_identity_principal_id)
    await elsewhere.create_resource_group(admin.resource_group)
    new = await world.newer()
    primary = await server_on(world, new)
    secondary = await elsewhere.sql.create_server(f"{world.name}-geo", location="northeurope")
    await elsewhere.sql.set_identity(secondary, world.identity)
    await elsewhere.sql.set_protector(secondary, key_uri(world, old))
    await elsewhere.sql.add_key(secondary, key_uri(world, new))
    database = await admin.sql.create_database(primary, "orders")
    await admin.sql.replicate_database(database, secondary, location="northeurope")
    found = await everything(world)
    assert shown(found) == {(primary.lower(), new), (secondary.lower(), old)}
    assert found.unlisted == ()


async def test_a_server_keeps_what_it_left_for_as_long_as_its_databases_keep_backups(world: World) -> None:
    old, sql = await world.key(), world.provider_admin.sql
    server = await server_on(world, old)
    database = await sql.create_database(server, "orders")
    await sql.create_database(server, "small")
    await sql.keep_backups(database, 21)
    assert (await everything(world)).backups == ()
    await sql.set_protector(server, None)
    found = await everything(world)
    assert found.users == ()
    assert [(one.id.key, one.version, one.retention) for one in found.backups] == [(server.lower(), old, timedelta(days=21))]
    await sql.keep_backups(database, 21, weeklyRetention="P12W", yearlyRetention="P2Y", weekOfYear=1)
    assert (await everything(world)).backups[0].retention == timedelta(days=2 * 366)
    await sql.keep_backups(database, 2, weeklyRetention="PT0S", yearlyRetention="PT0S")
    assert (await everything(world)).backups[0].retention == timedelta(days=7), "the longest of all databases"
    await sql.delete(database)
    assert (await everything(world)).backups[0].retention == timedelta(days=35), "a deleted database does not show its own"


async def test_a_retention_that_may_not_be_read_is_unknown_with_who_must_act(world: World) -> None:
    old, sql = await world.key(), world.provider_admin.sql
    server = await server_on(world, old)
    await sql.create_database(server, "orders")
    await sql.set_protector(server, key_uri(world, await world.newer()))
    await world.control.inject(
        kind="status", status=403, code="AuthorizationFailed", host=ARM, path="backupLongTermRetentionPolicies"
    )
    found = await everything(world)
    assert [one.retention for one in found.backups] == [None]
    assert "the provider's administrator must assign it a role there, such as Reader" in found.backups[0].why_unknown
    assert found.unlisted == (), "who uses the key is known all the same"


REFUSED = {"kind": "status", "status": 403, "code": "AuthorizationFailed", "host": ARM}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (r"/providers/Microsoft.Storage/storageAccounts\?", "the storage accounts of subscription"),
        (r"/providers/Microsoft.Compute/diskEncryptionSets\?", "the disk encryption sets of subscription"),
        (r"/providers/Microsoft.Sql/servers\?", "the SQL servers of subscription"),
        (r"/servers/[^/]+/databases\?", "the databases of SQL server"),
        (r"/encryptionProtector/current", "the keys of SQL server"),
        (r"/servers/[^/]+/keys\?", "the keys of SQL server"),
        (r"/failoverGroups\?", "the geo-secondaries of SQL server"),
        (r"/replicationLinks\?", "the geo-secondaries of SQL server"),
    ],
)
async def test_what_is_refused_is_named_with_who_must_act(world: World, path: str, named: str) -> None:
    await server_on(world, await world.key())
    await world.control.inject(**REFUSED, path=path)
    unlisted = (await everything(world)).unlisted
    assert unlisted
    assert all(one.reason is Reason.AUTHORIZATION_FAILED for one in unlisted)
    assert any(named in one.message for one in unlisted)
    assert all("the provider's administrator must assign it a role" in one.message for one in unlisted)


ODD: list[Any] = [
    None,
    7,
    [],
    {},
    {"id": None, "properties": {}},
    {"id": "/subscriptions/x", "properties": None},
    {
        "id": "/subscriptions/s/resourceGroups/g/providers/P/t/n",
        "properties": {"encryption": {}, "activeKey": 5},
        "identity": 4,
    },
    {
        "id": "/subscriptions/s/resourceGroups/g/providers/P/t/n",
        "properties": {
            "encryption": {"keySource": "Microsoft.Keyvault", "keyvaultproperties": {"keyvaulturi": "ftp://?"}},
            "activeKey": {"keyUrl": "not a key"},
        },
    },
]


@pytest.mark.parametrize("entry", ODD, ids=lambda one: repr(one)[:30])
@pytest.mark.parametrize("path", ["storageAccounts", "diskEncryptionSets", "servers"])
async def test_an_entry_that_cannot_be_read_is_not_left_out(world: World, path: str, entry: object) -> None:
    await world.control.inject(kind="status", status=200, host=ARM, path=f"/{path}\\?", body={"value": [entry]})
    assert [one.reason for one in (await everything(world)).unlisted] == [Reason.UNREADABLE]


@pytest.mark.parametrize("body", [{}, {"value": None}, {"value": 5}, {"value": [], "nextLink": 7}], ids=repr)
async def test_a_page_that_is_none_makes_the_users_unknown(world: World, body: dict[str, Any]) -> None:
    await world.control.inject(kind="status", status=200, host=ARM, path=r"/storageAccounts\?", body=body)
    assert [one.reason for one in (await everything(world)).unlisted] == [Reason.UNREADABLE]


async def test_a_subscription_that_never_used_a_service_has_none_of_its_resources(world: World) -> None:
    await world.control.inject(
        kind="status", status=409, code="MissingSubscriptionRegistration", host=ARM, path=r"/Microsoft.Sql/servers\?"
    )
    assert (await everything(world)).unlisted == ()


async def test_a_key_of_a_managed_hsm_is_no_key_of_a_vault(world: World) -> None:
    entry = {
        "id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/diskEncryptionSets/n",
        "properties": {"activeKey": {"keyUrl": f"https://some.managedhsm.azure.net/keys/k/{'1' * 32}"}},
    }
    await world.control.inject(kind="status", status=200, host=ARM, path="/diskEncryptionSets\\?", body={"value": [entry]})
    found = await everything(world)
    assert found.users == ()
    assert found.unlisted == ()
