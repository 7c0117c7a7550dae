"""A key that a resource is to leave is named where it stands in the way, and never blamed for what is about the new one."""

from __future__ import annotations

import pytest

from cmk_operator.core.access.state import AccessState
from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.encryption.old_key import KeyOwner, blame_old_key
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.sql.faults import judge_sql_failure
from tests.unit.samples import V1, V2, VAULT

OLD = KeyUri("old-kv.vault.azure.net", "former", V2)
NEW = KeyUri(VAULT, "storage")
LOST = AzureFailure(400, "KeyVaultEncryptionKeyNotFound", "The key vault key is not found to unwrap the encryption key.")


def blamed(failure: AzureFailure = LOST, old: KeyUri | None = OLD, owner: KeyOwner | None = None) -> Fault:
    return blame_old_key(judge_arm_failure(failure, "data"), failure, "data", old=old, new=NEW, owner=owner)


@pytest.mark.parametrize("state", [AccessState.DISABLED, AccessState.CONSENT_MISSING, AccessState.ENTRA_REFUSED])
def test_a_lost_old_key_is_named_with_its_vault_and_its_owner(state: AccessState) -> None:
    fault = blamed(owner=KeyOwner("fabrikam", state))
    assert (fault.reason, fault.actor) == (Reason.OLD_KEY_NOT_ACCESSIBLE, Actor.CUSTOMER_ADMINISTRATOR)
    assert f"{OLD} in vault old-kv.vault.azure.net" in fault.message
    assert "the customer's administrator of CustomerTenant fabrikam must make it accessible again" in fault.message
    assert VAULT not in fault.message


def test_an_old_key_that_no_manifest_names_is_named_and_what_else_it_may_be() -> None:
    fault = blamed()
    assert (fault.reason, fault.actor) == (Reason.OLD_KEY_NOT_ACCESSIBLE, Actor.PROVIDER_ADMINISTRATOR)
    assert str(OLD) in fault.message
    assert "if that key is accessible, it is about the new one: " in fault.message


def test_an_old_key_that_is_well_is_not_blamed() -> None:
    assert blamed(owner=KeyOwner("fabrikam", AccessState.ACCESSIBLE)) == judge_arm_failure(LOST, "data")


@pytest.mark.parametrize("old", [None, NEW.at(V1), KeyUri("", "")])
def test_without_another_key_nothing_changes(old: KeyUri | None) -> None:
    assert blamed(old=old) == judge_arm_failure(LOST, "data")


def test_a_reason_that_is_about_no_key_stays() -> None:
    locked = AzureFailure(409, "ScopeLocked", "It is locked.")
    assert blamed(locked).reason is Reason.SCOPE_LOCKED


@pytest.mark.parametrize(("named", "reason"), [(OLD, "OldKeyNotAccessible"), (NEW, "AzureKeyVaultKeyDisabled")])
@pytest.mark.parametrize("owner", [None, KeyOwner("fabrikam", AccessState.ACCESSIBLE)])
def test_where_azure_names_the_key_that_one_is_meant(named: KeyUri, reason: str, owner: KeyOwner | None) -> None:
    failure = AzureFailure(401, "AzureKeyVaultKeyDisabled", f"The Azure Key Vault key '{named}' is disabled.")
    fault = blame_old_key(judge_sql_failure(failure, "one"), failure, "one", old=OLD, new=NEW, owner=owner)
    assert fault.reason == reason
