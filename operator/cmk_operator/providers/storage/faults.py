"""Refusals of Microsoft.Storage that are recognized by their words, because their codes are not documented.

Sources: Azure/bicep-registry-modules#4467 (one after the other); hashicorp/terraform-provider-azurerm#19717 (too many).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.faults.fault import Actor, Fault, blocked, busy
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.foreign_text import shown_code
from cmk_operator.providers.storage.encryption import changes_key_and_identity, identities_beside

if TYPE_CHECKING:
    from azure.mgmt.storage.types import StorageAccountUpdateParameters

    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.providers.protocol import Plan

_ONE_BY_ONE: Final = "cannot be updated in a single operation"
_TOO_MANY: Final = "too many user-assigned identities"


def recognized(failure: AzureFailure, plan: Plan[StorageAccountUpdateParameters]) -> AzureFailure:
    """The failure of a plan's request, with our reason as its code if its words are known, and with names from the plan."""
    said = failure.message.lower()
    if _ONE_BY_ONE in said and changes_key_and_identity(plan):
        return replace(failure, code=Reason.CHANGE_NEEDS_TWO_REQUESTS.value)
    if _TOO_MANY in said:
        beside = ", ".join(identities_beside(plan))
        return replace(failure, code=Reason.TOO_MANY_USER_ASSIGNED_IDENTITIES.value, inner_code=beside)
    return failure


def judge_storage_failure(failure: AzureFailure, name: str) -> Fault:
    """The fault of a refused call for the account `name`: its cause, and who must act."""
    if failure.code == Reason.CHANGE_NEEDS_TWO_REQUESTS.value:
        message = (
            f"Azure changes the identity and the key of {name} only in two requests: the operator sends them one by one next"
        )
        return busy(Reason.CHANGE_NEEDS_TWO_REQUESTS, message, failure.retry_after, failure.request_id)
    if failure.code == Reason.TOO_MANY_USER_ASSIGNED_IDENTITIES.value:
        there = f" {shown_code(failure.inner_code)}" if failure.inner_code else ""
        message = (
            f"{name} already has the user-assigned identity{there}, and Azure allows one on a storage account: the platform engineer must "
            "either have the provider's administrator remove that identity from the account, if nothing else signs in with it (if the "
            "account accesses its present key with it, replace it in identity and in encryption.identity with one request), or name it as "
            f"the managed identity of the FederatedIdentity{failure.quoted}"
        )
        return blocked(Reason.TOO_MANY_USER_ASSIGNED_IDENTITIES, message, Actor.PLATFORM_ENGINEER, failure.request_id)
    return judge_arm_failure(failure, name, "Storage Account Contributor")
