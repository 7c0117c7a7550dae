"""Maps errors of Microsoft Graph and Resource Manager on a registration to who must act; none is final."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.token_verdict import judge_token_failure
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, Fault, blocked, busy
from cmk_operator.core.faults.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR

_BY_POLICY: Final = "not allowed as per assigned policy"
"""In Graph's refusal of an issuer, a sign-in audience or a kind of credential, whatever its code ("appManagementPolicy")."""

# Graph: "Microsoft Graph error responses", and the texts that its clients report; Resource Manager: "Troubleshoot
# common Azure deployment errors", and Entra "Important considerations … for federated identity credentials" for the serial writes.
_TABLE: Final[Mapping[Reason, tuple[Actor, str]]] = MappingProxyType(
    {
        Reason.AUTHORIZATION_REQUEST_DENIED: (
            _PROVIDER,
            "the registrar {registrar} may not register applications: the provider's administrator must grant it the Microsoft Graph "
            "permission Application.ReadWrite.OwnedBy, and make it an owner of an application that exists",
        ),
        Reason.AUTHORIZATION_FAILED: (
            _PROVIDER,
            "the registrar {registrar} may not create {target} or its federated credentials: the provider's administrator must assign "
            "it Managed Identity Contributor on the resource group (a new assignment takes some minutes)",
        ),
        Reason.RESOURCE_GROUP_NOT_FOUND: (
            _PROVIDER,
            "the resource group of {target} does not exist: the provider's administrator must create it, or correct "
            "spec.managedIdentity.resourceId",
        ),
        Reason.SUBSCRIPTION_NOT_FOUND: (
            _PROVIDER,
            "the subscription of {target} is not visible to the registrar {registrar}: the provider's administrator must assign it "
            "Managed Identity Contributor on the resource group, or correct spec.managedIdentity.resourceId",
        ),
        Reason.RESOURCE_NOT_FOUND: (
            _PROVIDER,
            "{target} does not exist: the provider's administrator must create it, or have it created by "
            "spec.managedIdentity.register",
        ),
        Reason.LOCATION_NOT_AVAILABLE: (
            _PROVIDER,
            "managed identities are not available in that region: the provider's administrator must correct "
            "spec.managedIdentity.register.location",
        ),
        Reason.REQUEST_DISALLOWED_BY_POLICY: (
            _PROVIDER,
            "an Azure Policy forbids {target}: the provider's administrator must exempt it",
        ),
        Reason.SCOPE_LOCKED: (
            _PROVIDER,
            "a ReadOnly lock forbids changes to {target}: the provider's administrator must remove it",
        ),
        Reason.DIRECTORY_QUOTA_EXCEEDED: (
            _PROVIDER,
            "the directory's quota of objects is used up: the provider's administrator must delete some objects, or raise the quota",
        ),
        # Azure/azure-workload-identity#434: also for an issuer and subject that the application already trusts.
        Reason.INVALID_FEDERATED_IDENTITY_CREDENTIAL_VALUE: (
            _PROVIDER,
            "Entra does not take the issuer, subject or audience of the federated credential for {target}, or {target} already trusts "
            "that issuer and subject under another name: the provider's administrator must end what Entra names",
        ),
        Reason.DIRECTORY_CONCURRENCY_VIOLATION: (Actor.AZURE, "another change to the application is in progress"),
        Reason.REQUEST_MULTIPLE_OBJECTS: (
            Actor.AZURE,
            "another change to the application is in progress",
        ),
        Reason.CONCURRENT_CREDENTIAL_WRITES: (
            Actor.AZURE,
            "another change to the managed identity is in progress",
        ),
        Reason.CONFLICT: (Actor.AZURE, "another change to {target} is in progress"),
        Reason.REQUEST_RESOURCE_NOT_FOUND: (Actor.AZURE, "Entra has not replicated the application yet"),
        Reason.TOO_MANY_REQUESTS: (Actor.AZURE, "Azure throttles requests for {target}"),
    }
)


def judge_registration_failure(failure: AzureFailure, registrar: str, target: str) -> Fault:
    """Explain a refused request of the registrar and name who must act; `target` is a name for people."""
    if failure.stage is not Stage.SERVICE:
        return _no_token(failure, registrar)
    if "property uniqueName already exists" in failure.message:
        message = (
            f"the directory keeps the unique name of {target} for an application that was deleted: the provider's administrator must "
            "restore that application from the directory's deleted items, or delete it for good"
        )
        return blocked(Reason.UNIQUE_NAME_TAKEN, message, _PROVIDER, failure.request_id)
    if _BY_POLICY in failure.message:
        message = (
            f"a policy of the directory for applications (app management policy) forbids this for {target}: the provider's administrator "
            f"must exempt the application from it{failure.quoted}"
        )
        return blocked(Reason.DISALLOWED_BY_APPLICATION_POLICY, message, _PROVIDER, failure.request_id)
    reason = Reason.of_code(failure.code)
    found = _TABLE.get(reason) if reason is not None else None
    if reason is not None and found is not None:
        actor, text = found
        message = text.format(registrar=registrar, target=target)
        if reason is Reason.INVALID_FEDERATED_IDENTITY_CREDENTIAL_VALUE:  # only Azure's sentence says which value it is
            message += failure.quoted
        return Fault(reason, message, actor, failure.retry_after, failure.request_id)
    if failure.transient:
        message = f"Azure gives no usable answer about {target} ({failure.shown_code})"
        return busy(Reason.AZURE_UNAVAILABLE, message, failure.retry_after, failure.request_id)
    message = (
        f"Azure refuses the registration of {target} ({failure.shown_code}): the provider's administrator must check it and the "
        f"registrar's rights{failure.quoted}"
    )
    return blocked(Reason.AZURE_REFUSED, message, _PROVIDER, failure.request_id)


def _no_token(failure: AzureFailure, registrar: str) -> Fault:
    access = judge_token_failure(failure)
    if access.state is AccessState.UNKNOWN:
        return busy(access.state.reason, access.message, failure.retry_after, failure.request_id)
    shown = ", ".join(f"AADSTS{code}" for code in sorted(failure.entra_codes)) or failure.shown_code
    message = (
        f"the operator cannot sign in as the registrar {registrar} ({shown}): the provider's administrator must check that it exists "
        "in this tenant and has a federated credential for the operator's ServiceAccount"
    )
    return blocked(Reason.REGISTRAR_NOT_AUTHENTICATED, message, _PROVIDER, failure.request_id)
