"""Whether the operator's roles allow its writes, as Azure evaluates roles."""

from __future__ import annotations

import pytest

from cmk_operator.core.encryption.required_actions import (
    ASSIGN_IDENTITY,
    Permission,
    actions_to_write,
    attaches_identity,
    missing_actions,
)
from cmk_operator.core.encryption.service_timing import timing_of
from sandbox.azure.arm.roles import BUILT_IN

ROLES = {role.name: Permission(role.actions, role.not_actions) for role in BUILT_IN}
TYPES = {
    "microsoft.storage/storageaccounts": "Storage Account Contributor",
    "microsoft.sql/servers": "SQL Server Contributor",
    "microsoft.sql/servers/databases": "SQL Server Contributor",
    "microsoft.compute/diskencryptionsets": "Disk Encryption Set Operator for Managed Disks",
    "microsoft.compute/disks": "Virtual Machine Contributor",
}


@pytest.mark.parametrize("resource_type", sorted(TYPES))
def test_the_role_of_the_installation_guide_allows_the_writes_and_reader_none(resource_type: str) -> None:
    needed = actions_to_write(resource_type)
    assert needed
    assert missing_actions([ROLES[TYPES[resource_type]]], needed) == ()
    assert missing_actions([ROLES["Reader"]], needed) == needed
    assert timing_of(resource_type).service


def test_identities_are_attached_by_managed_identity_operator_alone() -> None:
    assert missing_actions([ROLES["Managed Identity Operator"]], [ASSIGN_IDENTITY]) == ()
    assert missing_actions([ROLES["Storage Account Contributor"]], [ASSIGN_IDENTITY]) == (ASSIGN_IDENTITY,)
    assert not attaches_identity("microsoft.compute/disks"), "a disk is on a set, which has the identity"
    assert not attaches_identity("snowflake")


def test_what_one_assignment_takes_away_another_may_give() -> None:
    taken = Permission(("*",), ("Microsoft.Sql/*/write",))
    assert missing_actions([taken], ["Microsoft.Sql/servers/keys/write"]) == ("Microsoft.Sql/servers/keys/write",)
    given = Permission(("microsoft.sql/servers/*",))
    assert missing_actions([taken, given], ["Microsoft.Sql/servers/keys/write"]) == ()


def test_a_pattern_is_no_regular_expression() -> None:
    assert missing_actions([Permission(("Microsoft.Sql/servers/write",))], ["MicrosoftXSql/servers/write"]) != ()
