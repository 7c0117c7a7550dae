"""Maps Azure Resource Manager's errors to who must act; none is final.

Azure Service Operator treats an unknown 400 as fatal, which leaves accounts stuck after one failed Key Vault call. Here every
fault that a person or time can end is retried.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.entra_codes import EntraFamily, family_of
from cmk_operator.core.access.token_verdict import judge_token_failure
from cmk_operator.core.access.verdict import GRANT_AGAIN
from cmk_operator.core.faults.azure_failure import BUDGET_SPENT, AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, Fault, blocked, busy
from cmk_operator.core.faults.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

_CUSTOMER: Final = Actor.CUSTOMER_ADMINISTRATOR
_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR

_QUOTED: Final = frozenset(
    {Reason.OPERATION_NOT_ALLOWED, Reason.PROPERTY_CHANGE_NOT_ALLOWED, Reason.REQUEST_DISALLOWED_BY_POLICY}
)
"""Codes with several meanings, of which only Azure's message shows the right one."""

# Error codes of Azure Resource Manager and Microsoft.Storage.
_TABLE: Final[Mapping[Reason, tuple[Actor, str]]] = MappingProxyType(
    {
        Reason.AUTHORIZATION_FAILED: (
            _PROVIDER,
            "the operator's managed identity may not do this on {target}: the provider's administrator must assign it a role "
            "there, such as {role}",
        ),
        Reason.LINKED_AUTHORIZATION_FAILED: (
            _PROVIDER,
            "the operator's managed identity may not attach the managed identity to {target}: the provider's administrator must "
            "assign it Managed Identity Operator on that identity, and on those that {target} already has",
        ),
        Reason.RESOURCE_NOT_FOUND: (
            _PROVIDER,
            "{target} does not exist: the provider's administrator must create it, or the platform engineer correct resourceId",
        ),
        Reason.RESOURCE_GROUP_NOT_FOUND: (
            _PROVIDER,
            "the resource group of {target} does not exist: the provider's administrator must create it, or the platform "
            "engineer correct resourceId",
        ),
        Reason.SUBSCRIPTION_NOT_FOUND: (
            _PROVIDER,
            "the subscription of {target} is not visible to the operator's managed identity: the provider's administrator must "
            "assign it a role there",
        ),
        Reason.SCOPE_LOCKED: (
            _PROVIDER,
            "a ReadOnly lock forbids changes to {target}: the provider's administrator must lift it",
        ),
        Reason.REQUEST_DISALLOWED_BY_POLICY: (
            _PROVIDER,
            "an Azure Policy forbids this change to {target}: the provider's administrator must exempt it",
        ),
        Reason.KEY_VAULT_POLICY_ERROR: (
            _CUSTOMER,
            "the vault lacks soft delete or purge protection: the customer's administrator must enable both",
        ),
        Reason.KEY_VAULT_AUTHENTICATION_FAILURE: (
            _CUSTOMER,
            "Azure's service could not use the key yet: the customer's administrator must make sure that the application holds Key "
            "Vault Crypto Service Encryption User and that the vault lets trusted Microsoft services through its firewall (a new "
            "assignment takes some minutes)",
        ),
        Reason.KEY_VAULT_ENCRYPTION_KEY_NOT_FOUND: (
            _CUSTOMER,
            "Azure's service does not find an enabled key that it may use: the customer's administrator must enable or restore it",
        ),
        Reason.KEY_VAULT_ACCESS_TOKEN_CANNOT_BE_ACQUIRED: (
            _PROVIDER,
            "Azure's service gets no token for the application: the provider's administrator must check the managed identity on "
            "{target} and the application's federated credential",
        ),
        Reason.KEY_VAULT_VAULT_NOT_FOUND: (
            _CUSTOMER,
            f"Azure's service does not find the vault: the customer's administrator must recover it, {GRANT_AGAIN}",
        ),
        # Microsoft.Compute.
        Reason.KEY_VAULT_ACCESS_FORBIDDEN: (
            _CUSTOMER,
            "Azure's service could not use the key yet: the customer's administrator must make sure that the application holds Key "
            "Vault Crypto Service Encryption User, that the vault lets trusted Microsoft services through its firewall, and that the "
            "key has not expired (a new assignment takes some minutes)",
        ),
        Reason.KEY_VAULT_KEY_NOT_ENABLED: (
            _CUSTOMER,
            "Azure's service finds the key version disabled: the customer's administrator must enable it",
        ),
        Reason.KEY_VAULT_KEY_NOT_FOUND: (
            _CUSTOMER,
            "Azure's service does not find the key version: the customer's administrator must recover the key",
        ),
        Reason.KEY_VAULT_NOT_FOUND: (
            _CUSTOMER,
            f"Azure's service does not find the vault: the customer's administrator must recover it, {GRANT_AGAIN}",
        ),
        Reason.KEY_VAULT_NOT_PURGE_PROTECTION_ENABLED: (
            _CUSTOMER,
            "the vault lacks soft delete or purge protection: the customer's administrator must enable both",
        ),
        Reason.KEY_VAULT_AND_DISK_IN_DIFFERENT_REGIONS: (
            Actor.PLATFORM_ENGINEER,
            "the vault is in another region than {target}: the platform engineer must name a key in a vault of the same region",
        ),
        Reason.MANAGED_SERVICE_IDENTITY_NOT_FOUND: (
            _PROVIDER,
            "the managed identity of {target} does not exist any more: the provider's administrator must restore it",
        ),
        Reason.OPERATION_NOT_ALLOWED: (
            _PROVIDER,
            "Azure does not allow the change of {target} as it is now: the provider's administrator must end what Azure names; where "
            "something uses it, they must deallocate the virtual machine that it is attached to, or end an export or incremental "
            "snapshots",
        ),
        Reason.GATEWAY_AUTHENTICATION_FAILED: (
            _PROVIDER,
            "Azure's service gets no token for the application, and Azure does not say why: the provider's administrator must check the "
            "managed identity on {target} and the application's federated credential",
        ),
        Reason.PROPERTY_CHANGE_NOT_ALLOWED: (
            _PROVIDER,
            "Azure does not allow this property of {target} to change: the provider's administrator must make a new resource",
        ),
        Reason.UNREADABLE: (
            Actor.AZURE,
            "Azure's answer about {target} cannot be read, so nothing is concluded from it and nothing is written",
        ),
        Reason.STORAGE_ACCOUNT_OPERATION_IN_PROGRESS: (Actor.AZURE, "another operation on {target} is in progress"),
        Reason.CONFLICT: (Actor.AZURE, "another operation on {target} is in progress"),
        Reason.TOO_MANY_REQUESTS: (Actor.AZURE, "Azure throttles requests for {target}"),
        Reason.SUBSCRIPTION_REQUESTS_THROTTLED: (Actor.AZURE, "Azure throttles requests for {target}"),
        Reason.OPERATION_NOT_ALLOWED_ON_RESOURCE: (Actor.AZURE, "another operation on {target} is in progress"),
    }
)


# Meanings that share a code, or whose code is unknown, recognised by Azure's message. Sources: azure-sdk-for-python#30287
# ("encryptionSettingsCollection"); "Server-side encryption of Azure Disk Storage", restrictions; "Resolve errors for resource quotas".
_WORDS: Final[tuple[tuple[re.Pattern[str], Reason, Actor, str], ...]] = (
    (
        re.compile(r"encryption ?settings ?collection|azure disk encryption|\bADE\b", re.IGNORECASE),
        Reason.AZURE_DISK_ENCRYPTION_USED,
        _PROVIDER,
        "{target} is or was once under Azure Disk Encryption, and Azure puts no such disk on a customer's key: the provider's "
        "administrator must copy its data to a new disk that never was, and the platform engineer name that one",
    ),
    (
        re.compile(r"\bquota\b|exceed\w* (?:the )?(?:\w+ ){0,4}limit|\blimit\b.{0,80}\b(?:reached|exceeded)", re.IGNORECASE),
        Reason.QUOTA_EXCEEDED,
        _PROVIDER,
        "a quota of the subscription of {target} is used up: the provider's administrator must have it raised, or delete what is not "
        "needed",
    ),
    (
        re.compile(r"shared access signature|EndGetAccess|active (?:SAS|access)|being (?:exported|uploaded)", re.IGNORECASE),
        Reason.DISK_IN_USE,
        _PROVIDER,
        "{target} is being exported or uploaded: the provider's administrator must end that access",
    ),
    (
        re.compile(r"\battached to\b|requires? the (?:VM|virtual machine) to be deallocated|stop your VM", re.IGNORECASE),
        Reason.DISK_ATTACHED,
        _PROVIDER,
        "{target} is attached to a virtual machine that is not deallocated: the provider's administrator must deallocate the virtual "
        "machine, then the change is made and the machine can be started again",
    ),
)


def _by_words(failure: AzureFailure, target: str) -> Fault | None:
    for pattern, reason, actor, message in _WORDS:
        if pattern.search(failure.message):
            return blocked(reason, message.format(target=target) + failure.quoted, actor, failure.request_id)
    return None


def judge_arm_failure(failure: AzureFailure, target: str, role: str = "Contributor") -> Fault:
    """Explain a refused Resource Manager call and name who must act; `target` is a name for people."""
    if failure.stage is not Stage.SERVICE:
        return _without_a_token(failure)
    if failure.entra_codes:
        # Entra's code in a service's answer is more precise than the service's own code.
        return _service_without_a_token(failure)
    reason = Reason.of_code(failure.code)
    by_words = _by_words(failure, target) if reason is Reason.OPERATION_NOT_ALLOWED else None
    if by_words is not None:
        return by_words
    found = _TABLE.get(reason) if reason is not None else None
    if reason is not None and found is not None:
        actor, message = found
        message = message.format(target=target, role=role)
        if reason in _QUOTED:
            message += failure.quoted
        if reason is Reason.UNREADABLE and failure.message:
            message += f" ({failure.message})"
        return Fault(reason, message, actor, failure.retry_after, failure.request_id)
    if "Missing pre-requisites" in failure.message:
        message = f"Azure does not see the managed identity on {target} yet"
        return busy(Reason.IDENTITY_NOT_READY, message, failure.retry_after, failure.request_id)
    if "quota" in failure.code.lower():
        message = (
            f"a quota of the subscription of {target} is used up ({failure.shown_code}): the provider's administrator must have it raised, "
            f"or delete what is not needed{failure.quoted}"
        )
        return blocked(Reason.QUOTA_EXCEEDED, message, _PROVIDER, failure.request_id)
    if failure.transient:
        return _without_an_answer(failure, target)
    what = "the read of" if failure.read else "the change to"
    check = "role assignments" if failure.status in {401, 403} else "resource"
    message = f"Azure refuses {what} {target} ({failure.shown_code}): the provider's administrator must check the {check}{failure.quoted}"
    return blocked(Reason.AZURE_REFUSED, message, _PROVIDER, failure.request_id)


def _without_an_answer(failure: AzureFailure, target: str) -> Fault:
    if failure.code == BUDGET_SPENT:
        message = (
            f"the operator waits for its turn to call Azure for {target}: its share of the limits of this subscription is used up, "
            "and the namespaces that use it take turns"
        )
        return busy(Reason.CALL_BUDGET_SPENT, message, failure.retry_after)
    message = f"Azure gives no usable answer for {target} ({failure.shown_code})"
    return busy(Reason.AZURE_UNAVAILABLE, message, failure.retry_after, failure.request_id)


def _without_a_token(failure: AzureFailure) -> Fault:
    access = judge_token_failure(failure)
    return Fault(access.state.reason, access.message, access.actor or Actor.AZURE, failure.retry_after, failure.request_id)


def _service_without_a_token(failure: AzureFailure) -> Fault:
    """Judge Entra's error that a service of Azure includes in its answer; the HTTP status is the service's own."""
    if all(family_of(code) is EntraFamily.TRANSIENT for code in failure.entra_codes):
        shown = ", ".join(f"AADSTS{code}" for code in sorted(failure.entra_codes))
        message = f"Entra gives Azure's service no usable answer ({shown})"
        return busy(Reason.AZURE_UNAVAILABLE, message, failure.retry_after, failure.request_id)
    access = judge_token_failure(AzureFailure(400, failure.code, failure.message, stage=Stage.APPLICATION_TOKEN))
    message = f"Azure's service was refused by Entra; {access.message}"
    return Fault(access.state.reason, message, access.actor or Actor.AZURE, request_id=failure.request_id)
