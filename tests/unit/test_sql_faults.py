"""Each refusal of Microsoft.Sql names who must act, whatever its HTTP status says."""

from __future__ import annotations

import pytest

from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, FaultKind
from cmk_operator.providers.sql.faults import judge_sql_failure

CUSTOMER, PROVIDER, ENGINEER, AZURE = (
    Actor.CUSTOMER_ADMINISTRATOR,
    Actor.PROVIDER_ADMINISTRATOR,
    Actor.PLATFORM_ENGINEER,
    Actor.AZURE,
)
BLOCKED, BUSY = FaultKind.BLOCKED, FaultKind.BUSY
# Source: Azure SQL REST, Encryption Protectors and Server Keys, error codes.
CODES = {
    (401, "AzureKeyVaultKeyDisabled"): (BLOCKED, CUSTOMER),
    (400, "AzureKeyVaultKeyDisabled"): (BLOCKED, CUSTOMER),
    (401, "AzureKeyVaultMissingPermissions"): (BLOCKED, CUSTOMER),
    (400, "AzureKeyVaultMissingPermissions"): (BLOCKED, CUSTOMER),
    (401, "AzureKeyVaultNoServerIdentity"): (BLOCKED, PROVIDER),
    (400, "AzureKeyVaultNoServerIdentity"): (BLOCKED, PROVIDER),
    (401, "AdalServicePrincipalNotFound"): (BLOCKED, CUSTOMER),
    (400, "AdalServicePrincipalNotFound"): (BLOCKED, CUSTOMER),
    (401, "AdalGenericError"): (BLOCKED, PROVIDER),
    (400, "AdalGenericError"): (BLOCKED, PROVIDER),
    (400, "UmiMissingAkvPermissions"): (BLOCKED, CUSTOMER),
    (400, "AzureKeyVaultInvalidExpirationDate"): (BLOCKED, CUSTOMER),
    (400, "SecurityInvalidAzureKeyVaultRecoveryLevel"): (BLOCKED, CUSTOMER),
    (400, "AzureKeyVaultRsaKeyNotSupported"): (BLOCKED, CUSTOMER),
    (400, "KeyMaterialNotFoundOnRemoteServer"): (BLOCKED, PROVIDER),
    (400, "SameKeyMaterialNotFoundOnRemoteServer"): (BLOCKED, PROVIDER),
    (400, "SameKeyUriNotFoundOnRemoteServer"): (BLOCKED, PROVIDER),
    (400, "SecurityAzureKeyVaultGeoChainError"): (BLOCKED, PROVIDER),
    (400, "SecurityAzureKeyVaultUrlNullOrEmpty"): (BLOCKED, ENGINEER),
    (400, "AzureKeyVaultInvalidUri"): (BLOCKED, ENGINEER),
    (400, "AzureKeyVaultMalformedVaultUri"): (BLOCKED, ENGINEER),
    (400, "SecurityAzureKeyVaultInvalidKeyName"): (BLOCKED, ENGINEER),
    (404, "ServerKeyNotFound"): (BUSY, AZURE),
    (409, "ServerKeyDoesNotExists"): (BUSY, AZURE),
    (409, "ServerKeyNameAlreadyExists"): (BUSY, AZURE),
    (409, "ServerKeyUriAlreadyExists"): (BUSY, AZURE),
    (409, "AzureKeyVaultKeyNameNotFound"): (BLOCKED, CUSTOMER),
    (409, "AzureKeyVaultKeyInUse"): (BLOCKED, PROVIDER),
    (409, "ConflictingServerOperation"): (BUSY, AZURE),
    (409, "EncryptionProtectorChangeInProgress"): (BUSY, AZURE),
    (503, "AzureKeyVaultConnectionFailed"): (BUSY, AZURE),
    (503, "AzureKeyVaultGenericConnectionError"): (BUSY, AZURE),
    (403, "AuthorizationFailed"): (BLOCKED, PROVIDER),
}


@pytest.mark.parametrize(("status", "code"), CODES)
@pytest.mark.parametrize("ended", [False, True])
def test_the_code_says_who_must_act_also_as_the_word_of_an_operation(status: int, code: str, *, ended: bool) -> None:
    fault = judge_sql_failure(AzureFailure(200 if ended else status, code.upper(), "Words of Azure."), "one")
    assert (fault.kind, fault.actor) == CODES[status, code]
    assert fault.reason == code
    assert "Words of Azure" not in fault.message
    assert str(fault.actor) in fault.message or fault.actor is AZURE


def test_a_401_without_such_a_code_is_about_the_operators_own_token() -> None:
    fault = judge_sql_failure(AzureFailure(401, "InvalidAuthenticationToken", ""), "one")
    assert fault.actor is PROVIDER
    assert "role assignments" in fault.message


def test_what_entra_said_to_sql_says_more_than_its_code() -> None:
    message = "encountered an error. AADSTS7000112: Application 'x' is disabled."
    fault = judge_sql_failure(AzureFailure(401, "AdalGenericError", message), "one")
    assert fault.actor is CUSTOMER
    assert "disabled" in fault.message.lower()


def test_the_operators_own_sign_in_is_told_apart() -> None:
    failure = AzureFailure(401, "AzureKeyVaultKeyDisabled", "", stage=Stage.OPERATOR_TOKEN)
    assert judge_sql_failure(failure, "one").actor is not CUSTOMER


@pytest.mark.parametrize("code", ["KeyMaterialNotFoundOnRemoteServer", "SameKeyMaterialNotFoundOnRemoteServer"])
def test_a_key_that_a_geo_secondary_lacks_is_named_with_the_secondary(code: str) -> None:
    key = "https://fabrikam-kv.vault.azure.net/keys/cmk/0123456789abcdef0123456789abcdef"
    said = (
        "The remote server does not have access to an encryption protector key with the same key material as the encryption protector "
        f"key '{key}'. Please add a key with the same key material to the remote server and try again. If required, update policies on "
        "the Key Vault of the remote server 'two' with the following permissions: Get, WrapKey, UnwrapKey."
    )
    fault = judge_sql_failure(AzureFailure(400, code, said), "one")
    assert fault.message.startswith(f"geo-secondary two of one does not have the key {key}, ")
    nameless = judge_sql_failure(AzureFailure(400, code, "No."), "one")
    assert nameless.message.startswith("geo-secondary of one does not have the key, ")
