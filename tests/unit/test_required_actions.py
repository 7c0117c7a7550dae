"""Whether the operator's roles allow its writes, as Azure evaluates roles."""

from __future__ import annotations

import pytest

from cmk_operator.core.kinds.kind import Kind
from cmk_operator.core.kinds.required_actions import (
    ASSIGN_IDENTITY,
    Permission,
    RequiredActions,
    RightsNotVisible,
    missing_actions,
)
from cmk_operator.providers.disk.kind import DISK
from cmk_operator.providers.registry import KINDS
from cmk_operator.providers.storage.kind import STORAGE_ACCOUNT
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
    rights = KINDS[resource_type].rights
    assert isinstance(rights, RequiredActions)
    needed = rights.on_resource
    assert missing_actions([ROLES[TYPES[resource_type]]], needed) == ()
    assert missing_actions([ROLES["Reader"]], needed) == needed


def test_every_kind_says_what_a_write_needs_or_why_nobody_can_see_it() -> None:
    visible = {name for name, kind in KINDS.items() if isinstance(kind.rights, RequiredActions)}
    assert visible == set(TYPES)
    assert all(kind.rights.why for kind in KINDS.values() if isinstance(kind.rights, RightsNotVisible))


def test_a_kind_without_a_required_action_cannot_be_described() -> None:
    # Else a preflight would find every action that it needs, because it needs none.
    with pytest.raises(ValueError, match="at least one action"):
        RequiredActions(())  # type: ignore[arg-type]  # the type checker refuses it as well
    with pytest.raises(TypeError, match="rights"):
        Kind(resource_type="microsoft.example/things", shown="Thing", timing=STORAGE_ACCOUNT.timing)  # type: ignore[call-arg]


def test_identities_are_attached_by_managed_identity_operator_alone() -> None:
    assert missing_actions([ROLES["Managed Identity Operator"]], [ASSIGN_IDENTITY]) == ()
    assert missing_actions([ROLES["Storage Account Contributor"]], [ASSIGN_IDENTITY]) == (ASSIGN_IDENTITY,)
    attaching = {
        name for name, kind in KINDS.items() if isinstance(kind.rights, RequiredActions) and kind.rights.attaches_identity
    }
    assert attaching == set(TYPES) - {DISK.resource_type}, "a disk is on a set, which has the identity"


def test_what_one_assignment_takes_away_another_may_give() -> None:
    taken = Permission(("*",), ("Microsoft.Sql/*/write",))
    assert missing_actions([taken], ["Microsoft.Sql/servers/keys/write"]) == ("Microsoft.Sql/servers/keys/write",)
    given = Permission(("microsoft.sql/servers/*",))
    assert missing_actions([taken, given], ["Microsoft.Sql/servers/keys/write"]) == ()


def test_a_pattern_is_no_regular_expression() -> None:
    assert missing_actions([Permission(("Microsoft.Sql/servers/write",))], ["MicrosoftXSql/servers/write"]) != ()
