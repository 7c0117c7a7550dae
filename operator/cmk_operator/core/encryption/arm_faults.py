"""Azure Resource Manager's refusals by error code: who must act. None of them is final.

Azure Service Operator treats an unknown 400 as fatal, which leaves accounts stuck for ever after one failed Key Vault
call; here everything that a person or time can mend is retried.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.token_verdict import judge_token_failure
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping

_CUSTOMER: Final = Actor.CUSTOMER_ADMINISTRATOR
_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR

# Error codes of Azure Resource Manager and Microsoft.Storage, in lower case: Azure does not keep their spelling.
_TABLE: Final[Mapping[str, tuple[FaultKind, Actor, str]]] = MappingProxyType(
    {
        "authorizationfailed": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "the operator's managed identity may not do this on {target}: the provider's administrator must assign it a role "
            "there, such as {role}",
        ),
        "linkedauthorizationfailed": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "the operator's managed identity may not attach the managed identity to {target}: the provider's administrator must "
            "assign it Managed Identity Operator on that identity, and on those that {target} already has",
        ),
        "resourcenotfound": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "{target} does not exist: the provider's administrator must create it, or the platform engineer correct resourceId",
        ),
        "resourcegroupnotfound": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "the resource group of {target} does not exist: the provider's administrator must create it, or the platform "
            "engineer correct resourceId",
        ),
        "subscriptionnotfound": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "the subscription of {target} is not visible to the operator's managed identity: the provider's administrator must "
            "assign it a role there",
        ),
        "scopelocked": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "a ReadOnly lock forbids changes to {target}: the provider's administrator must lift it",
        ),
        "requestdisallowedbypolicy": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "an Azure Policy forbids this change to {target}: the provider's administrator must exempt it",
        ),
        "keyvaultpolicyerror": (
            FaultKind.BLOCKED,
            _CUSTOMER,
            "the vault lacks soft delete or purge protection: the customer's administrator must enable both",
        ),
        "keyvaultauthenticationfailure": (
            FaultKind.BLOCKED,
            _CUSTOMER,
            "Azure's service could not use the key yet: the customer's administrator must make sure that the application holds Key "
            "Vault Crypto Service Encryption User and that the vault lets trusted Microsoft services through its firewall (a new "
            "assignment takes some minutes)",
        ),
        "keyvaultencryptionkeynotfound": (
            FaultKind.BLOCKED,
            _CUSTOMER,
            "Azure's service does not find an enabled key that it may use: the customer's administrator must enable or restore it",
        ),
        "keyvaultaccesstokencannotbeacquired": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "Azure's service gets no token for the application: the provider's administrator must check the managed identity on "
            "{target} and the application's federated credential",
        ),
        "keyvaultvaultnotfound": (
            FaultKind.BLOCKED,
            _CUSTOMER,
            "Azure's service does not find the vault: the customer's administrator must recover it",
        ),
        # Microsoft.Compute.
        "keyvaultaccessforbidden": (
            FaultKind.BLOCKED,
            _CUSTOMER,
            "Azure's service could not use the key yet: the customer's administrator must make sure that the application holds Key "
            "Vault Crypto Service Encryption User, that the vault lets trusted Microsoft services through its firewall, and that the "
            "key has not expired (a new assignment takes some minutes)",
        ),
        "keyvaultkeynotenabled": (
            FaultKind.BLOCKED,
            _CUSTOMER,
            "Azure's service finds the key version disabled: the customer's administrator must enable it",
        ),
        "keyvaultkeynotfound": (
            FaultKind.BLOCKED,
            _CUSTOMER,
            "Azure's service does not find the key version: the customer's administrator must recover the key",
        ),
        "keyvaultnotfound": (
            FaultKind.BLOCKED,
            _CUSTOMER,
            "Azure's service does not find the vault: the customer's administrator must recover it",
        ),
        "keyvaultnotpurgeprotectionenabled": (
            FaultKind.BLOCKED,
            _CUSTOMER,
            "the vault lacks soft delete or purge protection: the customer's administrator must enable both",
        ),
        "keyvaultanddiskindifferentregions": (
            FaultKind.BLOCKED,
            Actor.PLATFORM_ENGINEER,
            "the vault lies in another region than {target}: the platform engineer must name a key in a vault of the same region",
        ),
        "managedserviceidentitynotfound": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "the managed identity of {target} does not exist any more: the provider's administrator must restore it",
        ),
        "operationnotallowed": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "Azure does not allow the change of {target} while something uses it: the provider's administrator must deallocate the "
            "virtual machine that it is attached to, or end what else holds it, such as an export or incremental snapshots",
        ),
        "propertychangenotallowed": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "Azure does not allow this property of {target} to change: the provider's administrator must make a new resource",
        ),
        "storageaccountoperationinprogress": (FaultKind.BUSY, Actor.AZURE, "another operation on {target} is in progress"),
        "conflict": (FaultKind.BUSY, Actor.AZURE, "another operation on {target} is in progress"),
        "toomanyrequests": (FaultKind.BUSY, Actor.AZURE, "Azure throttles requests for {target}"),
        "subscriptionrequeststhrottled": (FaultKind.BUSY, Actor.AZURE, "Azure throttles requests for {target}"),
        "operationnotallowedonresource": (FaultKind.BUSY, Actor.AZURE, "another operation on {target} is in progress"),
    }
)


def judge_arm_failure(failure: AzureFailure, target: str, role: str = "Contributor") -> Fault:
    """Say who must act on a refused Resource Manager call on `target` (a name for people)."""
    if failure.stage is not Stage.SERVICE:
        access = judge_token_failure(failure)
        kind = FaultKind.BUSY if access.state is AccessState.UNKNOWN else FaultKind.BLOCKED
        return Fault(
            kind, access.state.value, access.message, access.actor or Actor.AZURE, failure.retry_after, failure.request_id
        )
    found = _TABLE.get(failure.code.lower())
    if found is not None:
        kind, actor, message = found
        return Fault(
            kind, failure.code, message.format(target=target, role=role), actor, failure.retry_after, failure.request_id
        )
    if "Missing pre-requisites" in failure.message:
        message = f"Azure does not see the managed identity on {target} yet"
        return Fault(FaultKind.BUSY, "IdentityNotReady", message, Actor.AZURE, failure.retry_after, failure.request_id)
    if failure.entra_codes:
        access = judge_token_failure(AzureFailure(failure.status, failure.code, failure.message, stage=Stage.APPLICATION_TOKEN))
        if access.state is AccessState.UNKNOWN:
            message = f"Azure's service was not served by Entra; {access.message}"
            return Fault(FaultKind.BUSY, "AzureUnavailable", message, Actor.AZURE, failure.retry_after, failure.request_id)
        message = f"Azure's service was refused by Entra; {access.message}"
        return Fault(FaultKind.BLOCKED, access.state.value, message, access.actor or Actor.AZURE, request_id=failure.request_id)
    if failure.transient:
        message = f"Azure gives no usable answer for {target} ({failure.code})"
        return Fault(FaultKind.BUSY, "AzureUnavailable", message, Actor.AZURE, failure.retry_after, failure.request_id)
    if failure.status in {401, 403}:
        message = (
            f"Azure refuses access to {target} ({failure.code}): the provider's administrator must check the role assignments"
        )
        return Fault(FaultKind.BLOCKED, failure.code or "Forbidden", message, _PROVIDER, request_id=failure.request_id)
    message = f"Azure refuses the change to {target} ({failure.code}): the provider's administrator must check the resource"
    return Fault(FaultKind.BLOCKED, failure.code or "Refused", message, _PROVIDER, request_id=failure.request_id)
