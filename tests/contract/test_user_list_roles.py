"""A custom role with exactly the documented actions shows everything that uses a key, and each action is needed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.contract.test_roles import Role
from tests.contract.test_roles import ours as ours  # noqa: PLC0414 - the fixture of that module
from tests.contract.test_user_lists import account_on, everything, server_on

if TYPE_CHECKING:
    from cmk_operator.core.rotation.azure_use import FoundUse
    from tests.contract.world import World

SERVERS = "Microsoft.Sql/servers"
ACTIONS = (
    "Microsoft.Storage/storageAccounts/read",
    "Microsoft.Storage/storageAccounts/encryptionScopes/read",
    "Microsoft.Compute/diskEncryptionSets/read",
    f"{SERVERS}/read",
    f"{SERVERS}/databases/read",
    f"{SERVERS}/keys/read",
    f"{SERVERS}/encryptionProtector/read",
    f"{SERVERS}/failoverGroups/read",
    f"{SERVERS}/replicationLinks/read",
    f"{SERVERS}/restorableDroppedDatabases/read",
    f"{SERVERS}/databases/backupShortTermRetentionPolicies/read",
    f"{SERVERS}/databases/backupLongTermRetentionPolicies/read",
)


def is_whole(found: FoundUse) -> bool:
    return not found.unlisted and bool(found.backups) and all(one.retention is not None for one in found.backups)


def test_the_actions_are_documented() -> None:
    page = " ".join((ROOT / "docs" / "installation.md").read_text(encoding="utf-8").split())
    for action in ACTIONS:
        shown = action.removeprefix(SERVERS) if action.startswith(f"{SERVERS}/") and action != f"{SERVERS}/read" else action
        assert f"`{shown.replace('Microsoft.Storage/storageAccounts/enc', '/enc')}`" in page, action


async def test_these_actions_show_everything_and_each_of_them_is_needed(world: World, ours: World) -> None:
    await world.control.set_timings(sql_operation_seconds=0)
    old = await world.key()
    await account_on(world, old, pinned=True)
    server = await server_on(world, old)
    await world.provider_admin.sql.create_database(server, "orders")
    await world.provider_admin.sql.set_protector(server, None)
    role = Role(ours, str(uuid.uuid4()))
    await role.allow(*ACTIONS)
    await role.assign(ours.identity.managed_identity_principal_id)
    assert is_whole(await everything(ours))
    for action in ACTIONS:
        await role.allow(*(one for one in ACTIONS if one != action))
        if is_whole(await everything(ours)):
            pytest.fail(f"{action} is not needed")
