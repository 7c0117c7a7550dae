"""Resource Manager's refusals: who must act, and that none of them is final."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, FaultKind, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.foreign_text import shown_sentence
from tests.unit.samples import entra, transient_failures

BLOCKED, BUSY = FaultKind.BLOCKED, FaultKind.BUSY
CUSTOMER, PROVIDER, AZURE = Actor.CUSTOMER_ADMINISTRATOR, Actor.PROVIDER_ADMINISTRATOR, Actor.AZURE


@pytest.mark.parametrize(
    ("status", "code", "kind", "actor", "words"),
    [
        (403, "AuthorizationFailed", BLOCKED, PROVIDER, "the provider's administrator must assign it a role"),
        (403, "LinkedAuthorizationFailed", BLOCKED, PROVIDER, "Managed Identity Operator"),
        (404, "ResourceNotFound", BLOCKED, PROVIDER, "data does not exist"),
        (404, "ResourceGroupNotFound", BLOCKED, PROVIDER, "the resource group of data does not exist"),
        (404, "SubscriptionNotFound", BLOCKED, PROVIDER, "not visible to the operator's managed identity"),
        (409, "ScopeLocked", BLOCKED, PROVIDER, "a ReadOnly lock forbids"),
        (403, "RequestDisallowedByPolicy", BLOCKED, PROVIDER, "an Azure Policy forbids"),
        (400, "KeyVaultPolicyError", BLOCKED, CUSTOMER, "soft delete or purge protection"),
        (400, "KeyVaultAuthenticationFailure", BLOCKED, CUSTOMER, "Key Vault Crypto Service Encryption User"),
        (403, "KeyVaultEncryptionKeyNotFound", BLOCKED, CUSTOMER, "must enable or restore it"),
        (403, "KeyVaultAccessTokenCannotBeAcquired", BLOCKED, PROVIDER, "federated credential"),
        (403, "KeyVaultVaultNotFound", BLOCKED, CUSTOMER, "must recover it, then grant again"),
        (400, "KeyVaultAccessForbidden", BLOCKED, CUSTOMER, "the key has not expired"),
        (400, "KeyVaultKeyNotEnabled", BLOCKED, CUSTOMER, "must enable it"),
        (400, "KeyVaultKeyNotFound", BLOCKED, CUSTOMER, "must recover the key"),
        (400, "KeyVaultNotFound", BLOCKED, CUSTOMER, "must recover it, then grant again"),
        (400, "KeyVaultNotPurgeProtectionEnabled", BLOCKED, CUSTOMER, "must enable both"),
        (400, "KeyVaultAndDiskInDifferentRegions", BLOCKED, Actor.PLATFORM_ENGINEER, "of the same region"),
        (400, "ManagedServiceIdentityNotFound", BLOCKED, PROVIDER, "must restore it"),
        (409, "OperationNotAllowed", BLOCKED, PROVIDER, "must deallocate the virtual machine"),
        (409, "PropertyChangeNotAllowed", BLOCKED, PROVIDER, "must make a new resource"),
        (409, "StorageAccountOperationInProgress", BUSY, AZURE, "another operation"),
        (409, "Conflict", BUSY, AZURE, "another operation"),
        (429, "TooManyRequests", BUSY, AZURE, "throttles"),
        (429, "SubscriptionRequestsThrottled", BUSY, AZURE, "throttles"),
        (409, "OperationNotAllowedOnResource", BUSY, AZURE, "another operation"),
        (500, "InternalServerError", BUSY, AZURE, "no usable answer"),
        (503, "ServerBusy", BUSY, AZURE, "no usable answer"),
        (429, "Unheard", BUSY, AZURE, "no usable answer"),
        (None, "Timeout", BUSY, AZURE, "no usable answer"),
        (403, "Unheard", BLOCKED, PROVIDER, "must check the role assignments"),
        (401, "InvalidAuthenticationToken", BLOCKED, PROVIDER, "must check the role assignments"),
        (400, "Unheard", BLOCKED, PROVIDER, "must check the resource"),
        (400, "", BLOCKED, PROVIDER, "must check the resource"),
    ],
)
def test_each_code_says_who_must_act(status: int | None, code: str, kind: FaultKind, actor: Actor, words: str) -> None:
    fault = judge_arm_failure(AzureFailure(status, code, "text of Azure"), "data")
    assert (fault.kind, fault.actor) == (kind, actor)
    assert words in fault.message
    shouted = judge_arm_failure(AzureFailure(status, code.upper(), "text of Azure"), "data")
    assert (shouted.kind, shouted.actor) == (kind, actor)


MEANINGS = {
    "Disk data has encryptionSettingsCollection, so it was encrypted by ADE and cannot use a disk encryption set.": (
        Reason.AZURE_DISK_ENCRYPTION_USED,
        "never was",
    ),
    "Operation could not be completed as it results in exceeding approved Total Regional Cores quota.": (
        Reason.QUOTA_EXCEEDED,
        "have it raised",
    ),
    "The limit of 1000 disk encryption sets in the region has been reached.": (Reason.QUOTA_EXCEEDED, "have it raised"),
    "Cannot change Encryption Setting of disk data while it is attached to running VM web. It requires the virtual machine to be "
    "deallocated. Please stop your VM and retry the operation.": (Reason.DISK_ATTACHED, "must deallocate the virtual machine"),
    "Cannot change Encryption Setting of disk data while an active shared access signature exists. Call EndGetAccess first.": (
        Reason.DISK_IN_USE,
        "must end that access",
    ),
    "Something new stands in the way.": (Reason.OPERATION_NOT_ALLOWED, "must end what Azure names"),
}


@pytest.mark.parametrize("said", MEANINGS)
def test_each_meaning_of_operation_not_allowed_has_a_sentence_of_its_own_and_azures(said: str) -> None:
    reason, words = MEANINGS[said]
    fault = judge_arm_failure(AzureFailure(409, "OperationNotAllowed", said), "data")
    assert (fault.reason, fault.actor, fault.kind) == (reason, PROVIDER, BLOCKED)
    assert words in fault.message
    assert fault.message.endswith(f": {shown_sentence(said)!r}")


@pytest.mark.parametrize("code", ["QuotaExceeded", "ResourceQuotaExceeded", "DiskQuotaReached"])
def test_every_code_of_a_quota_is_one(code: str) -> None:
    fault = judge_arm_failure(AzureFailure(409, code, "No more."), "data")
    assert (fault.reason, fault.actor) == (Reason.QUOTA_EXCEEDED, PROVIDER)


@pytest.mark.parametrize("status", [400, 403, 409])
def test_an_unlisted_code_of_a_read_says_that_the_read_is_refused(status: int) -> None:
    failure = AzureFailure(status, "Unheard", "The thing is not as it should be.", read=True)
    message = judge_arm_failure(failure, "data").message
    assert message.startswith("Azure refuses the read of data (Unheard): ")
    assert message.endswith(": 'The thing is not as it should be'")
    assert judge_arm_failure(replace(failure, read=False), "data").message.startswith("Azure refuses the change to data ")


@pytest.mark.parametrize("code", ["KeyVaultAccessTokenCannotBeAcquired", "BadRequest", "GatewayAuthenticationFailed"])
@pytest.mark.parametrize("status", [400, 403, 500])
@pytest.mark.parametrize(
    ("entra_code", "reason"),
    [
        (7000229, "ConsentMissing"),
        (501051, "ConsentMissing"),
        (7002139, "IdentityBroken"),
        (900432, "IdentityBroken"),
        (999999, "EntraRefused"),
    ],
)
def test_what_entra_said_inside_any_answer_is_read_before_the_services_own_code(
    code: str, status: int, entra_code: int, reason: str
) -> None:
    fault = judge_arm_failure(AzureFailure(status, code, f"It failed. Inner error: AADSTS{entra_code}: no."), "data")
    assert (fault.reason, fault.kind) == (reason, BLOCKED)
    assert f"AADSTS{entra_code}" in fault.message


def test_a_managed_identity_that_azure_does_not_see_yet_is_waited_for() -> None:
    text = "Missing pre-requisites to enable EncryptionAtRest/Customer Managed Key for this storage account"
    fault = judge_arm_failure(AzureFailure(400, "BadRequest", text), "data")
    assert (fault.kind, fault.reason) == (BUSY, "IdentityNotReady")


def test_entra_s_refusal_of_azure_s_service_inside_arm_s_error_is_read() -> None:
    text = "Gateway authentication failed for 'Microsoft.Storage'. AADSTS700016: Application was not found in the directory."
    fault = judge_arm_failure(AzureFailure(400, "BadRequest", text), "data")
    assert (fault.kind, fault.reason, fault.actor) == (BLOCKED, "ConsentMissing", CUSTOMER)
    assert fault.message.startswith("Azure's service was refused by Entra; ")


@pytest.mark.parametrize("code", [50033, 90033])
def test_entra_s_transient_errors_inside_arm_s_error_are_only_waited_for(code: int) -> None:
    fault = judge_arm_failure(AzureFailure(500, "InternalError", f"AADSTS{code}: a transient error"), "data")
    assert (fault.kind, fault.actor) == (BUSY, AZURE)


def test_the_operator_s_own_sign_in_is_the_provider_s_matter_and_an_outage_of_it_azure_s() -> None:
    refused = judge_arm_failure(entra(700213, Stage.OPERATOR_TOKEN), "data")
    assert (refused.kind, refused.reason, refused.actor) == (BLOCKED, "OperatorNotAuthenticated", PROVIDER)
    outage = judge_arm_failure(AzureFailure(None, "Timeout", "no answer", stage=Stage.OPERATOR_TOKEN), "data")
    assert (outage.kind, outage.actor) == (BUSY, AZURE)


codes = st.one_of(
    st.sampled_from(
        ["KeyVaultAuthenticationFailure", "LinkedAuthorizationFailed", "InvalidValuesForRequestParameters", "BadRequest"]
    ),
    st.text(max_size=20),
)


@given(
    st.builds(
        AzureFailure,
        status=st.one_of(st.none(), st.integers(400, 599)),
        code=codes,
        message=st.text(max_size=60),
        retry_after=st.one_of(st.none(), st.floats(0, 900)),
        request_id=st.just("one-request"),
        stage=st.sampled_from(list(Stage)),
    )
)
def test_nothing_that_azure_answers_is_ever_final(failure: AzureFailure) -> None:
    fault = judge_arm_failure(failure, "data")
    assert fault.kind in {BLOCKED, BUSY}
    assert fault.message
    assert "one-request" not in fault.message
    assert (fault.actor is AZURE) is (fault.kind is BUSY)


@given(transient_failures)
def test_when_azure_asks_to_wait_it_is_waited_for(failure: AzureFailure) -> None:
    fault = judge_arm_failure(failure, "data")
    assert fault.kind is BUSY
    assert fault.retry_after == failure.retry_after
    assert not fault.needs_a_person


def test_only_a_manifest_that_must_change_is_invalid() -> None:
    fault = invalid(Reason.WRONG_CLOUD, "the platform engineer must correct it")
    assert (fault.kind, fault.actor, fault.needs_a_person) == (FaultKind.INVALID, Actor.PLATFORM_ENGINEER, True)
