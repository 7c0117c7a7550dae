"""How role definitions cover actions."""

from __future__ import annotations

import pytest

from sandbox.azure.arm.authorization import at_or_above, covers, role_allows
from sandbox.azure.arm.roles import BY_NAME


@pytest.mark.parametrize(
    ("pattern", "action", "expected"),
    [
        ("*", "Microsoft.Storage/storageAccounts/write", True),
        ("*/read", "Microsoft.Storage/storageAccounts/read", True),
        ("*/read", "Microsoft.Storage/storageAccounts/write", False),
        ("Microsoft.KeyVault/vaults/*", "microsoft.keyvault/VAULTS/keys/wrap/action", True),
        ("Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/keys/read/action", False),
        ("Microsoft.Authorization/*/Delete", "Microsoft.Authorization/locks/delete", True),
        ("A/b/*/assign/action", "A/b/assign/action", True),
        ("A/b/*/assign/action", "A/bc/assign/action", False),
    ],
)
def test_a_pattern_covers_what_azure_says_it_covers(pattern: str, action: str, expected: bool) -> None:  # noqa: FBT001 - a column
    assert covers(pattern, action) is expected


@pytest.mark.parametrize(
    ("role", "action", "data", "expected"),
    [
        ("Owner", "Microsoft.Authorization/roleAssignments/write", False, True),
        ("Owner", "Microsoft.KeyVault/vaults/keys/read", True, False),
        ("Contributor", "Microsoft.Authorization/roleAssignments/write", False, False),
        ("Contributor", "Microsoft.Storage/storageAccounts/write", False, True),
        ("Key Vault Contributor", "Microsoft.KeyVault/locations/deletedVaults/purge/action", False, False),
        ("Key Vault Crypto Service Encryption User", "Microsoft.KeyVault/vaults/keys/unwrap/action", True, True),
        ("Key Vault Crypto Service Encryption User", "Microsoft.KeyVault/vaults/read", False, False),
        ("Key Vault Reader", "Microsoft.Authorization/locks/read", False, True),
        ("Key Vault Reader", "Microsoft.KeyVault/vaults/keys/read", True, True),
        ("Key Vault Reader", "Microsoft.KeyVault/vaults/keys/wrap/action", True, False),
        ("Storage Account Contributor", "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", False, False),
        ("Managed Identity Operator", "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", False, True),
    ],
)
def test_a_built_in_role_allows_what_it_should(role: str, action: str, data: bool, expected: bool) -> None:  # noqa: FBT001 - columns
    assert role_allows(BY_NAME[role.lower()], action, data=data) is expected


def test_scopes_match_by_whole_segments_in_any_case() -> None:
    assert at_or_above("/subscriptions/A/resourceGroups/rg", "/SUBSCRIPTIONS/a/resourcegroups/RG/providers/x/y/z")
    assert not at_or_above("/subscriptions/a/resourceGroups/rg", "/subscriptions/a/resourceGroups/rg2")
    assert not at_or_above("/subscriptions/a/resourceGroups/rg", "/subscriptions/a")
