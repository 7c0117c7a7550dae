"""What Microsoft Graph and Resource Manager say to a registration, by error code: who must act. None of them is final."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.token_verdict import judge_token_failure
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR

# In lower case. Graph: "Microsoft Graph error responses", and the texts that its clients report; Resource Manager: "Troubleshoot
# common Azure deployment errors", and Entra "Important considerations … for federated identity credentials" for the serial writes.
_TABLE: Final[Mapping[str, tuple[FaultKind, Actor, str]]] = MappingProxyType(
    {
        "authorization_requestdenied": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "the registrar {registrar} may not register applications: the provider's administrator must grant it the Microsoft Graph "
            "permission Application.ReadWrite.OwnedBy, and make it an owner of an application that exists",
        ),
        "authorizationfailed": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "the registrar {registrar} may not create {target} or its federated credentials: the provider's administrator must assign "
            "it Managed Identity Contributor on the resource group (a new assignment takes some minutes)",
        ),
        "resourcegroupnotfound": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "the resource group of {target} does not exist: the provider's administrator must create it, or correct "
            "spec.managedIdentity.resourceId",
        ),
        "subscriptionnotfound": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "the subscription of {target} is not visible to the registrar {registrar}: the provider's administrator must assign it "
            "Managed Identity Contributor on the resource group, or correct spec.managedIdentity.resourceId",
        ),
        "resourcenotfound": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "{target} does not exist: the provider's administrator must create it, or have it created by "
            "spec.managedIdentity.register",
        ),
        "locationnotavailableforresourcetype": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "managed identities cannot lie in that region: the provider's administrator must correct "
            "spec.managedIdentity.register.location",
        ),
        "requestdisallowedbypolicy": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "an Azure Policy forbids {target}: the provider's administrator must exempt it",
        ),
        "scopelocked": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "a ReadOnly lock forbids changes to {target}: the provider's administrator must lift it",
        ),
        "directory_quotaexceeded": (
            FaultKind.BLOCKED,
            _PROVIDER,
            "the directory's quota of objects is spent: the provider's administrator must delete some, or raise it",
        ),
        "directory_concurrencyviolation": (FaultKind.BUSY, Actor.AZURE, "another change to the application is under way"),
        "request_multipleobjectswithsamekeyvalue": (
            FaultKind.BUSY,
            Actor.AZURE,
            "another change to the application is under way",
        ),
        "concurrentfederatedidentitycredentialswritesforsinglemanagedidentity": (
            FaultKind.BUSY,
            Actor.AZURE,
            "another change to the managed identity is under way",
        ),
        "conflict": (FaultKind.BUSY, Actor.AZURE, "another change to {target} is under way"),
        "request_resourcenotfound": (FaultKind.BUSY, Actor.AZURE, "the directory does not know the application everywhere yet"),
        "toomanyrequests": (FaultKind.BUSY, Actor.AZURE, "Azure throttles requests for {target}"),
    }
)


def judge_registration_failure(failure: AzureFailure, registrar: str, target: str) -> Fault:
    """Say who must act on a refused request of the registrar about `target` (a name for people)."""
    if failure.stage is not Stage.SERVICE:
        return _no_token(failure, registrar)
    if "property uniqueName already exists" in failure.message:
        message = (
            f"the directory keeps the unique name of {target} for an application that was deleted: the provider's administrator must "
            "restore that application from the directory's deleted items, or delete it for good"
        )
        return Fault(FaultKind.BLOCKED, "UniqueNameTaken", message, _PROVIDER, request_id=failure.request_id)
    found = _TABLE.get(failure.code.lower())
    if found is not None:
        kind, actor, text = found
        message = text.format(registrar=registrar, target=target)
        return Fault(kind, failure.code, message, actor, failure.retry_after, failure.request_id)
    if failure.transient:
        message = f"Azure gives no usable answer about {target} ({failure.code})"
        return Fault(FaultKind.BUSY, "AzureUnavailable", message, Actor.AZURE, failure.retry_after, failure.request_id)
    message = (
        f"Azure refuses the registration of {target} ({failure.code}): the provider's administrator must check it and the registrar's "
        "rights"
    )
    return Fault(FaultKind.BLOCKED, failure.code or "Refused", message, _PROVIDER, request_id=failure.request_id)


def _no_token(failure: AzureFailure, registrar: str) -> Fault:
    access = judge_token_failure(failure)
    if access.state is AccessState.UNKNOWN:
        return Fault(FaultKind.BUSY, access.state.value, access.message, Actor.AZURE, failure.retry_after, failure.request_id)
    shown = ", ".join(f"AADSTS{code}" for code in sorted(failure.entra_codes)) or failure.code
    message = (
        f"the operator cannot sign in as the registrar {registrar} ({shown}): the provider's administrator must check that it exists "
        "in this tenant and has a federated credential for the operator's ServiceAccount"
    )
    return Fault(FaultKind.BLOCKED, "RegistrarNotAuthenticated", message, _PROVIDER, request_id=failure.request_id)
